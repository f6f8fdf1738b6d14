//! Trouble with a node's interfaces under way, with peers and traffic: it is put right when it comes.

use crate::cluster::{Cluster, NEWS, WORKERS, lines_with};
use crate::probe::Probe;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};
use weft_lab::{Namespace, Regime, skip, skips_test, wait_until};

/// Pause between two looks at routes that come without notice.
const RECONCILE: Duration = Duration::from_secs(10);

/// How often the same trouble comes.
const ROUNDS: u32 = 5;

const HOST_GW: &str =
    r#"{"Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","Backend":{"Type":"host-gw"}}"#;

fn rename(ns: &Namespace, from: &str, to: &str) {
    let line = format!("link set {from} name {to}");
    if ns.ip(&line).is_err() {
        // Before Linux 6.2 one that is up keeps its name.
        ns.ip(&format!("link set {from} down")).unwrap();
        ns.ip(&line).unwrap();
        ns.ip(&format!("link set {to} up")).unwrap();
    }
}

#[test]
fn traffic_goes_on_when_the_underlay_or_the_tunnel_has_another_name() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    let node = cluster.lab.node(2).ns.clone();
    let log = cluster.agents[&2].log_file();
    let starts = || lines_with(&log, &[" INFO ", "fast path on "]).len();
    let before = starts();
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    for (from, to, line) in [
        (
            "eth0",
            "uplink",
            "eth0 was renamed to uplink: the node goes on",
        ),
        (
            "flannel.1",
            "astray",
            "flannel.1 was renamed to astray: calling",
        ),
        (
            "uplink",
            "eth0",
            "uplink was renamed to eth0: the node goes on",
        ),
    ] {
        let begin = Instant::now();
        rename(&node, from, to);
        let told = wait_until(NEWS, || lines_with(&log, &[line]).len() == 1);
        assert!(told, "no line: {line}");
        eprintln!("{line}: told after {:?}", begin.elapsed());
        cluster.await_path(1, 2);
        cluster.await_path(2, 1);
    }
    probe.finish();
    assert_eq!(starts(), before, "the fast path need not start anew");
    assert_eq!(lines_with(&log, &["making it anew"]), [""; 0]);
}

#[test]
fn direct_routes_come_back_with_the_underlay_and_when_they_are_removed() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::configured(2, Regime::R1, HOST_GW).filled(&[WORKERS]);
    let node = &cluster.lab.node(2).ns;
    let routes = || node.ip("route show proto 119").unwrap();
    let before = routes();
    assert!(before.contains("via 10.99.0.1 dev eth0"), "{before}");
    for trouble in [
        &["link set eth0 down", "link set eth0 up"][..],
        &["route flush proto 119"],
    ] {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            for line in trouble {
                node.ip(line).unwrap();
            }
            let begin = Instant::now();
            assert!(
                wait_until(2 * RECONCILE, || routes() == before),
                "{}",
                routes()
            );
            took.push(begin.elapsed());
        }
        eprintln!("{trouble:?}: over after {took:?}; looks come every {RECONCILE:?}");
        let sum: Duration = took.iter().sum();
        assert!(sum < RECONCILE * (ROUNDS - 1), "{took:?}");
    }
    cluster.await_path(1, 2);
}

/// The pin of a program on the underlay of a node.
fn pin(cluster: &Cluster, number: usize) -> Option<std::path::PathBuf> {
    let inode = || fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    let inode = cluster.lab.node(number).ns.enter(inode).unwrap();
    let folder = cluster.lab.bpffs()?.join(format!("weft/{inode}/flannel+1"));
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.find(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("in-")
    })
}

/// Of which the kernel tells nobody: the look that comes each second sees it.
#[test]
fn a_program_that_is_detached_is_put_back_within_the_second() {
    if skips_test() {
        return;
    }
    let flags = ["-fast-path=on", "-fast-path-hook=tcx"];
    let cluster = Cluster::of_weft_with(2, Regime::R1, &flags);
    let log = cluster.agents[&2].log_file();
    let starts = || lines_with(&log, &["fast path on "]).len();
    let Some(pin) = pin(&cluster, 2).filter(|_| starts() == 1) else {
        return skip("no program is pinned here");
    };
    let begin = Instant::now();
    let detach = Command::new("bpftool")
        .args(["link", "detach", "pinned"])
        .arg(&pin)
        .status();
    if !detach.is_ok_and(|status| status.success()) {
        return skip("no bpftool that detaches programs");
    }
    assert!(
        wait_until(NEWS, || starts() == 2),
        "{:?}",
        lines_with(&log, &["fast path"])
    );
    eprintln!("a detached program is back after {:?}", begin.elapsed());
    cluster.await_path(1, 2);
}
