//! What must not notice an upgrade: numbered datagrams both ways and a TCP stream.

use crate::cluster::Cluster;
use crate::numbered::{Numbered, Outcome, cut_in_pods};
use crate::stream::Stream;
use std::time::Instant;

/// Datagrams a second of each flow, or fewer if the machine is busy.
const RATE: u64 = 50_000;

/// Of these on their way at a time: with the stream's packets fewer than the queue of a device holds,
/// so that a machine that is busy with something else loses none by that.
const WINDOW: u64 = 400;

/// Datagrams a second that fit into that queue for two seconds.
const GENTLE: u64 = 200;

/// Bytes of the TCP stream that show that it goes on.
const MORE: u64 = 1 << 20;

/// Traffic between the pods of nodes 1 and 2.
pub(super) struct Load {
    datagrams: [Numbered; 2],
    stream: Stream,
    rate: u64,
    begun: Instant,
}

impl Load {
    /// Much.
    pub(super) fn start(cluster: &Cluster) -> Load {
        Load::of(cluster, RATE, WINDOW)
    }

    /// Little, which goes on when nobody carries packets.
    pub(super) fn gentle(cluster: &Cluster) -> Load {
        Load::of(cluster, GENTLE, WINDOW)
    }

    fn of(cluster: &Cluster, rate: u64, window: u64) -> Load {
        let (a, b) = (cluster.pod(1).clone(), cluster.pod(2).clone());
        cut_in_pods([&a, &b]);
        let ways = [(&a, &b), (&b, &a)];
        let load = Load {
            datagrams: ways.map(|(from, to)| Numbered::within(from, to, rate, window)),
            stream: Stream::start(&a, &b),
            rate,
            begun: Instant::now(),
        };
        load.goes_on();
        load
    }

    /// Wait until a tenth of a second's datagrams has arrived, and more of the stream.
    pub(super) fn goes_on(&self) {
        for numbered in &self.datagrams {
            numbered.await_more(self.rate / 10);
        }
        self.stream.await_more(MORE);
    }

    /// End it, and expect all of it to have arrived in order.
    pub(super) fn expect_nothing_lost(self, what: &str) {
        self.expect_at_most(0, what);
    }

    /// End it, and expect all of it to have arrived in order but for so many datagrams of each flow.
    pub(super) fn expect_at_most(self, at_most: u64, what: &str) {
        self.stream.finish();
        let time = self.begun.elapsed().as_secs_f64();
        for outcome in self.datagrams.map(Numbered::finish) {
            let Outcome { sent, late, lost } = outcome;
            let rate = sent as f64 / time;
            eprintln!("{what}: {sent} datagrams, {rate:.0} a second: {lost} lost, {late} late");
            assert!(lost <= at_most, "{what}: {lost} of {sent} datagrams lost");
            assert_eq!(late, 0, "{what}: {late} of {sent} datagrams late");
        }
    }
}
