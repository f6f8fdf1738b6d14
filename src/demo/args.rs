//! Flags of `weft demo`.

use crate::words::{self, Refusal};
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::ffi::OsString;
use std::str::FromStr;
use weft_lab::Regime;

/// Two nodes, two pods, etcd where there is one, and iperf3 over weft, kernel VXLAN and direct routing.
#[derive(Clone, Debug, Parser, PartialEq)]
#[command(name = "weft demo", disable_version_flag = true)]
pub(crate) struct Args {
    /// Leave the nodes up afterwards and print how to enter them
    #[arg(long)]
    pub(crate) keep: bool,
    /// Remove what --keep or a killed demo left, and end
    #[arg(long, conflicts_with = "keep")]
    pub(crate) remove: bool,
    /// How often each load meets each contestant; 0 only sets up and pings
    #[arg(long, default_value = "3", value_parser = RangedU64ValueParser::<usize>::new().range(0..=100))]
    pub(crate) rounds: usize,
    /// Length of each run in seconds
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Offloads of the underlay: r1 (veth as it is), r2 (no tunnel offload), r3 (none) or all
    #[arg(long, default_value = "r1")]
    pub(crate) regime: Regimes,
    /// One round of one second each
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub(crate) quick: bool,
    /// Let the nodes know each other from a file, as where no etcd is installed
    #[arg(long, conflicts_with = "remove")]
    pub(crate) no_etcd: bool,
}

/// One regime or all of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Regimes(pub(crate) Vec<Regime>);

impl FromStr for Regimes {
    type Err = String;

    fn from_str(text: &str) -> Result<Regimes, String> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(Regimes(Regime::ALL.to_vec()));
        }
        let regime = text.parse().map_err(|_| "r1, r2, r3 or all".to_owned())?;
        Ok(Regimes(vec![regime]))
    }
}

/// Read the words after `weft demo`.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, Refusal> {
    let mut args: Args = words::parse("weft demo", words)?;
    if args.quick {
        (args.rounds, args.seconds) = (1, 1);
    }
    Ok(args)
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

    #[test]
    fn defaults() {
        let args = read("").unwrap();
        assert_eq!((args.rounds, args.seconds), (3, 3));
        assert_eq!(args.regime, Regimes(vec![Regime::R1]));
        assert!(!args.keep && !args.remove && !args.no_etcd);
    }

    #[test]
    fn one_dash_or_two() {
        let args = read("-rounds=5 --seconds 2 -regime all -keep").unwrap();
        assert_eq!((args.rounds, args.seconds, args.keep), (5, 2, true));
        assert_eq!(args.regime.0.len(), 3);
    }

    #[test]
    fn quick_is_one_second_once() {
        let args = read("--quick").unwrap();
        assert_eq!((args.rounds, args.seconds), (1, 1));
        assert!(complaint("--quick --rounds 3").contains("--rounds"));
    }

    #[test]
    fn complaints_are_one_line_that_names_the_culprit() {
        for (line, words) in [
            ("--rnds 3", &["--rnds", "did you mean '--rounds'"][..]),
            ("--rounds 101", &["101", "--rounds"]),
            ("--rounds x", &["x", "--rounds"]),
            ("--seconds 0", &["0", "--seconds"]),
            ("--regime r9", &["r9", "r1, r2, r3 or all"]),
            ("--keep=maybe", &["maybe", "--keep"]),
            ("--keep --remove", &["--keep", "--remove"]),
            ("stray", &["stray"]),
            ("--seconds", &["--seconds"]),
        ] {
            let text = complaint(line);
            assert_eq!(text.lines().count(), 1, "{text}");
            for word in words {
                assert!(text.contains(word), "{line}: {text}");
            }
        }
    }

    #[test]
    fn help_is_not_an_error() {
        assert!(matches!(read("--help"), Err(Refusal::Help(text)) if text.contains("--rounds")));
    }
}
