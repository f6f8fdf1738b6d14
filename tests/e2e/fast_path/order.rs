//! A flow that goes from one way to the other keeps its order.

use super::{await_starts, receive_on_one_core};
use crate::cluster::Cluster;
use crate::errors::count_in;
use crate::numbered::{Numbered, Outcome};
use crate::stream::Stream;
use std::time::Duration;
use weft_lab::{Namespace, Pod, Regime, skips_test};

/// Rates below and above the one at which the workers take a flow, datagrams a second.
const RATES: [u64; 4] = [5_000, 100_000, 20_000, 60_000];

/// Silence between two rates: shorter and longer than that after which a flow may come back.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(60),
    Duration::from_millis(100),
];

/// What the kernel counts at a sender of TCP that learns of segments that overtook others.
const REORDERED: [&str; 3] = ["TCPSACKReorder", "TCPRenoReorder", "TCPTSReorder"];

fn reordered(ns: &Namespace) -> u64 {
    let counts = REORDERED.map(|name| count_in(ns, "netstat", "TcpExt", name));
    counts.iter().sum()
}

/// Packets of node 1 that left in each way.
fn ways(cluster: &Cluster) -> [u64; 2] {
    let (all, fast) = (
        cluster.counter(1, "sends"),
        cluster.counter(1, "fast_sends"),
    );
    [fast, all - fast]
}

/// Have a flow of UDP change its rate again and again.
fn numbered(from: &Pod, to: &Pod) -> Outcome {
    let numbered = Numbered::start(from, to, 0);
    for pause in PAUSES {
        for rate in RATES {
            numbered.set_rate(rate);
            // Long enough for the rate to be seen.
            numbered.await_more(rate / 20);
            numbered.set_rate(0);
            std::thread::sleep(pause);
        }
    }
    numbered.finish()
}

/// The same for TCP, which sends super-packets, single segments and nothing by turns.
fn stream(cluster: &Cluster) {
    let [there, back] =
        [(1, 2), (2, 1)].map(|(from, to)| Stream::start(cluster.pod(from), cluster.pod(to)));
    for pause in PAUSES {
        for stream in [&there, &back] {
            stream.await_more(8 << 20);
            stream.pause(true);
            std::thread::sleep(pause);
            stream.pause(false);
        }
    }
    there.finish();
    back.finish();
}

#[test]
fn a_flow_that_changes_its_way_keeps_its_order() {
    if skips_test() {
        return;
    }
    let all = Regime::ALL.map(|regime| (regime, "auto"));
    for (regime, trains) in all.into_iter().chain([(Regime::R2, "on")]) {
        let flags = ["-fast-path=auto", &format!("-fast-path-trains={trains}")];
        let cluster = Cluster::of_weft_with(2, regime, &flags);
        await_starts(&cluster, &[(1, 0), (2, 0)]);
        receive_on_one_core(&cluster);
        assert_datagrams_in_order(&cluster, (1, 2), regime);
        let ways = ways(&cluster);
        assert!(ways.iter().all(|&count| count > 100), "{regime}: {ways:?}");
        assert_streams_in_order(&cluster, regime);
    }
}

fn assert_datagrams_in_order(cluster: &Cluster, (from, to): (usize, usize), regime: Regime) {
    let Outcome { sent, late, lost } = numbered(cluster.pod(from), cluster.pod(to));
    let what = format!("{regime}: {sent} datagrams of node {from}, {lost} of them lost");
    assert_eq!(late, 0, "{what}");
}

fn assert_streams_in_order(cluster: &Cluster, regime: Regime) {
    let pods = [1, 2].map(|number| cluster.pod(number).ns.clone());
    let before = pods.each_ref().map(reordered);
    stream(cluster);
    assert_eq!(pods.each_ref().map(reordered), before, "{regime}");
}

/// A receiver's programs take only some of what workers send: what they leave must not be overtaken.
#[test]
fn what_workers_have_sent_keeps_its_order_where_programs_take_it() {
    if skips_test() {
        return;
    }
    for regime in Regime::ALL {
        let mut cluster = Cluster::empty(2, regime);
        for (number, way) in [(1, "off"), (2, "auto")] {
            cluster.flags = vec![format!("-fast-path={way}")];
            cluster.join(number);
        }
        cluster.await_path(1, 2);
        await_starts(&cluster, &[(2, 0)]);
        receive_on_one_core(&cluster);
        assert_datagrams_in_order(&cluster, (1, 2), regime);
        assert_streams_in_order(&cluster, regime);
    }
}

/// What a tunnel of the kernel sends has outer checksums, and comes whole and in segments by turns.
#[test]
fn flows_between_programs_and_kernel_vxlan_keep_their_order() {
    if skips_test() {
        return;
    }
    for regime in Regime::ALL {
        let cluster = Cluster::weft_and_kernel_with(regime, &["-fast-path=auto"]);
        await_starts(&cluster, &[(1, 0)]);
        receive_on_one_core(&cluster);
        for way in [(1, 2), (2, 1)] {
            assert_datagrams_in_order(&cluster, way, regime);
        }
        let ways = ways(&cluster);
        assert!(ways.iter().all(|&count| count > 100), "{regime}: {ways:?}");
        assert_streams_in_order(&cluster, regime);
    }
}
