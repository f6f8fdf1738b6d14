mod wrong;

use super::*;
use crate::lease::{LeaseAttrs, VxlanData};
use crate::wire::Vni;
use serde_json::value::RawValue;
use std::net::{Ipv4Addr, Ipv6Addr};

const OWN: u8 = 1;

fn key(n: u8) -> SubnetKey {
    format!("10.5.{n}.0-24").parse().unwrap()
}

fn peers_of(family: Family, backend: &'static str) -> PeerSet {
    let (network, own) = match family {
        Family::V4 => ("10.5.0.0/16", format!("10.5.{OWN}.0/24")),
        Family::V6 => ("fd00:5::/32", format!("fd00:5:0:{OWN}::/64")),
    };
    let kind = PeerKind {
        family,
        backend,
        has_mac: backend == "vxlan",
    };
    PeerSet::new(kind, network.parse().unwrap(), own.parse().unwrap())
}

fn peers() -> PeerSet {
    peers_of(Family::V4, "vxlan")
}

fn data(last: u8) -> VxlanData {
    VxlanData {
        vni: Vni::new(1).unwrap(),
        vtep_mac: MacAddr([2, 0, 0, 0, 0, last]),
    }
}

fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

fn v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())
}

/// The lease of node `n`: subnet 10.5.n.0/24, address 192.0.2.n, MAC ending in `mac`.
fn lease(n: u8, mac: u8) -> Lease {
    Lease {
        subnet: key(n).v4,
        subnet_v6: None,
        attrs: LeaseAttrs::vxlan(Some((v4(n), data(mac))), None),
        expires: None,
        revision: 1,
    }
}

/// As [`lease`], with subnet fd00:5:0:n::/64 and address 2001:db8::n, too, whose MAC ends in
/// `mac` plus 100.
fn dual(n: u8, mac: u8) -> Lease {
    Lease {
        subnet_v6: Some(format!("fd00:5:0:{n}::/64").parse().unwrap()),
        attrs: LeaseAttrs::vxlan(Some((v4(n), data(mac))), Some((v6(n), data(mac + 100)))),
        ..lease(n, mac)
    }
}

fn with_data(n: u8, data: &str) -> Lease {
    let mut lease = lease(n, n);
    lease.attrs.backend_data = Some(RawValue::from_string(data.to_owned()).unwrap());
    lease
}

fn of_type(n: u8, backend: &str) -> Lease {
    let mut lease = lease(n, n);
    lease.attrs.backend_type = backend.to_owned();
    lease
}

fn put(lease: Lease) -> LeaseEvent {
    LeaseEvent::Put(lease)
}

/// How node `n` is reached: last bytes of its address and MAC.
fn reach(peers: &PeerSet, n: u8) -> Option<(u8, u8)> {
    let subnets = [format!("10.5.{n}.0/24"), format!("fd00:5:0:{n}::/64")];
    let subnets = subnets.map(|subnet| subnet.parse::<IpNet>().unwrap());
    let peer = peers.iter().find(|peer| subnets.contains(&peer.subnet))?;
    let last = match peer.addr {
        IpAddr::V4(addr) => addr.octets()[3],
        IpAddr::V6(addr) => addr.octets()[15],
    };
    Some((last, peer.mac.0[5]))
}

#[test]
fn puts_and_deletes() {
    let mut peers = peers();
    assert_eq!(reach(&peers, 2), None);
    assert!(peers.apply(&put(lease(2, 2))));
    assert!(peers.apply(&put(lease(3, 3))));
    assert_eq!(reach(&peers, 2), Some((2, 2)));
    assert_eq!(reach(&peers, 3), Some((3, 3)));
    assert_eq!(reach(&peers, 4), None);
    assert!(peers.apply(&LeaseEvent::Delete(key(2))));
    assert_eq!(reach(&peers, 2), None);
    assert_eq!(peers.len(), 1);
}

#[test]
fn renewals_and_unknown_deletions_change_nothing() {
    let mut peers = peers();
    peers.apply(&put(lease(2, 2)));
    let mut renewed = lease(2, 2);
    renewed.revision = 9;
    assert!(!peers.apply(&put(renewed.clone())));
    assert!(!peers.apply(&LeaseEvent::Snapshot(vec![renewed])));
    assert!(!peers.apply(&LeaseEvent::Delete(key(9))));
}

#[test]
fn a_snapshot_is_the_whole_truth() {
    let mut peers = peers();
    let first = vec![lease(2, 2), lease(3, 3), lease(4, 4)];
    assert!(peers.apply(&LeaseEvent::Snapshot(first)));
    let mut moved = lease(4, 4);
    moved.attrs.public_ip = v4(44);
    let second = vec![lease(3, 33), moved, lease(5, 5)];
    assert!(peers.apply(&LeaseEvent::Snapshot(second)));
    assert_eq!(reach(&peers, 2), None, "gone");
    assert_eq!(reach(&peers, 3), Some((3, 33)), "another MAC");
    assert_eq!(reach(&peers, 4), Some((44, 4)), "another address");
    assert_eq!(reach(&peers, 5), Some((5, 5)), "new");
    assert!(peers.apply(&LeaseEvent::Snapshot(Vec::new())));
    assert_eq!(peers.len(), 0);
}

#[test]
fn a_new_mac_replaces_the_old() {
    let mut peers = peers();
    peers.apply(&put(lease(2, 2)));
    assert!(peers.apply(&put(lease(2, 22))));
    assert_eq!(reach(&peers, 2), Some((2, 22)));
    assert_eq!(peers.len(), 1);
}

#[test]
fn the_own_lease_is_no_peer() {
    for mut peers in [peers(), peers_of(Family::V6, "vxlan")] {
        assert!(!peers.apply(&put(dual(OWN, OWN))));
        assert!(!peers.apply(&LeaseEvent::Snapshot(vec![dual(OWN, OWN)])));
        assert_eq!(reach(&peers, OWN), None);
    }
}

#[test]
fn each_family_has_its_own_peers() {
    let (mut four, mut six) = (peers(), peers_of(Family::V6, "vxlan"));
    let mut v6_only = dual(4, 4);
    v6_only.subnet = None;
    v6_only.attrs = LeaseAttrs::vxlan(None, Some((v6(4), data(104))));
    let all = LeaseEvent::Snapshot(vec![lease(2, 2), dual(3, 3), v6_only]);
    assert!(four.apply(&all));
    assert!(six.apply(&all));
    let reached = |peers: &PeerSet| [2, 3, 4].map(|n| reach(peers, n));
    assert_eq!(reached(&four), [Some((2, 2)), Some((3, 3)), None]);
    assert_eq!(reached(&six), [None, Some((3, 103)), Some((4, 104))]);
}

#[test]
fn malformed_data_never_removes_a_peer() {
    let mut peers = peers();
    peers.apply(&put(lease(2, 2)));
    let malformed = ["{}", "[]", "7", r#"{"VNI":1,"VtepMAC":"nonsense"}"#];
    for data in malformed {
        assert!(!peers.apply(&put(with_data(2, data))));
        assert!(!peers.apply(&LeaseEvent::Snapshot(vec![with_data(2, data)])));
        assert_eq!(reach(&peers, 2), Some((2, 2)));
        assert!(!peers.apply(&put(with_data(3, data))));
        assert_eq!(reach(&peers, 3), None, "nothing was known of it");
    }
    for addr in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let mut odd = lease(2, 9);
        odd.attrs.public_ip = addr.parse().unwrap();
        assert!(!peers.apply(&put(odd)));
        assert_eq!(reach(&peers, 2), Some((2, 2)));
    }
    assert!(peers.apply(&put(lease(2, 22))), "healed");
    assert_eq!(reach(&peers, 2), Some((2, 22)));
}

#[test]
fn other_backends_are_skipped_and_do_not_disturb() {
    let mut peers = peers();
    let leases = vec![lease(2, 2), of_type(3, "host-gw"), of_type(4, "")];
    assert!(peers.apply(&LeaseEvent::Snapshot(leases)));
    assert_eq!(peers.len(), 1);
    assert!(peers.apply(&put(of_type(2, "wireguard"))));
    assert_eq!(reach(&peers, 2), None, "it no longer speaks VXLAN");
}

#[test]
fn host_gw_needs_no_data() {
    let mut peers = peers_of(Family::V4, "host-gw");
    let mut host_gw = lease(2, 2);
    host_gw.attrs = LeaseAttrs::host_gw(Some(v4(2)), None);
    assert!(peers.apply(&put(host_gw)));
    assert!(!peers.apply(&put(lease(3, 3))));
    assert_eq!(reach(&peers, 2), Some((2, 0)));
    assert_eq!(peers.len(), 1);
}

#[test]
fn each_reason_is_complained_about_once() {
    let mut peers = peers();
    peers.apply(&put(of_type(3, "host-gw")));
    let complaint = peers.complaints.clone();
    assert_eq!(complaint.len(), 1);
    peers.apply(&LeaseEvent::Snapshot(vec![of_type(3, "host-gw")]));
    assert_eq!(peers.complaints, complaint);
    peers.apply(&put(of_type(3, "ipip")));
    assert_ne!(peers.complaints, complaint);
    peers.apply(&put(lease(3, 3)));
    assert!(peers.complaints.is_empty(), "healed");
    peers.apply(&put(of_type(3, "ipip")));
    peers.apply(&LeaseEvent::Snapshot(Vec::new()));
    assert!(peers.complaints.is_empty(), "gone");
}
