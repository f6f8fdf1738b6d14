//! A packet counts once, whichever way it goes.

use super::await_starts;
use crate::cluster::{Cluster, NEWS};
use crate::numbered::{Numbered, Outcome};
use crate::traffic::tcp;
use std::collections::BTreeMap;
use weft_lab::{Regime, skips_test, wait_until};

/// Datagrams of each rate.
const COUNT: u64 = 20_000;

/// Packets that kernel and agents send by themselves meanwhile, such as neighbours' questions.
const FEW: u64 = 50;

type Counters = BTreeMap<String, u64>;

/// How much the counters of a node have grown.
struct Growth(Counters);

impl Growth {
    fn since(before: &Counters, now: &Counters) -> Growth {
        let grown = now.iter().map(|(name, value)| {
            let old = before.get(name).copied().unwrap_or(0);
            (name.clone(), value.saturating_sub(old))
        });
        Growth(grown.collect())
    }

    fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

fn read(cluster: &Cluster) -> [Counters; 2] {
    [1, 2].map(|number| cluster.agents[&number].counters().unwrap())
}

/// What both nodes counted while `during` ran, and while its packets were under way.
fn counted<T>(cluster: &Cluster, during: impl FnOnce() -> T) -> (T, [Growth; 2]) {
    let before = read(cluster);
    let outcome = during();
    let mut last = read(cluster);
    wait_until(NEWS, || {
        let now = read(cluster);
        std::mem::replace(&mut last, now.clone()) == now
    });
    let [a, b] = [0, 1].map(|i| Growth::since(&before[i], &last[i]));
    (outcome, [a, b])
}

fn assert_about(count: u64, least: u64, most: u64, what: &str) {
    let right = (least..=most + FEW).contains(&count);
    assert!(right, "{what}: {count}, not {least} to {most}");
}

#[test]
fn a_packet_counts_once_in_whichever_way_it_goes() {
    if skips_test() {
        return;
    }
    // Both ways, by the programs alone, by the workers alone.
    for way in ["auto", "on", "off"] {
        let flag = format!("-fast-path={way}");
        // Without workers' super-packets, each of which is a frame to them on the way in.
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[&flag, "-tunnel-gso=off"]);
        if way != "off" {
            await_starts(&cluster, &[(1, 0), (2, 0)]);
        }
        let send = || {
            let numbered = Numbered::start(cluster.pod(1), cluster.pod(2), 10_000);
            numbered.await_more(COUNT);
            // More than a flow may have before the workers take it.
            numbered.set_rate(100_000);
            numbered.await_more(COUNT);
            numbered.finish()
        };
        let (Outcome { sent, lost, .. }, [out, back]) = counted(&cluster, send);
        // A queue that overflows on a busy machine may be before or behind what counts.
        let arrived = sent - lost;
        assert_about(
            out.of("tun_reads"),
            arrived,
            sent,
            &format!("{way}: tun_reads"),
        );
        assert_about(
            out.of("frames_sent"),
            arrived,
            sent,
            &format!("{way}: frames_sent"),
        );
        assert_about(
            back.of("frames_received"),
            arrived,
            sent,
            &format!("{way}: frames_received"),
        );
        let (fast_out, fast_in) = (out.of("fast_sends"), back.of("fast_receives"));
        match way {
            "auto" => {
                assert!((COUNT..sent).contains(&fast_out), "{fast_out} of {sent}");
                assert!((COUNT..=sent).contains(&fast_in), "{fast_in} of {sent}");
            }
            "on" => {
                assert_about(fast_out, arrived, sent, "fast_sends");
                assert_about(fast_in, arrived, sent, "fast_receives");
            }
            _ => assert_eq!((fast_out, fast_in), (0, 0)),
        }
        // A super-packet is one packet and as many frames as it is cut into.
        let transfer = || tcp(cluster.pod(1), cluster.pod(2), 2, 4 << 20);
        let ((), [out, back]) = counted(&cluster, transfer);
        let (frames, segments) = (out.of("frames_sent"), 2 * (4 << 20) / 1_398);
        assert!(
            frames >= segments,
            "{way}: {frames} frames for {segments} segments"
        );
        assert_about(
            back.of("frames_received"),
            frames,
            frames,
            &format!("{way}: frames of TCP"),
        );
        assert!(
            out.of("tun_reads") < frames / 4,
            "{way}: super-packets were cut"
        );
    }
}
