//! An agent takes over from the one that runs: no packet is lost by it, and none overtakes another.

mod child;
mod linger;
mod load;
mod parts;
mod supervisor;
mod systemd;

use crate::cluster::{Cluster, ENGINES, WORKERS, lines_with, weft};
use child::Child;
use load::Load;
use parts::Parts;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use supervisor::Supervisor;
use systemd::Systemd;
use weft_lab::{Process, Regime, skips_test, wait_until};

/// One after the other, on both nodes in turn.
const UPGRADES: usize = 20;

/// Datagrams of a flow that a killed agent may have had in hand, or that its rings still take while
/// the kernel winds them up.
const IN_HAND: u64 = 400;

/// The pause after which a flow may come back to the fast path.
const PAUSE: Duration = Duration::from_millis(50);

/// For so long programs take workers for there that say nothing.
const BELIEVED: Duration = Duration::from_secs(4);

/// How long an agent may take to say something.
const SOON: Duration = Duration::from_secs(30);

/// The log of a node's agents.
fn lines(cluster: &Cluster, number: usize, words: &[&str]) -> Vec<String> {
    lines_with(&cluster.agents[&number].log_file(), words)
}

fn await_lines(cluster: &Cluster, number: usize, words: &[&str], count: usize) -> Vec<String> {
    let found = || lines(cluster, number, words);
    let there = wait_until(SOON, || found().len() >= count);
    let said = lines(cluster, number, &[]);
    let last = said.len().saturating_sub(60);
    assert!(
        there,
        "node {number} says {words:?} {} times; its log ends:\n{}",
        found().len(),
        said[last..].join("\n")
    );
    found()
}

/// What the agent of a node tells of hand-overs.
fn hand_overs(cluster: &Cluster, number: usize) -> Value {
    let mut command = Command::new(weft());
    command.args(["status", "--json", "--socket-dir"]);
    command.arg(cluster.agents[&number].socket_dir());
    let output = command.output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["hand_overs"].clone()
}

/// Upgrade the agents of both nodes in turn under load; what packets waited in milliseconds.
fn upgrade(cluster: &mut Cluster, flags: &[&str]) -> Vec<f64> {
    let load = Load::start(cluster);
    for n in 0..UPGRADES {
        let agent = cluster.agents.get_mut(&(1 + n % 2)).unwrap();
        let status = agent.upgrade().unwrap();
        assert!(status.success(), "the one before ends with {status}");
        load.goes_on();
    }
    load.expect_nothing_lost(&format!("{flags:?}"));
    let waited = |line: &String| -> f64 {
        let (_, time) = line.split_once("packets waited ").unwrap();
        time.strip_suffix(" ms").unwrap().parse().unwrap()
    };
    let taken = |number| await_lines(cluster, number, &["took over from process "], UPGRADES / 2);
    let mut all: Vec<f64> = [1, 2]
        .into_iter()
        .flat_map(taken)
        .map(|l| waited(&l))
        .collect();
    for number in [1, 2] {
        await_lines(cluster, number, &["handed over to process "], UPGRADES / 2);
        assert_eq!(lines(cluster, number, &["WARN"]), [""; 0], "node {number}");
    }
    all.sort_by(f64::total_cmp);
    all
}

fn upgrades(flags: &[&str]) {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, flags);
    let waited = upgrade(&mut cluster, flags);
    let (median, longest) = (waited[waited.len() / 2], waited[waited.len() - 1]);
    eprintln!("{flags:?}: packets waited {median} ms, {longest} ms at most");
    for number in [1, 2] {
        let told = hand_overs(&cluster, number);
        assert_eq!(told["from_agents"], UPGRADES / 2, "{told}");
        assert!(told["waited_seconds"].as_f64() > Some(0.0), "{told}");
    }
}

#[test]
fn upgrades_lose_and_reorder_nothing_with_io_uring() {
    upgrades(&[ENGINES[0], WORKERS]);
}

#[test]
fn upgrades_lose_and_reorder_nothing_with_the_poll_engine() {
    upgrades(&[ENGINES[1], WORKERS]);
}

#[test]
fn upgrades_lose_and_reorder_nothing_with_the_fast_path() {
    upgrades(&[]);
}

#[test]
fn the_engine_and_the_fast_path_may_change_with_an_upgrade() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[ENGINES[0]]);
    let load = Load::start(&cluster);
    for flags in [[ENGINES[1], WORKERS], [ENGINES[0], "-fast-path=on"]] {
        for number in [1, 2] {
            let agent = cluster.agents.get_mut(&number).unwrap();
            let flags = flags.map(str::to_owned).to_vec();
            assert!(agent.upgrade_with(flags).unwrap().success());
            load.goes_on();
        }
    }
    load.expect_nothing_lost("other flags");
}

#[test]
fn a_successor_that_fails_at_any_step_leaves_the_agent_running_and_why() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let load = Load::gentle(&cluster);
    let failures = [
        ("another version", "speaks version 7 of the hand-over"),
        ("another agent", "the new agent is for /other"),
        ("another state", "-state-dir is /other"),
        ("ends after the offer", "it has hung up"),
        (
            "says no",
            "does not take over: the moon is wrong; this one goes on",
        ),
        ("says junk", "what it says cannot be read"),
        ("is out of turn", "it says \"running\" out of turn"),
        ("is silent", "it has said nothing for 10 s"),
        ("ends when it is ready", "has not taken over: "),
        ("ends at its turn", "has not taken over: it has hung up"),
        (
            "gives up at its turn",
            "has not taken over: the moon is wrong",
        ),
        (
            "hangs at its turn",
            "has not taken over: it has said nothing for 2 s",
        ),
    ];
    for (step, words) in failures {
        let before = lines(&cluster, 1, &[words]).len();
        let mut child = Child::start(&cluster.agents[&1], step);
        load.goes_on();
        await_lines(
            &cluster,
            1,
            &["WARN", words, "this one goes on"],
            before + 1,
        );
        child.expect_end();
        load.goes_on();
    }
    load.expect_nothing_lost("successors that fail");
    let mut cluster = cluster;
    let agent = cluster.agents.get_mut(&1).unwrap();
    assert!(agent.upgrade().unwrap().success(), "it still can");
    let told = hand_overs(&cluster, 1);
    assert_eq!(told["from_agents"], 1, "{told}");
    assert_eq!(told["refused"], failures.len(), "{told}");
}

#[test]
fn another_state_directory_or_address_is_no_upgrade_and_the_agent_goes_on() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let load = Load::gentle(&cluster);
    let elsewhere = format!(
        "-state-dir={}",
        cluster.lab.dir().join("elsewhere").display()
    );
    for flag in [elsewhere.as_str(), "-tx-sockets=3"] {
        let mut second = cluster.agents[&1].beside(&[flag]).unwrap();
        let status = second.wait(SOON).unwrap();
        assert_eq!(status.code(), Some(1), "{flag}");
        load.goes_on();
    }
    let refused = "does not hand over: the new agent's -state-dir is ";
    await_lines(&cluster, 1, &["WARN", refused, "elsewhere"], 1);
    await_lines(
        &cluster,
        1,
        &["WARN", "cannot take over from process ", "send sockets"],
        1,
    );
    await_lines(
        &cluster,
        1,
        &["does not take over: ", "this one goes on"],
        2,
    );
    load.expect_nothing_lost("agents that cannot take over");
    assert!(
        cluster
            .agents
            .get_mut(&1)
            .unwrap()
            .upgrade()
            .unwrap()
            .success()
    );
}

const GOES_ON: &str = "going on with what the service manager kept of the last run";

/// Nodes 1 and 2, and the agent of node 1 under a service manager that keeps descriptors.
fn supervised(flags: &[&str]) -> (Cluster, Supervisor, Process) {
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, flags);
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let supervisor = Supervisor::new(cluster.lab.dir());
    let process = supervisor.start(&cluster.agents[&1]);
    cluster.await_path(1, 2);
    let is_kept = || supervisor.kept().len() > 3;
    assert!(wait_until(SOON, is_kept), "{:?}", supervisor.kept());
    (cluster, supervisor, process)
}

/// Restart the agent of node 1 again and again under load, and hold to what is `expected` of that.
fn restarts(flags: &[&str], times: usize, kill: bool, expected: impl FnOnce(Load, &str)) {
    if skips_test() {
        return;
    }
    let (cluster, supervisor, mut process) = supervised(flags);
    let load = Load::start(&cluster);
    for n in 1..=times {
        match kill {
            true => assert!(!process.kill().unwrap().success()),
            false => assert!(process.stop().unwrap().success()),
        }
        process = supervisor.start(&cluster.agents[&1]);
        await_lines(&cluster, 1, &[GOES_ON], n);
        load.goes_on();
        let told = hand_overs(&cluster, 1);
        assert_eq!(told["waited_seconds"].is_null(), kill, "{told}");
    }
    let told = hand_overs(&cluster, 1);
    assert_eq!(told["from_store"], times, "{told}");
    expected(
        load,
        &format!("{times} restarts, {flags:?}, killed: {kill}"),
    );
    drop(process);
}

#[test]
fn restarts_by_a_service_manager_lose_and_reorder_nothing_with_io_uring() {
    restarts(
        &[ENGINES[0], WORKERS],
        UPGRADES,
        false,
        Load::expect_nothing_lost,
    );
}

#[test]
fn restarts_by_a_service_manager_lose_and_reorder_nothing_with_the_poll_engine() {
    restarts(
        &[ENGINES[1], WORKERS],
        UPGRADES,
        false,
        Load::expect_nothing_lost,
    );
}

#[test]
fn restarts_by_a_service_manager_lose_and_reorder_nothing_with_the_fast_path() {
    restarts(&[], UPGRADES, false, Load::expect_nothing_lost);
}

#[test]
fn a_flow_of_stopped_workers_that_pauses_overtakes_nothing_that_waits_for_the_next_ones() {
    if skips_test() {
        return;
    }
    let (cluster, supervisor, mut process) = supervised(&["-fast-path=auto"]);
    for attempt in 1.. {
        // Its first agent had no service manager.
        await_lines(&cluster, 1, &["fast path on flannel.1: "], 1 + attempt);
        let flow = Parts::between(cluster.pod(1), cluster.pod(2));
        assert!(process.stop().unwrap().success());
        let stopped = Instant::now();
        // One packet in parts is the workers'.
        flow.send_whole(0..4);
        std::thread::sleep(2 * PAUSE);
        flow.send(4..8);
        let in_time = stopped.elapsed() < BELIEVED;
        process = supervisor.start(&cluster.agents[&1]);
        await_lines(&cluster, 1, &[GOES_ON], attempt);
        let came = flow.receive(8);
        if in_time {
            assert_eq!(came, (0..8).collect::<Vec<u64>>());
            return;
        }
        assert!(attempt < 5, "the machine is too slow for this");
    }
}

#[test]
fn an_agent_that_is_killed_loses_only_what_its_workers_had_in_hand() {
    let expected = |load: Load, what: &str| load.expect_at_most(5 * IN_HAND, what);
    restarts(&[WORKERS], 5, true, expected);
}

#[test]
fn what_does_not_fit_is_given_up_with_one_line_and_an_ordinary_start_follows() {
    if skips_test() {
        return;
    }
    let (cluster, supervisor, mut process) = supervised(&[WORKERS]);
    for (name, words) in [
        (
            "weft-flannel.1-0",
            "TUN queue 0: no descriptor of a TUN or TAP",
        ),
        ("weft-tunnels", "weft-tunnels: "),
    ] {
        let kept = supervisor.kept().len();
        assert!(process.stop().unwrap().success());
        let file = std::fs::File::open("/dev/null").unwrap();
        supervisor.replace(name, file.into());
        process = supervisor.start(&cluster.agents[&1]);
        let refused = ["WARN", "what the service manager kept is of no use", words];
        await_lines(&cluster, 1, &refused, 1);
        cluster.await_path(1, 2);
        let is_kept = || supervisor.kept().len() == kept;
        assert!(wait_until(SOON, is_kept), "{:?}", supervisor.kept());
        let told = hand_overs(&cluster, 1);
        assert_eq!(
            (&told["from_store"], &told["refused"]),
            (&json!(0), &json!(1))
        );
    }
    assert_eq!(lines(&cluster, 1, &[GOES_ON]), [""; 0]);
}

/// Often enough for each to meet others of the load.
const UNIT_RESTARTS: usize = 10;

#[test]
fn restarts_of_our_unit_by_systemd_lose_and_reorder_nothing() {
    if systemd::skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[]);
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let Some(systemd) = Systemd::start(&cluster.agents[&1], cluster.lab.dir()) else {
        return;
    };
    assert!(systemd.run(&["start", "weft"]));
    cluster.await_path(1, 2);
    let load = Load::start(&cluster);
    for n in 1..=UNIT_RESTARTS {
        assert!(systemd.run(&["restart", "weft"]), "restart {n}");
        await_lines(&cluster, 1, &[GOES_ON], n);
        load.goes_on();
    }
    load.expect_nothing_lost("restarts of the unit");
    for line in lines(&cluster, 1, &[GOES_ON]) {
        eprintln!("{line}");
    }
}

#[test]
fn only_root_is_handed_over_to() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let agent = &cluster.agents[&1];
    let said = child::ask_as_nobody(agent);
    assert!(said.contains("only root may ask"), "{said}");
    assert_eq!(lines(&cluster, 1, &["is about to take over"]), [""; 0]);
}
