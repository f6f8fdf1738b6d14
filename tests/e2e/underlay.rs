//! Underlays whose addresses are of an unusual kind.

use crate::cluster::{Cluster, ENGINES};
use crate::dual_stack::{V6_ONLY, config, empty, exchange6, join};
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test};

/// As on hosts that tell routers the way to an address of theirs, by whatever interface.
#[test]
fn r85_a_public_ip_of_the_loopback_interface_is_sent_from() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    for (number, other) in [(1, 2), (2, 1)] {
        let ns = cluster.lab.node(number).ns.clone();
        for words in [
            format!("address add 10.255.0.{number}/32 dev lo"),
            format!("route add 10.255.0.{other}/32 via 10.99.0.{other}"),
        ] {
            ns.ip(&words).unwrap();
        }
        cluster.flags = vec![format!("-public-ip=10.255.0.{number}")];
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    for (from, to) in [(1, 2), (2, 1)] {
        let address = cluster.pod(to).address;
        ping(&cluster.pod(from).ns, address, 5, 1_402, true).unwrap();
        assert_eq!(cluster.counter(to, "drop_unknown_sender"), 0);
        assert_eq!(cluster.counter(to, "drop_spoofed_source"), 0);
    }
}

/// Give nodes the address fe80::<number>, and nothing else of IPv6. Another interface of theirs
/// has a route to the same prefix, which the kernel prefers.
fn link_local(kind: &str, flags: &[&str]) -> Cluster {
    let cluster = empty(&config(V6_ONLY, kind), flags);
    for node in cluster.lab.nodes() {
        let address = format!("-6 address add fe80::{}/64 dev eth0 nodad", node.number);
        for words in [
            "-6 address flush dev eth0",
            "link add other type veth peer name other.p",
            "link set other.p up",
            "link set other up",
            "-6 address add fe80::99/64 dev other nodad",
            &address,
        ] {
            node.ns.ip(words).unwrap();
        }
    }
    cluster
}

#[test]
fn a_link_local_underlay_carries_ipv6() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = link_local("vxlan", &[engine, "-outer-df"]);
        let [a, b] = [1, 2].map(|number| join(&mut cluster, number));
        exchange6(&a, &b);
    }
}

#[test]
fn host_gw_routes_through_link_local_addresses() {
    if skips_test() {
        return;
    }
    let mut cluster = link_local("host-gw", &[]);
    let [a, b] = [1, 2].map(|number| join(&mut cluster, number));
    exchange6(&a, &b);
    let shown = cluster.lab.node(1).ns.ip("-6 route show").unwrap();
    assert!(shown.contains("via fe80::2 dev eth0"), "{shown}");
}
