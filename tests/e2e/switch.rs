//! The fast path is switched while packets pass, and makes way for a device of the kernel.

use crate::cluster::{Cluster, NEWS, lines_with, weft};
use crate::probe::Probe;
use std::path::PathBuf;
use std::process::Command;
use weft_lab::{Regime, Vtep, VxlanSpec, skip, skips_test, wait_until};

/// What `weft fast-path` prints for the agent of a node.
fn fast_path(cluster: &Cluster, number: usize, action: &str) -> String {
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
    let log = log(cluster, number);
    let said = |words: &str| lines_with(&log, &[words]);
    wait_until(NEWS, || {
        !said("fast path on ").is_empty() || !said("no fast path: ").is_empty()
    });
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
fn a_switch_under_traffic_loses_nothing() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    if !runs(&cluster, 1) || !runs(&cluster, 2) {
        return;
    }
    assert_way(&cluster, true);
    let shown = fast_path(&cluster, 1, "show");
    assert!(shown.contains("flannel.1: fast path on (auto)"), "{shown}");
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
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
        assert_eq!(
            fast_path(&cluster, 1, "show"),
            fast_path(&cluster, 1, action)
        );
    }
    probe.finish();
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
    let peer = cluster.vteps[&2].as_peer();
    vtep.learn(&peer).unwrap();
    vtep.route(&peer).unwrap();
    cluster.vteps[&2].learn(&vtep.as_peer()).unwrap();
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
