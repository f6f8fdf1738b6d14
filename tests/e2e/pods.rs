//! Pods on two nodes of weft.

use crate::cluster::{Cluster, ENGINES};
use crate::errors::Errors;
use crate::traffic::{tcp, udp, udp_super};
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test};

/// Sizes of datagrams around the edges of a packet: the last fills one.
pub(crate) const DATAGRAMS: [usize; 6] = [0, 1, 64, 1_001, 1_400, 1_422];

/// Everything that pods of `a` and `b` may do to each other.
pub(crate) fn exchange(cluster: &Cluster, a: usize, b: usize) {
    let (a, b) = (cluster.pod(a), cluster.pod(b));
    for (from, to) in [(a, b), (b, a)] {
        ping(&from.ns, to.address, 5, 56, false).unwrap();
        ping(&from.ns, to.address, 5, 1_422, true).unwrap();
        tcp(from, to, 20, 2 << 20);
        udp(from, to, &DATAGRAMS, 40);
        udp_super(from, to, 1_200, 40, 77);
        udp_super(from, to, 1_422, 12, 0);
    }
}

/// Packets that do not fit the overlay's MTU and may be fragmented.
pub(crate) fn exchange_fragments(cluster: &Cluster, a: usize, b: usize) {
    let (a, b) = (cluster.pod(a), cluster.pod(b));
    for (from, to) in [(a, b), (b, a)] {
        ping(&from.ns, to.address, 5, 4_000, false).unwrap();
        udp(from, to, &[1_423, 8_000, 60_000], 20);
    }
}

#[test]
fn pods_exchange_pings_tcp_and_udp_unaltered() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[engine]);
        let errors = Errors::of(&cluster);
        exchange(&cluster, 1, 2);
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn pods_exchange_the_same_without_any_offload_on_the_underlay() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        for regime in [Regime::R2, Regime::R3] {
            let cluster = Cluster::of_weft_with(2, regime, &[engine]);
            let errors = Errors::of(&cluster);
            exchange(&cluster, 1, 2);
            exchange_fragments(&cluster, 1, 2);
            errors.assert_none_since(&cluster);
        }
    }
}

#[test]
fn fragments_cross_and_are_put_together() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[engine]);
        let errors = Errors::of(&cluster);
        exchange_fragments(&cluster, 1, 2);
        errors.assert_none_since(&cluster);
    }
}
