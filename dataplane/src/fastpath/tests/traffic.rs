//! What is counted of each peer.

use super::*;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use weft_lab::ip;

/// An underlay device whose neighbours are known, and which leads nowhere.
fn underlay() {
    ip("link set lo up").unwrap();
    ip("link add underlay type veth peer name far").unwrap();
    ip("addr add 192.168.0.9/24 dev underlay").unwrap();
    ip("addr add fd00::9/64 dev underlay nodad").unwrap();
    ip("link set underlay up").unwrap();
    ip("link set far up").unwrap();
    for neighbour in ["192.168.0.1", "192.168.0.2", "fd00::1"] {
        let line = format!("neigh add {neighbour} lladdr 02:00:00:00:00:01 dev underlay");
        ip(&line).unwrap();
    }
}

/// Send so many datagrams of 100 bytes.
fn send(to: &str, port: u16, count: usize) {
    let to: IpAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).unwrap();
    for _ in 0..count {
        socket.send_to(&[7; 100], (to, port)).unwrap();
    }
}

fn peers<const N: usize>(addrs: [&str; N]) -> BTreeSet<IpAddr> {
    addrs.map(|addr| addr.parse().unwrap()).into()
}

/// Packets and bytes that were sent to a peer, if it is counted.
fn sent(traffic: &PeerTraffic, peer: &str) -> Option<(u64, u64)> {
    let peer: IpAddr = peer.parse().unwrap();
    let all = traffic.read();
    let traffic = all.iter().find(|traffic| traffic.peer == peer)?;
    assert_eq!(traffic.received, Tally::default());
    Some((traffic.sent.packets, traffic.sent.bytes))
}

/// Bytes of headers before a datagram of each family.
const V4: u64 = 14 + 20 + 8;
const V6: u64 = 14 + 40 + 8;

#[test]
fn what_goes_to_the_port_of_peers_is_counted_and_nothing_else() {
    isolated(|| {
        underlay();
        let mut traffic = PeerTraffic::start("underlay", PORT).unwrap();
        send("192.168.0.1", PORT, 1);
        assert_eq!(traffic.read(), []);
        traffic.count(peers(["192.168.0.1", "fd00::1"])).unwrap();
        send("192.168.0.1", PORT, 3);
        send("192.168.0.1", PORT + 1, 5);
        send("192.168.0.2", PORT, 5);
        send("fd00::1", PORT, 2);
        assert_eq!(sent(&traffic, "192.168.0.1"), Some((3, 3 * (100 + V4))));
        assert_eq!(sent(&traffic, "fd00::1"), Some((2, 2 * (100 + V6))));
        assert_eq!(sent(&traffic, "192.168.0.2"), None);

        // Who stays goes on, and who comes back begins anew.
        traffic.count(peers(["fd00::1", "192.168.0.2"])).unwrap();
        send("192.168.0.2", PORT, 1);
        assert_eq!(sent(&traffic, "192.168.0.1"), None);
        assert_eq!(sent(&traffic, "192.168.0.2"), Some((1, 100 + V4)));
        assert_eq!(sent(&traffic, "fd00::1"), Some((2, 2 * (100 + V6))));
        traffic.count(peers(["192.168.0.1"])).unwrap();
        assert_eq!(sent(&traffic, "192.168.0.1"), Some((0, 0)));
    });
}

#[test]
fn a_device_that_is_made_anew_is_counted_on_beside_what_was_counted() {
    isolated(|| {
        underlay();
        let mut traffic = PeerTraffic::start("underlay", PORT).unwrap();
        traffic.count(peers(["192.168.0.1"])).unwrap();
        send("192.168.0.1", PORT, 1);
        assert!(traffic.is_on("underlay"));
        assert!(!traffic.is_on("far"));
        ip("link del underlay").unwrap();
        assert!(!traffic.is_on("underlay"));
        underlay();
        assert!(!traffic.is_on("underlay"));
        send("192.168.0.1", PORT, 1);
        traffic.move_to("underlay").unwrap();
        assert!(traffic.is_on("underlay"));
        send("192.168.0.1", PORT, 1);
        assert_eq!(sent(&traffic, "192.168.0.1"), Some((2, 2 * (100 + V4))));
    });
}

#[test]
fn programs_that_count_end_with_who_counts() {
    isolated(|| {
        underlay();
        let index = index_of("underlay").unwrap();
        let programs = || {
            use crate::sys::tc::{Direction, tcx_programs};
            [Direction::Ingress, Direction::Egress]
                .map(|direction| tcx_programs(index, direction).unwrap().len())
        };
        let traffic = PeerTraffic::start("underlay", PORT).unwrap();
        assert_eq!(programs(), [1, 1]);
        drop(traffic);
        assert_eq!(programs(), [0, 0]);
    });
}
