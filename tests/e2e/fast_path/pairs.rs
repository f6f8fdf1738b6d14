//! Nodes whose packets take different ways exchange all traffic.

use super::{await_starts, starts};
use crate::cluster::Cluster;
use crate::errors::Errors;
use crate::pods::{exchange, exchange_fragments};
use crate::traffic::{tcp, udp};
use weft_lab::{Pod, Regime, skips_test};

/// A node itself as an end of transfers, by the address that it has among its pods.
fn host(cluster: &Cluster, number: usize) -> Pod {
    let node = cluster.lab.node(number);
    let gateway = u32::from(node.subnet.unwrap().network()) + 1;
    Pod {
        ns: node.ns.clone(),
        address: gateway.into(),
    }
}

/// What nodes themselves send to the pods of others, and what they are sent.
fn exchange_with_hosts(cluster: &Cluster, a: usize, b: usize) {
    for (host, pod) in [(host(cluster, a), b), (host(cluster, b), a)] {
        let pod = cluster.pod(pod);
        // From the host the connection has the tunnel device's address.
        tcp(&host, pod, 2, 1 << 20);
        tcp(pod, &host, 2, 1 << 20);
        udp(&host, pod, &[0, 1_400, 8_000], 20);
        udp(pod, &host, &[0, 1_400, 8_000], 20);
    }
}

/// Everything between two nodes; no checksum is found wrong.
fn exchange_all(cluster: &Cluster, a: usize, b: usize) {
    let errors = Errors::of(cluster);
    exchange(cluster, a, b);
    exchange_fragments(cluster, a, b);
    exchange_with_hosts(cluster, a, b);
    errors.assert_none_since(cluster);
}

/// Packets that a node's programs carried, out and in.
fn carried(cluster: &Cluster, number: usize) -> [u64; 2] {
    ["fast_sends", "fast_receives"].map(|name| cluster.counter(number, name))
}

/// Have the underlay of all nodes be as in `regime`, and agents know.
fn change(cluster: &mut Cluster, regime: Regime) {
    cluster.lab.set_regime(regime).unwrap();
    // They look at it when they start, and else once a second.
    for agent in cluster.agents.values_mut() {
        agent.stop().unwrap();
        agent.start_again().unwrap();
    }
    for agent in cluster.agents.values_mut() {
        agent.wait_written().unwrap();
    }
}

#[test]
fn fast_and_slow_nodes_exchange_all_traffic() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(3, Regime::R1);
    for (number, way) in [(1, "on"), (2, "off"), (3, "auto")] {
        cluster.flags = vec![format!("-fast-path={way}"), "-ip-masq".to_owned()];
        cluster.join(number);
    }
    for (a, b) in [(1, 2), (2, 3), (3, 1)] {
        cluster.await_path(a, b);
    }
    for regime in Regime::ALL {
        let before: Vec<_> = [1, 3].map(|n| (n, starts(&cluster, n))).into();
        change(&mut cluster, regime);
        await_starts(&cluster, &before);
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            cluster.await_path(a, b);
            exchange_all(&cluster, a, b);
        }
        assert!(carried(&cluster, 1).iter().all(|&count| count > 1_000));
        assert_eq!(carried(&cluster, 2), [0, 0], "{regime}");
        assert!(carried(&cluster, 3).iter().all(|&count| count > 1_000));
    }
}

#[test]
fn the_programs_and_kernel_vxlan_exchange_all_traffic() {
    if skips_test() {
        return;
    }
    for regime in Regime::ALL {
        let cluster = Cluster::weft_and_kernel_with(regime, &["-fast-path=on"]);
        await_starts(&cluster, &[(1, 0)]);
        exchange_all(&cluster, 1, 2);
        // What comes in with an outer checksum may belong between trains, for all that is known,
        // unless super-packets come whole.
        let [out, back] = carried(&cluster, 1);
        assert!(out > 1_000, "{regime}: {out}");
        assert!(back > 100 || regime != Regime::R1, "{regime}: {back}");
        if regime == Regime::R1 {
            assert_acknowledgments_are_taken(&cluster);
        }
    }
}

/// The kernel's tunnel sums up around what a device is to sum up in them, and the programs see that.
fn assert_acknowledgments_are_taken(cluster: &Cluster) {
    let received = || ["receives", "fast_receives"].map(|name| cluster.counter(1, name));
    // Super-packets come whole.
    tcp(cluster.pod(2), cluster.pod(1), 1, 1 << 20);
    let [all, fast] = received();
    tcp(cluster.pod(1), cluster.pod(2), 4, 8 << 20);
    let [all_then, fast_then] = received();
    let (all, fast) = (all_then - all, fast_then - fast);
    assert!(fast > all / 2, "{fast} of {all}");
}
