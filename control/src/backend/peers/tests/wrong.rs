//! Leases that can be read and are wrong, alone or together with others.

use super::*;

/// The lease of node `n` for these subnets.
fn of(n: u8, key: &str) -> Lease {
    let key: SubnetKey = key.parse().unwrap();
    Lease {
        subnet: key.v4,
        subnet_v6: key.v6,
        ..dual(n, n)
    }
}

fn logged(peers: &mut PeerSet) -> Vec<String> {
    warnings(std::iter::once(peers))
}

/// What is said of a lease that is listed, written again and listed again.
fn said_of(peers: &mut PeerSet, lease: &Lease) -> Vec<String> {
    let snapshot = LeaseEvent::Snapshot(vec![lease.clone()]);
    let mut lines = Vec::new();
    for event in [snapshot.clone(), put(lease.clone()), snapshot] {
        peers.take_in(&[event]);
        lines.extend(logged(peers));
    }
    lines
}

#[test]
fn leases_outside_the_network_or_inside_the_own_subnet_are_skipped_with_one_line() {
    for backend in ["vxlan", "host-gw", ""] {
        for (family, key, reason) in [
            (
                Family::V4,
                "192.0.2.0-24",
                "192.0.2.0/24 is not inside Network 10.5.0.0/16",
            ),
            (
                Family::V4,
                "10.4.0.0-15",
                "10.4.0.0/15 is not inside Network 10.5.0.0/16",
            ),
            (
                Family::V4,
                "10.5.1.128-25",
                "10.5.1.128/25 overlaps 10.5.1.0/24, this node's own subnet",
            ),
            (
                Family::V4,
                "10.5.0.0-16",
                "10.5.0.0/16 overlaps 10.5.1.0/24, this node's own subnet",
            ),
            (
                Family::V4,
                "10.5.1.0-24&fd00:5:0:2::-64",
                "10.5.1.0/24 overlaps 10.5.1.0/24, this node's own subnet",
            ),
            (
                Family::V6,
                "10.5.2.0-24&2001:db8::-64",
                "2001:db8::/64 is not inside Network fd00:5::/32",
            ),
            (
                Family::V6,
                "10.5.2.0-24&fd00:5:0:1:8000::-65",
                "fd00:5:0:1:8000::/65 overlaps fd00:5:0:1::/64, this node's own subnet",
            ),
        ] {
            let mut peers = peers_of(family, backend);
            let mut lease = of(2, key);
            lease.attrs.backend_type = backend.to_owned();
            let line = format!("lease {key} of 192.0.2.2: {reason}; skipped");
            assert_eq!(said_of(&mut peers, &lease), [line], "{backend}");
            assert_eq!(peers.len(), 0, "{key}, {backend}");
        }
    }
}

#[test]
fn a_lease_of_both_families_is_complained_about_in_one_line() {
    let (mut four, mut six) = (peers(), peers_of(Family::V6, "vxlan"));
    let mut other = dual(2, 2);
    other.attrs.backend_type = "host-gw".to_owned();
    let all = [
        put(other),
        put(of(3, "192.0.2.0-24&2001:db8::-64")),
        put(of(4, "10.5.4.0-24&2001:db8:4::-64")),
    ];
    for peers in [&mut four, &mut six] {
        peers.take_in(&all);
    }
    let lines = warnings([&mut four, &mut six].into_iter());
    assert_eq!(
        lines,
        [
            "lease 10.5.2.0-24&fd00:5:0:2::-64 of 192.0.2.2: its backend is host-gw, not vxlan; this node cannot reach it; skipped",
            "lease 10.5.4.0-24&2001:db8:4::-64 of 192.0.2.4: 2001:db8:4::/64 is not inside Network fd00:5::/32; skipped",
            "lease 192.0.2.0-24&2001:db8::-64 of 192.0.2.3: 192.0.2.0/24 is not inside Network 10.5.0.0/16; skipped; 2001:db8::/64 is not inside Network fd00:5::/32; skipped",
        ]
    );
    assert_eq!((four.len(), six.len()), (1, 0), "the good half is used");
    assert!(warnings([&mut four, &mut six].into_iter()).is_empty());
}

#[test]
fn what_a_lease_inside_anothers_takes_is_told_once() {
    let mut peers = peers();
    let enclosing = of(3, "10.5.8.0-21");
    let snapshot = |leases: &[Lease]| LeaseEvent::Snapshot(leases.to_vec());
    let all = [
        enclosing.clone(),
        lease(8, 8),
        of(4, "10.5.8.128-25"),
        lease(9, 9),
    ];
    peers.take_in(&[snapshot(&all)]);
    assert_eq!(
        logged(&mut peers),
        [
            "lease 10.5.8.0-21 of 192.0.2.3: 10.5.8.0/24 of 192.0.2.8 lies inside its subnet, and 1 more; packets to that part go there",
            "lease 10.5.8.0-24 of 192.0.2.8: 10.5.8.128/25 of 192.0.2.4 lies inside its subnet; packets to that part go there",
        ]
    );
    assert_eq!(peers.len(), 4, "all are peers: the longest prefix decides");
    peers.take_in(&[put(enclosing.clone()), snapshot(&all), put(lease(20, 20))]);
    assert_eq!(logged(&mut peers), [""; 0]);

    // Gone, and back.
    peers.take_in(&[LeaseEvent::Delete(enclosing.key())]);
    assert_eq!(logged(&mut peers), [""; 0]);
    peers.take_in(&[put(enclosing)]);
    assert_eq!(logged(&mut peers).len(), 1);
}

#[test]
fn the_leases_of_one_node_may_lie_inside_each_other() {
    let mut peers = peers();
    peers.take_in(&[put(lease(8, 8)), put(of(8, "10.5.8.0-24&fd00:5:0:8::-64"))]);
    assert_eq!(logged(&mut peers), [""; 0]);
}

#[test]
fn a_backend_type_of_any_content_is_part_of_one_short_line() {
    let mut peers = peers_of(Family::V4, "vxlan");
    let mut lease = of(2, "10.5.2.0-24");
    for found in ["x\n2026-01-01T00:00:00Z ERROR forged", &"x".repeat(1 << 20)] {
        lease.attrs.backend_type = found.to_owned();
        let lines = said_of(&mut peers, &lease);
        assert_eq!(lines.len(), 1, "{}", lines.len());
        assert!(
            lines[0].len() < 300 && !lines[0].contains('\n'),
            "{lines:.300?}"
        );
    }
}
