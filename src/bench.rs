//! `weft bench`: every way between two nodes on this machine, measured and reported.

mod args;
mod book;
mod folder;

use crate::demo::{check_machine, own_binary};
use crate::progress::Progress;
use crate::version;
use crate::words::print;
use args::Args;
use book::Book;
use folder::Folder;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use weft_benches::load::rounds::{self, Event, Plan};
use weft_benches::report::{Failure, Host, Setting, Sitting};
use weft_lab::regime::features_of;
use weft_lab::{
    Arena, Cluster, ClusterOptions, Contestant, Error, Regime, Result, guard, tools, topology,
};

/// What each run takes beside its seconds: choosing the contestant, pings, iperf3's start.
const OVERHEAD_SECONDS: f64 = 1.0;

/// Measure with the words after `weft bench`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args = match args::parse(words.iter().cloned()) {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft bench"),
    };
    let complain = |error: Error, status: u8| {
        guard::wait_if_interrupted();
        eprintln!("weft bench: {error}");
        ExitCode::from(status)
    };
    if let Err(error) = check_machine(true) {
        return complain(error, 1);
    }
    let now = jiff::Timestamp::now();
    let default = || PathBuf::from(now.strftime("weft-bench-%Y%m%d-%H%M%S").to_string());
    let folder = match Folder::create(&args.out.clone().unwrap_or_else(default)) {
        Ok(folder) => folder,
        Err(error) => return complain(error, 2),
    };
    let sitting = sitting(&args, words, &now);
    match measure(&args, sitting, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(error, 1),
    }
}

/// The sitting before anything is measured.
fn sitting(args: &Args, words: &[OsString], now: &jiff::Timestamp) -> Sitting {
    let (present, absent) = present_and_absent(args);
    let settings = args.mtus().len() * args.regimes().len();
    Sitting {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: command(words),
        started: now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        host: Host::this(),
        rounds: args.rounds,
        seconds: args.seconds,
        planned: plan(args, &present).runs() * settings,
        absent,
        settings: Vec::new(),
        broken_off: None,
    }
}

/// A contestant that cannot run here, and why.
type Absent = (&'static Contestant, String);

/// Who can run on this machine, and who cannot.
fn present_and_absent(args: &Args) -> (Vec<&'static Contestant>, Vec<Absent>) {
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for contestant in args.contestants() {
        match contestant.unavailable() {
            None => present.push(contestant),
            Some(reason) => absent.push((contestant, reason)),
        }
    }
    (present, absent)
}

/// The command line as one would type it again.
fn command(words: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+@%".contains(c);
    let quoted = words.iter().map(|word| {
        let word = word.to_string_lossy();
        match !word.is_empty() && word.chars().all(plain) {
            true => word.into_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    });
    let all = ["weft".to_owned(), "bench".to_owned()]
        .into_iter()
        .chain(quoted);
    all.collect::<Vec<_>>().join(" ")
}

fn plan(args: &Args, contestants: &[&'static Contestant]) -> Plan {
    Plan {
        contestants: contestants.to_vec(),
        workloads: args.workloads(),
        rounds: args.rounds,
        time: Duration::from_secs(args.seconds),
    }
}

/// Measure everything, print tables as they are ready, and write the files.
fn measure(args: &Args, sitting: Sitting, folder: Folder) -> Result<()> {
    let (contestants, _) = present_and_absent(args);
    let plan = plan(args, &contestants);
    let runs = sitting.planned;
    print(&heading(&sitting));

    let mut progress = Progress::new();
    let book = Book::open(sitting, folder, progress.clone());
    progress.measure(runs);
    let result = match contestants.is_empty() {
        true => Err(Error::new("none of these contestants can run here")),
        false => all_settings(args, &plan, &book, &mut progress),
    };
    // From here on a signal's clean-up would find nothing and say so in its own words.
    guard::wait_if_interrupted();
    let broken_off = result.as_ref().err().map(ToString::to_string);
    let any = book.close(broken_off)?;
    result?;
    match any {
        true => Ok(()),
        false => Err(Error::new("nothing could be measured")),
    }
}

fn heading(sitting: &Sitting) -> String {
    let (host, runs, seconds) = (&sitting.host, sitting.planned, sitting.seconds);
    let rounds = match sitting.rounds {
        1 => "one round".to_owned(),
        rounds => format!("{rounds} interleaved rounds"),
    };
    let minutes = runs as f64 * (seconds as f64 + OVERHEAD_SECONDS) / 60.0;
    let minutes = match minutes.ceil() {
        1.0 => "a minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    };
    let mut text = format!(
        "{}; {host}\n{runs} runs of {seconds} s in {rounds}, about {minutes}. Median \
         [min-max]; ratios\nare taken to kernel VXLAN within each round.\n",
        version::TEXT
    );
    for (contestant, reason) in &sitting.absent {
        text += &format!("{} does not take part: {reason}\n", contestant.name);
    }
    text
}

/// A new cluster for each MTU, and all regimes on each.
fn all_settings(args: &Args, plan: &Plan, book: &Book, progress: &mut Progress) -> Result<()> {
    for mtu in args.mtus() {
        let mut options = ClusterOptions::new(own_binary()?);
        options.lab.mtu = mtu;
        options.etcd = tools::has_etcd();
        let cluster = Cluster::start(&options, |what| progress.step(what))?;
        cluster.ping_all()?;
        let mut arena = Arena::new(cluster)?;
        for regime in args.regimes() {
            arena.cluster.lab.set_regime(regime)?;
            book.begin(setting(&arena, plan, mtu, regime)?);
            rounds::run(plan, &mut arena, |event| {
                record(event, book, progress, mtu, regime)
            })?;
            book.show()?;
        }
    }
    Ok(())
}

fn setting(arena: &Arena, plan: &Plan, mtu: u32, regime: Regime) -> Result<Setting> {
    let node = &arena.cluster.lab.node(1).ns;
    Ok(Setting {
        mtu,
        pod_mtu: arena.cluster.mtu(),
        regime,
        features: features_of(node, topology::UNDERLAY)?,
        contestants: plan.contestants.clone(),
        workloads: plan.workloads.clone(),
        samples: Vec::new(),
        failures: Vec::new(),
    })
}

/// Put down what happens. Nobody's failure ends the sitting.
fn record(
    event: Event,
    book: &Book,
    progress: &mut Progress,
    mtu: u32,
    regime: Regime,
) -> Result<()> {
    let (run, error, out) = match event {
        Event::Begins(run) => {
            progress.run(&format!("MTU {mtu}, {regime}, {run}"));
            return Ok(());
        }
        Event::Measured(sample) => return book.sample(sample),
        Event::Failed(run, error) => (run, error, false),
        Event::Out(run, error) => (run, error, true),
    };
    let fate = if out { ", and it is out" } else { "" };
    progress.pause(|| eprintln!("MTU {mtu}, {regime}, {run} failed{fate}: {error}"));
    book.failure(Failure {
        run,
        reason: error.to_string(),
        out,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed_again() {
        let words = ["--out", "my results", "-rounds=3", "it's", ""].map(OsString::from);
        assert_eq!(
            command(&words),
            r"weft bench --out 'my results' -rounds=3 'it'\''s' ''"
        );
    }
}
