//! What the kernel refuses to programs that run: the workers carry all, at once and without a loss.

use super::switch::fast_path;
use super::{await_starts, skips_unpinned, starts};
use crate::cluster::{Cluster, NEWS, lines_with};
use crate::numbered::{Numbered, Outcome};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};
use weft_lab::{Regime, skips_test, skips_test_without, wait_until};

/// Datagrams a second, so few that programs take them.
const RATE: u64 = 5_000;

/// What was refused is tried again each minute.
const TRIED_AGAIN: Duration = Duration::from_secs(90);

/// A map that a process has, as `/proc/<pid>/fdinfo` shows it: by the names there.
type Map = BTreeMap<String, u64>;

fn maps(pid: u32) -> Vec<Map> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let fields = |text: String| {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        let numbers =
            pairs.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)));
        numbers.collect::<Map>()
    };
    texts
        .map(fields)
        .filter(|map| map.contains_key("map_id"))
        .collect()
}

/// `BPF_MAP_TYPE_ARRAY` of the size of the programs' state, and the pointer to the table.
fn is_state(map: &Map) -> bool {
    (map["map_type"], map["value_size"], map["max_entries"]) == (2, 48, 1)
}

fn is_pointer_to_table(map: &Map) -> bool {
    map["map_type"] == 12
}

/// Freeze a map of an agent's programs, as whoever may use BPF can: from then on the kernel refuses
/// each change of it.
fn freeze(cluster: &Cluster, number: usize, is_it: fn(&Map) -> bool) {
    let maps = maps(cluster.agents[&number].pid().unwrap());
    let found: Vec<u64> = maps
        .iter()
        .filter(|map| is_it(map))
        .map(|map| map["map_id"])
        .collect();
    let [id] = found[..] else {
        panic!("{found:?} of {maps:?}");
    };
    let mut command = Command::new("bpftool");
    weft_lab::run(command.args(["map", "freeze", "id", &id.to_string()])).unwrap();
}

/// How many files an agent may open: as it is, or from now on. What it was.
fn open_files(pid: u32, limit: Option<u64>) -> u64 {
    let prlimit = |flag: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), flag]);
        weft_lab::run(command.args(["--output=SOFT", "--noheadings"])).unwrap()
    };
    let before = prlimit("--nofile").trim().parse().unwrap();
    if let Some(limit) = limit {
        prlimit(&format!("--nofile={limit}:"));
    }
    before
}

/// The lowest number that no file of a process has.
fn lowest_free(pid: u32) -> u64 {
    let free = || {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let used: Vec<u64> = names.map(|name| name.parse().unwrap()).collect();
        (0..).find(|number| !used.contains(number)).unwrap()
    };
    // Some files are open for a moment only.
    let seen = (0..50).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        free()
    });
    seen.min().unwrap()
}

/// Refusals that a node's agent has told of.
fn refusals(cluster: &Cluster, number: usize) -> Vec<String> {
    lines_with(
        &cluster.agents[&number].log_file(),
        &["WARN", "no fast path: "],
    )
}

/// Wait for the line of a further refusal.
fn await_refusal(cluster: &Cluster, words: &str, so_far: usize) {
    let told = wait_until(NEWS, || refusals(cluster, 1).len() > so_far);
    assert!(told, "nothing is said of {words}");
    let lines = refusals(cluster, 1);
    assert!(lines[so_far].contains(words), "{lines:?}");
}

/// Packets that node 1 has sent, and those of them by its programs.
fn sends(cluster: &Cluster) -> [u64; 2] {
    ["sends", "fast_sends"].map(|name| cluster.counter(1, name))
}

/// Expect the workers to carry what the programs did.
fn assert_with_workers(cluster: &Cluster, flow: &Numbered, what: &str) {
    let [all, fast] = sends(cluster);
    flow.await_more(RATE);
    let [all_then, fast_then] = sends(cluster);
    assert!(all_then - all >= RATE / 2, "{what}: {}", all_then - all);
    assert_eq!(fast_then, fast, "{what}: programs are at work");
}

/// Let flows pause, so that the programs, which run again, take them: in their first second they leave
/// to the workers what these may hold.
fn give_back(cluster: &Cluster, flows: [&Numbered; 2]) {
    cluster.await_way(1);
    let taken = wait_until(NEWS, || {
        flows.iter().for_each(|flow| flow.set_rate(0));
        std::thread::sleep(Duration::from_millis(100));
        flows.iter().for_each(|flow| flow.set_rate(RATE));
        let [_, fast] = sends(cluster);
        flows[0].await_more(RATE / 2);
        let [_, fast_then] = sends(cluster);
        fast_then > fast + RATE / 4
    });
    assert!(taken, "the programs take nothing");
}

#[test]
fn what_is_refused_while_programs_run_is_the_workers_until_it_is_not() {
    if skips_test() || skips_test_without(&[("bpftool", "bpftool")]) {
        return;
    }
    let mut cluster = Cluster::empty(3, Regime::R1);
    if skips_unpinned(&cluster.lab) {
        return;
    }
    cluster.join(1);
    cluster.join(2);
    cluster.await_path(1, 2);
    await_starts(&cluster, &[(1, 0), (2, 0)]);
    let (a, b) = (cluster.pod(1).clone(), cluster.pod(2).clone());
    let [there, back] = [Numbered::start(&a, &b, RATE), Numbered::start(&b, &a, RATE)];
    let again = |cluster: &Cluster| {
        assert!(fast_path(cluster, 1, "auto").contains("fast path on"));
        give_back(cluster, [&there, &back]);
    };
    there.await_more(RATE);

    // What the agent writes each second. It starts anew, but not twice within a minute.
    freeze(&cluster, 1, is_state);
    await_refusal(&cluster, "the programs' state: ", 0);
    await_starts(&cluster, &[(1, 1)]);
    give_back(&cluster, [&there, &back]);
    let begun = Instant::now();
    freeze(&cluster, 1, is_state);
    await_refusal(&cluster, "the programs' state: ", 1);
    eprintln!("the workers had all {:?} later", begun.elapsed());
    assert_with_workers(&cluster, &there, "state");
    again(&cluster);

    // The table with a peer that has joined.
    freeze(&cluster, 1, is_pointer_to_table);
    cluster.join(3);
    await_refusal(&cluster, "changing the table: ", 2);
    cluster.await_path(1, 3);
    assert_with_workers(&cluster, &there, "table");
    assert_eq!(refusals(&cluster, 1).len(), 3);
    again(&cluster);
    cluster.await_path(1, 3);

    // Whatever takes a file, and so to take programs away.
    let (pid, before) = (cluster.agents[&1].pid().unwrap(), starts(&cluster, 1));
    let limit = open_files(pid, Some(lowest_free(pid)));
    await_refusal(&cluster, "Too many open files", 3);
    assert_with_workers(&cluster, &there, "files");
    open_files(pid, Some(limit));
    let tried_again = wait_until(TRIED_AGAIN, || starts(&cluster, 1) > before);
    assert!(tried_again, "it is not tried again");

    for Outcome { sent, late, lost } in [there, back].map(Numbered::finish) {
        assert_eq!((lost, late), (0, 0), "lost and late of {sent} datagrams");
    }
}
