//! The fast path is switched while packets pass, and makes way for a device of the kernel.

use super::receive_on_one_core;
use crate::cluster::{Cluster, NEWS, lines_with, weft};
use crate::numbered::{Numbered, Outcome};
use crate::probe::Probe;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use weft_lab::{Regime, Vtep, VxlanSpec, skip, skips_test, wait_until};

/// Datagrams a second, so few that programs take them.
const RATE: u64 = 20_000;

/// What `weft fast-path` prints for the agent of a node.
pub(super) fn fast_path(cluster: &Cluster, number: usize, action: &str) -> String {
    let mut command = Command::new(weft());
    command.args(["fast-path", action, "--socket-dir"]);
    command.arg(cluster.agents[&number].socket_dir());
    weft_lab::run(&mut command).unwrap()
}

fn log(cluster: &Cluster, number: usize) -> PathBuf {
    cluster.agents[&number].log_file()
}

/// Wait until the fast path of a node runs; `false`, and the test is skipped, if it cannot here.
fn runs(cluster: &Cluster, number: usize) -> bool {
    cluster.await_way(number);
    let log = log(cluster, number);
    let said = |words: &str| lines_with(&log, &[words]);
    if let Some(refusal) = said("no fast path: ").first() {
        skip(refusal);
        return false;
    }
    assert!(!said("fast path on ").is_empty(), "it says nothing");
    true
}

/// Expect pings of node 1 to leave by the fast path, or by the workers alone. What these may still
/// have of a flow keeps it with them for a moment.
fn assert_way(cluster: &Cluster, fast: bool) {
    let is_fast = || {
        let before = cluster.counter(1, "fast_sends");
        cluster.await_path(1, 2);
        cluster.counter(1, "fast_sends") > before
    };
    match fast {
        true => assert!(wait_until(NEWS, is_fast), "the workers have them"),
        false => assert!(!is_fast(), "the fast path has them"),
    }
}

#[test]
fn a_switch_under_traffic_loses_nothing_and_keeps_the_order() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &["-fast-path=auto"]);
    if !runs(&cluster, 1) || !runs(&cluster, 2) {
        return;
    }
    assert_way(&cluster, true);
    let shown = fast_path(&cluster, 1, "show");
    assert!(shown.contains("flannel.1: fast path on (auto)"), "{shown}");
    receive_on_one_core(&cluster);
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    let probe = Probe::start(a, b);
    let datagrams = [Numbered::start(a, b, RATE), Numbered::start(b, a, RATE)];
    for (action, says, fast) in [
        ("off", "fast path off", false),
        ("on", "fast path on (on)", true),
        ("off", "fast path off", false),
        ("auto", "fast path on (auto)", true),
        ("on", "fast path on (on)", true),
        ("auto", "fast path on (auto)", true),
    ] {
        for number in [1, 2] {
            let said = fast_path(&cluster, number, action);
            assert!(said.contains(says), "{action}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        assert_way(&cluster, fast);
        // A pause, after which flows go over to the programs.
        datagrams.iter().for_each(|numbered| numbered.set_rate(0));
        std::thread::sleep(Duration::from_millis(100));
        for numbered in &datagrams {
            numbered.set_rate(RATE);
            numbered.await_more(RATE / 10);
        }
        assert_eq!(
            fast_path(&cluster, 1, "show"),
            fast_path(&cluster, 1, action)
        );
    }
    probe.finish();
    for Outcome { sent, late, lost } in datagrams.map(Numbered::finish) {
        assert_eq!((lost, late), (0, 0), "lost and late of {sent} datagrams");
    }
}

#[test]
fn what_is_left_on_the_underlay_leaves_packets_to_a_device_of_the_kernel() {
    if skips_test() {
        return;
    }
    // Filters stay where no BPF file system is mounted, too.
    let flags = ["-fast-path=on", "-fast-path-hook=clsact"];
    let mut cluster = Cluster::weft_and_kernel_with(Regime::R1, &flags);
    if !runs(&cluster, 1) {
        return;
    }
    let node = cluster.lab.node(1).ns.clone();
    let filters = || node.run(&["tc", "filter", "show", "dev", "eth0", "ingress"]);
    cluster.agents.get_mut(&1).unwrap().kill().unwrap();
    assert!(filters().unwrap().contains("weft_in"));
    cluster.await_path(1, 2);

    // As flanneld does.
    node.ip("link del flannel.1").unwrap();
    let subnet = cluster.lab.node(1).subnet.unwrap();
    let vtep = Vtep::create(&cluster.lab, 1, VxlanSpec::flannel(1), subnet).unwrap();
    // Node 2 goes on with the MAC that it knows, so that programs have no reason but one.
    let mac = cluster.mac(1);
    node.ip(&format!("link set flannel.1 address {mac}"))
        .unwrap();
    let peer = cluster.vteps[&2].as_peer();
    vtep.learn(&peer).unwrap();
    vtep.route(&peer).unwrap();
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    assert!(
        filters().unwrap().contains("weft_in"),
        "nobody took it away"
    );

    // And back: the device gives its MAC to weft's, and the programs are weft's again.
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_written().unwrap();
    let started = || lines_with(&log(&cluster, 1), &["fast path on "]).len() > 1;
    assert!(wait_until(NEWS, started));
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    assert_way(&cluster, true);
    let shown = filters().unwrap();
    assert_eq!(shown.matches(" handle 0x").count(), 1, "{shown}");
}
