//! Flags of `weft bench`.

use crate::words::{self, Refusal};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::ffi::OsString;
use std::path::PathBuf;
use weft_benches::load::Workload;
use weft_lab::{CONTESTANTS, Contestant, Regime};

/// Smallest and largest underlay MTU: room for flannel's smallest pod MTU, and a jumbo frame.
const MTUS: std::ops::RangeInclusive<u32> = 1280..=9216;

/// What --quick measures.
const QUICK: [Workload; 3] = [Workload::Tcp1, Workload::Udp64, Workload::PingPong];

/// Direct routing, kernel VXLAN, weft and others between two nodes on this machine, in turns.
#[derive(Clone, Debug, Parser, PartialEq)]
#[command(name = "weft bench", disable_version_flag = true, after_help = names())]
pub(crate) struct Args {
    /// How often each load meets each contestant
    #[arg(long, default_value = "3", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub(crate) rounds: usize,
    /// Length of each run in seconds
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Who takes part, by name; all that can run here unless given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = contestant)]
    contestants: Option<Vec<&'static Contestant>>,
    /// Which loads, by name; all unless given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = workload)]
    workloads: Option<Vec<Workload>>,
    /// Offloads of the underlay: r1 (veth as it is), r2 (no tunnel offload), r3 (none); all unless given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = regime)]
    regimes: Option<Vec<Regime>>,
    /// MTU of the underlay in bytes, one or more
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "1500", value_parser = mtu)]
    mtu: Vec<u32>,
    /// One round of one second each, in r1 and with few loads unless --regimes and --workloads name others
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Folder for bench.json, report.html and the output of iperf3; made anew unless it is empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What is to be measured where. No list is empty, and none names anything twice.
impl Args {
    /// Contestants in the order of reports.
    pub(crate) fn contestants(&self) -> Vec<&'static Contestant> {
        let named = self.contestants.as_ref();
        let part = |c: &&Contestant| named.is_none_or(|list| list.contains(c));
        CONTESTANTS.iter().filter(|&c| part(&c)).collect()
    }

    /// Loads in the order of reports.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let list = match &self.workloads {
            Some(list) => list.as_slice(),
            None if self.quick => &QUICK,
            None => &Workload::ALL,
        };
        Workload::ALL
            .into_iter()
            .filter(|w| list.contains(w))
            .collect()
    }

    /// Regimes in their order.
    pub(crate) fn regimes(&self) -> Vec<Regime> {
        let list = match &self.regimes {
            Some(list) => list.as_slice(),
            None if self.quick => &[Regime::R1],
            None => &Regime::ALL,
        };
        let all = Regime::ALL.into_iter();
        all.filter(|regime| list.contains(regime)).collect()
    }

    /// MTUs, ascending.
    pub(crate) fn mtus(&self) -> Vec<u32> {
        let mut mtus = self.mtu.clone();
        mtus.sort_unstable();
        mtus.dedup();
        mtus
    }
}

/// Read the words after `weft bench`.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, Refusal> {
    let mut args: Args = words::parse("weft bench", words)?;
    if args.quick {
        (args.rounds, args.seconds) = (1, 1);
    }
    Ok(args)
}

/// The names that lists are made of, for the help.
fn names() -> String {
    let mut text = String::from("Contestants:\n");
    for Contestant { key, about, .. } in CONTESTANTS {
        text += &format!("  {key:<16}{about}\n");
    }
    text += "\nLoads:\n";
    for workload in Workload::ALL {
        text += &format!("  {:<16}{}\n", workload.key(), workload.about());
    }
    text
}

fn contestant(text: &str) -> Result<&'static Contestant, String> {
    let keys = CONTESTANTS.iter().map(|c| c.key);
    Contestant::of(text).ok_or_else(|| unknown("contestant", keys))
}

fn workload(text: &str) -> Result<Workload, String> {
    let mut all = Workload::ALL.into_iter();
    let keys = all.clone().map(Workload::key);
    let found = all.find(|workload| workload.key() == text);
    found.ok_or_else(|| unknown("load", keys))
}

fn regime(text: &str) -> Result<Regime, String> {
    text.parse().map_err(|_| "r1, r2 or r3".to_owned())
}

fn mtu(text: &str) -> Result<u32, String> {
    let (least, most) = (MTUS.start(), MTUS.end());
    let mtu = text.parse().ok().filter(|mtu| MTUS.contains(mtu));
    mtu.ok_or_else(|| format!("an MTU is a number from {least} to {most}"))
}

fn unknown(what: &str, keys: impl Iterator<Item = &'static str>) -> String {
    format!(
        "no such {what}; there are {}",
        keys.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, Refusal> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn complaint(line: &str) -> String {
        match read(line) {
            Err(Refusal::Bad(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn keys(args: &Args) -> Vec<&'static str> {
        args.contestants().iter().map(|c| c.key).collect()
    }

    #[test]
    fn defaults() {
        let args = read("").unwrap();
        assert_eq!((args.rounds, args.seconds), (3, 2));
        assert_eq!(args.contestants().len(), CONTESTANTS.len());
        assert_eq!(args.workloads(), Workload::ALL);
        assert_eq!(args.regimes(), Regime::ALL);
        assert_eq!(args.mtus(), [1500]);
        assert_eq!(args.out, None);
    }

    #[test]
    fn lists_are_put_in_order_and_name_nobody_twice() {
        let line = "-contestants=weft,kernel,weft --workloads latency,tcp1 --regimes r3,R1,r3 \
                    --mtu 9000,1500,9000 -out results -rounds 5";
        let args = read(line).unwrap();
        assert_eq!(keys(&args), ["kernel", "weft"]);
        assert_eq!(args.workloads(), [Workload::Tcp1, Workload::PingPong]);
        assert_eq!(args.regimes(), [Regime::R1, Regime::R3]);
        assert_eq!(args.mtus(), [1500, 9000]);
        assert_eq!((args.rounds, args.out), (5, Some("results".into())));
    }

    #[test]
    fn quick_is_little_unless_more_is_named() {
        let args = read("--quick").unwrap();
        assert_eq!((args.rounds, args.seconds), (1, 1));
        assert_eq!(
            (args.regimes(), args.workloads()),
            (vec![Regime::R1], QUICK.to_vec())
        );
        let args = read("--quick --workloads tcp16 --regimes r3,r2").unwrap();
        assert_eq!(args.workloads(), [Workload::Tcp16]);
        assert_eq!(args.regimes(), [Regime::R2, Regime::R3]);
    }

    #[test]
    fn complaints_are_one_line_that_names_the_culprit() {
        for (line, words) in [
            (
                "--contestants weft,wireguard",
                &["wireguard", "no such contestant", "kernel"][..],
            ),
            ("--contestants=", &["--contestants"]),
            ("--workloads tcp2", &["tcp2", "no such load", "tcp4"]),
            ("--regimes r1,r9", &["r9", "r1, r2 or r3"]),
            ("--mtu 500", &["500", "1280"]),
            ("--mtu jumbo", &["jumbo", "1280"]),
            ("--rounds 0", &["0", "--rounds"]),
            ("--rounds -1", &["-1"]),
            ("--seconds 0", &["0", "--seconds"]),
            ("--quick --rounds 3", &["--rounds"]),
            (
                "--contestant weft",
                &["--contestant", "did you mean '--contestants'"],
            ),
            ("stray", &["stray"]),
            ("--out", &["--out"]),
        ] {
            let text = complaint(line);
            assert_eq!(text.lines().count(), 1, "{text}");
            for word in words {
                assert!(text.contains(word), "{line}: {text}");
            }
        }
    }

    #[test]
    fn help_lists_contestants_and_loads() {
        let Err(Refusal::Help(text)) = read("--help") else {
            panic!("no help");
        };
        for word in ["--rounds", "tun-tap", "weft-plain", "tcp1-both", "latency"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
