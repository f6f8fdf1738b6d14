//! How many instructions the workers' code takes for a packet, held against what is recorded.
//!
//! `make instructions` counts with callgrind and fails where a count has risen by more than
//! `ROOM`; `make instructions ARGS=--record` records what it counts. A count is the
//! difference between runs of N and of 2N rounds, so neither start nor set-up is in it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::{env, fs};
use weft_benches::replay::{Arrival, Coalesce, Decap, Encap, Replay, Spec, TunRead};
use weft_dataplane::offload::coalesce::Trust;
use weft_lab::{Error, Result};

/// By how many per cent a count may rise.
const ROOM: u64 = 4;

/// The rounds whose instructions are counted; as many come before them.
const ROUNDS: u64 = 20;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

/// How the record is made anew.
const REMEDY: &str = "make instructions ARGS=--record";

/// Keeps the variants of memcpy that only some processors have out of the counts. Names that
/// the C library does not know are ignored.
const PORTABLE_LIBC: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-AVX2,\
     -SSSE3,-Fast_Unaligned_Copy,-ERMS,-FSRM,-Prefer_ERMS,-Prefer_FSRM";

/// Something to count.
struct Case {
    name: &'static str,
    /// How many of what the count is for one round holds.
    units: usize,
    work: Box<dyn Replay>,
}

/// Instructions for one of each: what `instructions.json` holds.
type Counts = BTreeMap<String, u64>;

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [] => check(),
        ["--record"] => record(),
        ["--run", name, rounds] => run(name, rounds),
        _ => Err(Error::new("usage: instructions [--record]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn encap(reads: &[TunRead]) -> Encap {
    let (mut encap, rest) = Encap::new(reads);
    assert!(rest.is_empty(), "more than one batch");
    encap.run();
    encap
}

fn arrivals(reads: &[TunRead]) -> Vec<Arrival> {
    encap(reads).arrivals()
}

fn case(name: &'static str, units: usize, work: impl Replay + 'static) -> Case {
    let work = Box::new(work);
    Case { name, units, work }
}

fn cases() -> Vec<Case> {
    let small = vec![Spec::udp(64).build(); 32];
    let supers = vec![Spec::tcp_super().build(); 3];
    let supers_v6 = vec![Spec::tcp_super_v6().build(); 3];
    let one = &supers[..1];
    let frames =
        |arrivals: Vec<Arrival>| -> Vec<_> { arrivals.iter().flat_map(Arrival::frames).collect() };
    let train = frames(arrivals(one).into_iter().take(1).collect());
    assert_eq!(train.len(), 44, "one train");
    let small_frames = frames(arrivals(&small));
    let few_frames = frames(arrivals(one));
    vec![
        case("encap 64-byte packet", 32, encap(&small)),
        case(
            "encap 64-byte packet, other path MTU",
            32,
            encap(&small).with_other_path(),
        ),
        case("encap 64 KB super-packet", supers.len(), encap(&supers)),
        case("encap 64 KB super-packet, IPv6", 3, encap(&supers_v6)),
        case("decap 64-byte packet", 32, Decap::new(small_frames)),
        case("decap 64 KB in trains", 3, Decap::new(arrivals(&supers))),
        case(
            "decap 64 KB in trains, IPv6",
            3,
            Decap::new(arrivals(&supers_v6)),
        ),
        case("decap 64 KB in datagrams", 1, Decap::new(few_frames)),
        case(
            "coalesce 44, vouched for",
            1,
            Coalesce::new(&train, Trust::Vouched),
        ),
        case(
            "coalesce 44, verified",
            1,
            Coalesce::new(&train, Trust::Unknown),
        ),
    ]
}

/// Do the work of one case in as many of all rounds as asked for. All are rewound, so that
/// the number makes no difference but by the work.
fn run(name: &str, rounds: &str) -> Result<()> {
    let rounds: u64 = rounds
        .parse()
        .map_err(|error| Error::because(rounds, error))?;
    let found = cases().into_iter().find(|case| case.name == name);
    let mut work = found
        .ok_or_else(|| Error::new(format!("no case {name}")))?
        .work;
    for round in 0..2 * ROUNDS {
        work.rewind();
        if round < rounds {
            work.run();
        }
    }
    Ok(())
}

fn record() -> Result<()> {
    let text = serde_json::to_string_pretty(&counts()?);
    let text = text.map_err(|error| Error::because(RECORD, error))? + "\n";
    fs::write(RECORD, text).map_err(|error| Error::because(RECORD, error))
}

fn check() -> Result<()> {
    let text = fs::read_to_string(RECORD).map_err(|error| Error::because(RECORD, error))?;
    let recorded = serde_json::from_str(&text).map_err(|error| Error::because(RECORD, error))?;
    let complaints = complaints(recorded, counts()?);
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{} (room: {ROOM} %); if that is meant to be: {REMEDY}",
            complaints.join("; ")
        ))),
    }
}

fn complaints(mut recorded: Counts, counts: Counts) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, count) in counts {
        match recorded.remove(&name) {
            None => complaints.push(format!("{name} is not recorded")),
            Some(before) if count * 100 > before * (100 + ROOM) => {
                complaints.push(format!("{name} rose from {before} to {count}"));
            }
            Some(_) => {}
        }
    }
    complaints.extend(recorded.into_keys().map(|name| format!("{name} is gone")));
    complaints
}

/// Count all cases, and show each.
fn counts() -> Result<Counts> {
    if !cfg!(feature = "portable") {
        return Err(Error::new(
            "this build's counts hold on this machine only; run: make instructions",
        ));
    }
    let mut counts = Counts::new();
    for Case { name, units, .. } in cases() {
        let rounds = collect(name, 2 * ROUNDS)? - collect(name, ROUNDS)?;
        let all = ROUNDS * units as u64;
        let count = (rounds + all / 2) / all;
        // A closed pipe shall not keep anyone from the verdict.
        let _ = writeln!(io::stdout(), "{name:38}{count:10}");
        counts.insert(name.to_owned(), count);
    }
    Ok(counts)
}

/// All instructions of this program when it runs `rounds` rounds of a case.
fn collect(name: &str, rounds: u64) -> Result<u64> {
    let program = env::current_exe().map_err(|error| Error::because("own path", error))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(&program)
        .args(["--run", name, &rounds.to_string()])
        .env("GLIBC_TUNABLES", PORTABLE_LIBC)
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new("there is no valgrind; run: make setup"),
            _ => Error::because("valgrind", error),
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    // ==1234== Collected : 56789
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let collected = collected.and_then(|(_, count)| count.trim().parse().ok());
    collected
        .filter(|_| output.status.success())
        .ok_or_else(|| Error::because("valgrind", said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        let counts = counts.iter();
        counts
            .map(|&(name, count)| (name.to_owned(), count))
            .collect()
    }

    #[test]
    fn only_what_rises_beyond_the_room_is_complained_about() {
        let recorded = counts(&[("rises", 1000), ("falls", 1000), ("stays", 1000)]);
        let now = counts(&[("rises", 1041), ("falls", 500), ("stays", 1040)]);
        assert_eq!(complaints(recorded, now), ["rises rose from 1000 to 1041"]);
    }

    #[test]
    fn every_case_is_recorded_and_every_record_has_a_case() {
        let said = complaints(counts(&[("old", 1)]), counts(&[("new", 1)]));
        assert_eq!(said, ["new is not recorded", "old is gone"]);
        let text = fs::read_to_string(RECORD).unwrap_or_default();
        let recorded: Counts = serde_json::from_str(&text).unwrap_or_default();
        let mut cases: Vec<_> = cases().iter().map(|case| case.name.to_owned()).collect();
        cases.sort();
        assert_eq!(recorded.into_keys().collect::<Vec<_>>(), cases);
    }

    #[test]
    fn work_is_done_in_as_many_rounds_as_asked_for() {
        for case in cases() {
            assert!(run(case.name, "1").is_ok(), "{}", case.name);
        }
        assert!(run("encap 64-byte packet", "many").is_err());
        assert!(run("nothing of that name", "1").is_err());
    }
}
