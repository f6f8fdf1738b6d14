//! Hosts, pods and networks that are unusual to the programs.

use super::await_starts;
use crate::capture::Capture;
use crate::cluster::{Cluster, NEWS};
use crate::errors::Errors;
use crate::pods::{exchange, exchange_fragments};
use crate::traffic::{tcp, tcp_over, udp, udp_super};
use std::net::Ipv4Addr;
use weft_lab::topology::ping;
use weft_lab::{Pod, Regime, skips_test, wait_until};

fn cluster(nodes: usize, regime: Regime) -> Cluster {
    let cluster = Cluster::of_weft_with(nodes, regime, &["-fast-path=on"]);
    let starts: Vec<_> = (1..=nodes).map(|number| (number, 0)).collect();
    await_starts(&cluster, &starts);
    cluster
}

/// Set a sysctl of all of a node's devices, also those to come.
fn set_all(cluster: &Cluster, key: &str) {
    for node in cluster.lab.nodes() {
        for device in ["all", "default", "eth0", "cni0", "flannel.1"] {
            let key = format!("net/ipv4/conf/{device}/{key}");
            node.ns.sysctl(&key, "1").unwrap();
        }
    }
}

#[test]
fn hosts_that_check_where_packets_come_from_take_those_of_the_programs() {
    if skips_test() {
        return;
    }
    let cluster = cluster(2, Regime::R1);
    set_all(&cluster, "rp_filter");
    let errors = Errors::of(&cluster);
    exchange(&cluster, 1, 2);
    errors.assert_none_since(&cluster);
}

/// The device of a node whose agent has gone is one without a link.
#[test]
fn where_routes_without_a_link_do_not_count_forwarding_ends_with_the_agent() {
    if skips_test() {
        return;
    }
    let mut cluster = cluster(2, Regime::R1);
    set_all(&cluster, "ignore_routes_with_linkdown");
    exchange(&cluster, 1, 2);
    let (from, to) = (cluster.pod(1).clone(), cluster.pod(2).address);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.kill().unwrap();
    let ends = || ping(&from.ns, to, 1, 56, false).is_err();
    assert!(wait_until(NEWS, ends), "docs/fast-path.md says otherwise");
    agent.start_again().unwrap();
    agent.wait_written().unwrap();
    cluster.await_path(1, 2);
}

#[test]
fn super_packets_go_on_to_devices_that_cut_and_sum_nothing() {
    if skips_test() {
        return;
    }
    let cluster = cluster(2, Regime::R1);
    for (number, words) in [(1, "tso off"), (2, "tso off gso off sg off tx off")] {
        let words: Vec<_> = words.split(' ').collect();
        let command = [&["ethtool", "-K", "cni0"], &words[..]].concat();
        cluster.lab.node(number).ns.run(&command).unwrap();
    }
    let errors = Errors::of(&cluster);
    let capture = Capture::of_pod(&cluster.lab, 2);
    tcp(cluster.pod(1), cluster.pod(2), 3, 2 << 20);
    let frames = capture.frames();
    let to_pod = cluster.pod(2).address.to_string();
    let arrived = frames
        .iter()
        .filter(|f| f.all("ip.dst").ends_with(std::slice::from_ref(&to_pod)));
    let mut count = 0;
    for frame in arrived {
        count += 1;
        assert!(frame.number("frame.len", 0) <= 1_450 + 14, "{frame:?}");
        assert_eq!(frame.text("ip.checksum.status", 0), "1", "{frame:?}");
        // A sum of 0 stored as 0xffff is as good, but not to tshark.
        if frame.all("tcp.checksum") != ["0xffff"] {
            assert_eq!(frame.all("tcp.checksum.status"), ["1"], "{frame:?}");
        }
    }
    assert!(count > 4_000, "{count} segments");
    exchange(&cluster, 1, 2);
    errors.assert_none_since(&cluster);
}

/// Node 2 sends what pods of node 1 ask of it on to a pod of node 3, as a service would.
#[test]
fn what_came_by_the_tunnel_goes_back_into_it() {
    if skips_test() {
        return;
    }
    let cluster = cluster(3, Regime::R1);
    let (client, server) = (cluster.pod(1), cluster.pod(3));
    let service = Ipv4Addr::from(u32::from(cluster.pod(2).address) + 98);
    let (node, behind) = (&cluster.lab.node(2).ns, server.address);
    for rule in [
        "add table ip service",
        "add chain ip service to { type nat hook prerouting priority -100; }",
        "add chain ip service from { type nat hook postrouting priority 100; }",
        &format!("add rule ip service to ip daddr {service} dnat to {behind}"),
        &format!("add rule ip service from ip daddr {behind} masquerade"),
    ] {
        node.run(&["nft", rule]).unwrap();
    }
    let errors = Errors::of(&cluster);
    ping(&client.ns, service, 5, 1_422, true).unwrap();
    tcp_over(client, server, service, 8, 4 << 20);
    errors.assert_none_since(&cluster);
}

/// An overlay of the pods' own, on this port.
fn nest(cluster: &Cluster, port: u16) -> [Pod; 2] {
    [(1, 2), (2, 1)].map(|(own, other)| {
        let (pod, remote) = (cluster.pod(own), cluster.pod(other).address);
        let (local, address) = (pod.address, Ipv4Addr::new(10, 88, 0, own as u8));
        for words in [
            format!("link add inner mtu 1400 type vxlan id 9 local {local} remote {remote} dstport {port}"),
            format!("addr add {address}/24 dev inner"),
            "link set inner up".to_owned(),
        ] {
            pod.ns.ip(&words).unwrap();
        }
        let ns = pod.ns.clone();
        Pod { ns, address }
    })
}

#[test]
fn pods_have_a_kernel_vxlan_of_their_own() {
    if skips_test() {
        return;
    }
    for (regime, port) in [
        (Regime::R1, 4_789),
        (Regime::R3, 4_789),
        (Regime::R1, 8_472),
    ] {
        let cluster = cluster(2, regime);
        let errors = Errors::of(&cluster);
        let [a, b] = nest(&cluster, port);
        for (from, to) in [(&a, &b), (&b, &a)] {
            ping(&from.ns, to.address, 5, 1_372, true).unwrap();
            tcp(from, to, 8, 2 << 20);
            udp(from, to, &[0, 64, 1_372, 8_000], 20);
            udp_super(from, to, 1_200, 40, 77);
        }
        exchange_fragments(&cluster, 1, 2);
        errors.assert_none_since(&cluster);
    }
}
