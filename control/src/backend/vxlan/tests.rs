use super::*;
use crate::lease::{LeaseAttrs, VxlanData};
use ipnet::Ipv4Net;
use serde_json::value::RawValue;
use weft_dataplane::route::table::Admission;
use weft_dataplane::wire::frame::Wire;

const OWN: u8 = 1;
const PORT: u16 = 8472;

fn subnet(n: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 5, n, 0), 24).unwrap()
}

fn vxlan() -> Vxlan {
    let overlay = Overlay {
        wire: Wire::Vxlan,
        vni: 1,
        local_mac: mac(OWN),
        network_v4: Some("10.5.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: None,
        subnet_len_v6: 64,
        own_v4: Some(subnet(OWN)),
        own_v6: None,
        admission: Admission::Strict,
    };
    Vxlan::new(overlay, PORT)
}

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

/// The lease of node `n`: subnet 10.5.n.0/24, address 192.0.2.n, MAC ending in `mac`.
fn lease(n: u8, last: u8) -> Lease {
    let data = VxlanData {
        vni: 1,
        vtep_mac: mac(last),
    };
    Lease {
        subnet: Some(subnet(n)),
        subnet_v6: None,
        attrs: LeaseAttrs::vxlan(Some((Ipv4Addr::new(192, 0, 2, n), data)), None),
        expires: None,
        revision: 1,
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

/// The table's answer for a pod of node `n`: last bytes of the peer's address and MAC.
fn reach(vxlan: &Vxlan, n: u8) -> Option<(u8, u8)> {
    let table = vxlan.table().unwrap();
    let id = table.lookup_v4(Ipv4Addr::new(10, 5, n, 7))?;
    let peer = table.peer(id);
    assert_eq!(peer.addr.port(), PORT);
    match peer.addr.ip() {
        std::net::IpAddr::V4(addr) => Some((addr.octets()[3], peer.mac[5])),
        std::net::IpAddr::V6(_) => None,
    }
}

#[test]
fn puts_and_deletes() {
    let mut vxlan = vxlan();
    assert_eq!(reach(&vxlan, 2), None);
    assert!(vxlan.apply(LeaseEvent::Put(lease(2, 2))));
    assert!(vxlan.apply(LeaseEvent::Put(lease(3, 3))));
    assert_eq!(reach(&vxlan, 2), Some((2, 2)));
    assert_eq!(reach(&vxlan, 3), Some((3, 3)));
    assert_eq!(reach(&vxlan, 4), None);
    assert!(vxlan.apply(LeaseEvent::Delete(subnet(2).into())));
    assert_eq!(reach(&vxlan, 2), None);
    assert_eq!(vxlan.peers(), 1);
}

#[test]
fn renewals_and_unknown_deletions_change_nothing() {
    let mut vxlan = vxlan();
    vxlan.apply(LeaseEvent::Put(lease(2, 2)));
    let mut renewed = lease(2, 2);
    renewed.revision = 9;
    assert!(!vxlan.apply(LeaseEvent::Put(renewed.clone())));
    assert!(!vxlan.apply(LeaseEvent::Snapshot(vec![renewed])));
    assert!(!vxlan.apply(LeaseEvent::Delete(subnet(9).into())));
}

#[test]
fn a_snapshot_is_the_whole_truth() {
    let mut vxlan = vxlan();
    let first = vec![lease(2, 2), lease(3, 3), lease(4, 4)];
    assert!(vxlan.apply(LeaseEvent::Snapshot(first)));
    let mut moved = lease(4, 4);
    moved.attrs.public_ip = Ipv4Addr::new(192, 0, 2, 44);
    let second = vec![lease(3, 33), moved, lease(5, 5)];
    assert!(vxlan.apply(LeaseEvent::Snapshot(second)));
    assert_eq!(reach(&vxlan, 2), None, "gone");
    assert_eq!(reach(&vxlan, 3), Some((3, 33)), "another MAC");
    assert_eq!(reach(&vxlan, 4), Some((44, 4)), "another address");
    assert_eq!(reach(&vxlan, 5), Some((5, 5)), "new");
    assert!(vxlan.apply(LeaseEvent::Snapshot(Vec::new())));
    assert_eq!(vxlan.peers(), 0);
}

#[test]
fn a_new_mac_replaces_the_old() {
    let mut vxlan = vxlan();
    vxlan.apply(LeaseEvent::Put(lease(2, 2)));
    assert!(vxlan.apply(LeaseEvent::Put(lease(2, 22))));
    assert_eq!(reach(&vxlan, 2), Some((2, 22)));
    assert_eq!(vxlan.peers(), 1);
}

#[test]
fn the_own_lease_is_no_peer() {
    let mut vxlan = vxlan();
    assert!(!vxlan.apply(LeaseEvent::Put(lease(OWN, OWN))));
    assert!(!vxlan.apply(LeaseEvent::Snapshot(vec![lease(OWN, OWN)])));
    assert_eq!(reach(&vxlan, OWN), None);
}

#[test]
fn malformed_data_never_removes_a_peer() {
    let mut vxlan = vxlan();
    vxlan.apply(LeaseEvent::Put(lease(2, 2)));
    let malformed = ["{}", "[]", "7", r#"{"VNI":1,"VtepMAC":"nonsense"}"#];
    for data in malformed {
        assert!(!vxlan.apply(LeaseEvent::Put(with_data(2, data))));
        assert!(!vxlan.apply(LeaseEvent::Snapshot(vec![with_data(2, data)])));
        assert_eq!(reach(&vxlan, 2), Some((2, 2)));
        assert!(!vxlan.apply(LeaseEvent::Put(with_data(3, data))));
        assert_eq!(reach(&vxlan, 3), None, "nothing was known of it");
    }
    for addr in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let mut odd = lease(2, 9);
        odd.attrs.public_ip = addr.parse().unwrap();
        assert!(!vxlan.apply(LeaseEvent::Put(odd)));
        assert_eq!(reach(&vxlan, 2), Some((2, 2)));
    }
    assert!(vxlan.apply(LeaseEvent::Put(lease(2, 22))), "healed");
    assert_eq!(reach(&vxlan, 2), Some((2, 22)));
}

#[test]
fn other_backends_are_skipped_and_do_not_disturb() {
    let mut vxlan = vxlan();
    let leases = vec![lease(2, 2), of_type(3, "host-gw"), of_type(4, "")];
    assert!(vxlan.apply(LeaseEvent::Snapshot(leases)));
    assert_eq!(vxlan.peers(), 1);
    assert!(vxlan.apply(LeaseEvent::Put(of_type(2, "wireguard"))));
    assert_eq!(reach(&vxlan, 2), None, "it no longer speaks VXLAN");
}

#[test]
fn each_reason_is_complained_about_once() {
    let mut vxlan = vxlan();
    vxlan.apply(LeaseEvent::Put(of_type(3, "host-gw")));
    let complaint = vxlan.complaints.clone();
    assert_eq!(complaint.len(), 1);
    vxlan.apply(LeaseEvent::Snapshot(vec![of_type(3, "host-gw")]));
    assert_eq!(vxlan.complaints, complaint);
    vxlan.apply(LeaseEvent::Put(of_type(3, "ipip")));
    assert_ne!(vxlan.complaints, complaint);
    vxlan.apply(LeaseEvent::Put(lease(3, 3)));
    assert!(vxlan.complaints.is_empty(), "healed");
    vxlan.apply(LeaseEvent::Put(of_type(3, "ipip")));
    vxlan.apply(LeaseEvent::Snapshot(Vec::new()));
    assert!(vxlan.complaints.is_empty(), "gone");
}
