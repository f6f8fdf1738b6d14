//! Agents are killed and start again under traffic.

use super::{await_starts, skips_unpinned, starts};
use crate::cluster::Cluster;
use crate::numbered::{Numbered, Outcome};
use crate::stream::Stream;
use weft_lab::{Regime, skips_test};

/// Datagrams a second: half of what a flow may have before workers take it.
const RATE: u64 = 20_000;

/// Datagrams that may be lost in a tenth of a second, where devices cut and merge: what workers hold
/// when they are killed. Without a fast path each second would cost [`RATE`].
const HELD: u64 = RATE / 10;

/// How often flows are begun anew until they are the programs'.
const TRIES: usize = 5;

/// Bytes of the TCP stream that show that it goes on.
const MORE: u64 = 4 << 20;

/// Packets that the programs have left to the workers, so that these lose what they hold of them.
fn left(cluster: &Cluster) -> u64 {
    let of =
        |number| cluster.counter(number, "left_flows") + cluster.counter(number, "left_batches");
    of(1) + of(2)
}

/// A stream of datagrams each way; if they are to be the programs' alone, begun anew until they are: a
/// machine that stops for some milliseconds may make a flood of either, and a flow that does not
/// pause stays where it is.
fn datagrams(cluster: &Cluster, are_programs: bool) -> [Numbered; 2] {
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    for _ in 0..TRIES {
        let streams = [Numbered::start(a, b, RATE), Numbered::start(b, a, RATE)];
        let await_more = || {
            streams
                .iter()
                .for_each(|stream| stream.await_more(RATE / 4))
        };
        await_more();
        let before = left(cluster);
        await_more();
        if !are_programs || left(cluster) - before < RATE / 100 {
            return streams;
        }
        for stream in streams {
            stream.finish();
        }
    }
    panic!("flows of {RATE} datagrams a second stay with the workers");
}

/// Kill the agents of these nodes at once, let traffic run without them for two seconds and
/// more, and start them again. What became of the datagrams.
fn kill_and_start(cluster: &mut Cluster, nodes: &[usize], are_programs: bool) -> [Outcome; 2] {
    let (a, b) = (cluster.pod(1).clone(), cluster.pod(2).clone());
    let datagrams = datagrams(cluster, are_programs);
    let stream = Stream::start(&a, &b);
    let await_more = |count| {
        for numbered in &datagrams {
            numbered.await_more(count);
        }
        stream.await_more(MORE);
    };
    await_more(RATE);
    let before: Vec<_> = nodes.iter().map(|&n| (n, starts(cluster, n))).collect();
    for number in nodes {
        cluster.agents.get_mut(number).unwrap().kill().unwrap();
    }
    await_more(2 * RATE);
    for number in nodes {
        let agent = cluster.agents.get_mut(number).unwrap();
        agent.start_again().unwrap();
    }
    for number in nodes {
        let agent = cluster.agents.get_mut(number).unwrap();
        agent.wait_written().unwrap();
    }
    await_starts(cluster, &before);
    await_more(RATE);
    stream.finish();
    datagrams.map(Numbered::finish)
}

/// Agents of each of these groups of nodes in turn.
fn survives(regime: Regime, flags: &[&str], groups: &[&[usize]], at_most: u64) {
    let mut cluster = Cluster::of_weft_with(2, regime, flags);
    if skips_unpinned(&cluster.lab) {
        return;
    }
    await_starts(&cluster, &[(1, 0), (2, 0)]);
    for nodes in groups {
        for outcome in kill_and_start(&mut cluster, nodes, at_most == 0) {
            let Outcome { sent, late, lost } = outcome;
            eprintln!(
                "{regime} {flags:?}, agents of {nodes:?}: {lost} of {sent} lost, {late} late"
            );
            let what = format!("{regime}, agents of {nodes:?}, {sent} datagrams");
            assert!(lost <= at_most, "{lost} lost: {what}");
            // Where devices merge, a flow goes from core to core, and not by our doing.
            assert!(late == 0 || regime == Regime::R2, "{late} late: {what}");
        }
    }
    // The programs go by the table of the new agents: a peer that goes is gone.
    let key = cluster.lease_key(2);
    cluster.agents.get_mut(&2).unwrap().kill().unwrap();
    assert!(cluster.etcd.delete(&key).unwrap());
    let to = cluster.pod(2).address;
    cluster.assert_drops(1, to, "no_peer");
}

#[test]
fn traffic_survives_agents_that_are_killed_without_a_loss() {
    if skips_test() {
        return;
    }
    survives(Regime::R1, &[], &[&[1], &[2], &[1, 2]], 0);
}

/// As nodes do by default over devices that cut, and that merge what comes.
#[test]
fn traffic_survives_them_also_where_workers_send_trains() {
    if skips_test() {
        return;
    }
    survives(Regime::R2, &[], &[&[1], &[2], &[1, 2]], HELD);
}

/// Segments come by the merging pair.
#[test]
fn traffic_survives_them_also_where_segments_are_merged() {
    if skips_test() {
        return;
    }
    let segments = ["-fast-path-trains=off"];
    survives(Regime::R2, &segments, &[&[1], &[2], &[1, 2]], HELD);
}

/// As below Linux 6.6: nothing holds a filter but its device.
#[test]
fn traffic_survives_them_also_where_programs_are_filters() {
    if skips_test() {
        return;
    }
    survives(Regime::R1, &["-fast-path-hook=clsact"], &[&[1, 2]], 0);
}
