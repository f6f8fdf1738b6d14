//! Tunnel GSO that rests, and that fails.

use crate::nodes::{self, Node, Setup, pod};
use crate::packets::Parcel;
use crate::{ALONE, PATIENCE, PLAIN, SUPER, await_in_use, carry, exchange, parcels, space};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weft_dataplane::stats::{Count, DropReason};
use weft_dataplane::worker::EngineKind;
use weft_dataplane::worker::tunnel_gso::TunnelGso;
use weft_lab::skips_test_without_namespaces;

const WITH_TUNNEL_GSO: Setup = Setup {
    tunnel_gso: TunnelGso::On,
    ..PLAIN
};

/// Directories of this process's probers in `/proc`.
fn probers() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut tasks: Vec<PathBuf> = tasks.map(|task| task.unwrap().path()).collect();
    let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
    tasks.retain(|task| name(task).trim() == "weft-prober");
    tasks
}

/// A line of a thread's `status`.
fn status(task: &Path, key: &str) -> String {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// How often a thread has gone to sleep, once it waits for events: before, it may sleep for a lock
/// while it starts.
fn sleeps(task: &Path) -> u64 {
    let polls = [
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        libc::SYS_ppoll,
    ];
    let end = Instant::now() + PATIENCE;
    loop {
        let call = fs::read_to_string(task.join("syscall")).unwrap();
        let number = call.split_whitespace().next().unwrap_or_default().parse();
        if number.is_ok_and(|number| polls.contains(&number)) {
            break;
        }
        assert!(Instant::now() < end, "it does not wait");
        std::thread::yield_now();
    }
    status(task, "voluntary_ctxt_switches").parse().unwrap()
}

#[test]
fn a_prober_sleeps_while_there_is_no_super_packet() {
    if skips_test_without_namespaces() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let [a, b] = nodes::start(WITH_TUNNEL_GSO);
    let small = Parcel::udp(pod(1), pod(2), 18, true);
    let probers = probers();
    assert_eq!(probers.len(), 2);
    let before: Vec<u64> = probers.iter().map(|task| sleeps(task)).collect();
    // Long enough for whoever looks now and then to be seen.
    let end = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < end {
        carry(&a, &b, &small, 1, &mut space());
    }
    let after: Vec<u64> = probers.iter().map(|task| sleeps(task)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_super_packet_that_the_tap_refuses_leaves_in_trains() {
    if skips_test_without_namespaces() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for engine in [EngineKind::Ring, EngineKind::Poll] {
        let setup = Setup {
            engine,
            ..WITH_TUNNEL_GSO
        };
        let nodes = nodes::start(setup);
        let mut space = space();
        let parcels = parcels(setup);
        await_in_use(&nodes, || exchange(&nodes, &parcels, &mut space));
        let [a, b] = &nodes;
        a.ns.ip("link set weft.1 down").unwrap();
        let counts = |node: &Node| (node.count(Count::TunnelGsoSends), node.count(Count::Sends));
        let (uncut, sends) = counts(a);
        // Nobody but the TAP can say that it is down.
        let large = Parcel::tcp(pod(1), pod(2), SUPER);
        carry(a, b, &large, 1, &mut space);
        // What is sent may arrive before it is counted.
        let end = Instant::now() + PATIENCE;
        while a.count(Count::Sends) == sends {
            assert!(Instant::now() < end, "nothing is sent, {engine:?}");
            std::thread::yield_now();
        }
        assert_eq!(a.count(Count::TunnelGsoSends), uncut, "{engine:?}");
        assert_eq!(a.drops(DropReason::SendFailed), 0, "{engine:?}");
    }
}

#[test]
fn a_successor_uses_the_tap_that_it_adopted() {
    if skips_test_without_namespaces() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for engine in [EngineKind::Ring, EngineKind::Poll] {
        let setup = Setup {
            engine,
            ..WITH_TUNNEL_GSO
        };
        let mut nodes = nodes::start(setup);
        let mut space = space();
        let parcels = parcels(setup);
        let index = |node: &Node| {
            let link = node.ns.ip("-o link show weft.1").unwrap();
            link.split(':').next().unwrap().to_owned()
        };
        let before = index(&nodes[0]);
        for _ in 0..3 {
            await_in_use(&nodes, || exchange(&nodes, &parcels, &mut space));
            nodes[0].hand_over();
            assert_eq!(nodes[0].count(Count::TunnelGsoSends), 0, "{engine:?}");
        }
        await_in_use(&nodes, || exchange(&nodes, &parcels, &mut space));
        exchange(&nodes, &parcels, &mut space);
        assert!(nodes[0].count(Count::TunnelGsoSends) > 0, "{engine:?}");
        assert_eq!(index(&nodes[0]), before, "{engine:?}");
    }
}
