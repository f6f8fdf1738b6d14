use super::*;
use crate::route::table::Route;
use crate::route::table::tests::{overlay, peer, route};
use proptest::prelude::*;

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Peer 1 has 10.1.1.0/24, 10.1.9.0/24 (by a second MAC) and fd00:0:0:1::/64; peer 2 has
/// 10.1.2.0/24 and fd00:0:0:2::/64; a part of peer 1's subnet went to peer 2.
fn routes() -> [Route; 6] {
    [
        route("10.1.1.0/24", peer(1, 1)),
        route("10.1.9.0/24", peer(1, 9)),
        route("fd00:0:0:1::/64", peer(1, 1)),
        route("10.1.2.0/24", peer(2, 2)),
        route("fd00:0:0:2::/64", peer(2, 2)),
        route("10.1.1.128/25", peer(2, 2)),
    ]
}

fn table(admission: Admission) -> Table {
    let overlay = Overlay {
        admission,
        ..overlay()
    };
    Table::build(overlay, &routes()).unwrap()
}

fn headers(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![0x08, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0];
    frame.extend(overlay().local_mac.0);
    frame.extend(PEER_MAC);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// A frame with an IPv4 packet of 28 bytes, ECT(1).
fn frame_v4(source: &str) -> Vec<u8> {
    let mut frame = headers(0x0800);
    frame.extend([0x45, 0x01, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.parse::<std::net::Ipv4Addr>().unwrap().octets());
    frame.extend([10, 9, 9, 9]);
    frame.extend([0; 8]);
    frame
}

/// A frame with an IPv6 packet of 48 bytes, CE.
fn frame_v6(source: &str) -> Vec<u8> {
    let mut frame = headers(0x86dd);
    frame.extend([0x60, 0x30, 0, 0, 0, 8, 17, 64]);
    frame.extend(source.parse::<std::net::Ipv6Addr>().unwrap().octets());
    frame.extend([0; 16]);
    frame.extend([0; 8]);
    frame
}

fn admit(table: &Table, outer: &str, frame: &[u8]) -> Result<InnerPacket, DropReason> {
    sender(table, outer.parse().unwrap())?.frame(table, frame)
}

const PEER_1: &str = "192.168.0.1";
const PEER_2: &str = "192.168.0.2";

#[test]
fn what_a_peer_may_send() {
    let table = table(Admission::Strict);
    let v4 = InnerPacket {
        ip_offset: 22,
        ip_len: 28,
        v6: false,
        ecn: Ecn::Ect1,
    };
    let v6 = InnerPacket {
        ip_offset: 22,
        ip_len: 48,
        v6: true,
        ecn: Ecn::Ce,
    };
    assert_eq!(admit(&table, PEER_1, &frame_v4("10.1.1.5")), Ok(v4));
    assert_eq!(admit(&table, PEER_1, &frame_v6("fd00:0:0:1::5")), Ok(v6));
    let mapped = "::ffff:192.168.0.1";
    assert_eq!(admit(&table, mapped, &frame_v4("10.1.1.5")), Ok(v4));
    // Its flannel device, which has the first address of the subnet.
    assert_eq!(admit(&table, PEER_1, &frame_v4("10.1.1.0")), Ok(v4));
    // A subnet of the same node under another MAC.
    assert_eq!(admit(&table, PEER_1, &frame_v4("10.1.9.5")), Ok(v4));
    // A host, or traffic masqueraded as one.
    assert_eq!(admit(&table, PEER_1, &frame_v4("192.168.0.1")), Ok(v4));
    assert_eq!(admit(&table, PEER_2, &frame_v6("2001:db8::1")), Ok(v6));
}

#[test]
fn whose_sources_a_peer_may_not_use() {
    let table = table(Admission::Strict);
    for (outer, frame) in [
        (PEER_2, frame_v4("10.1.1.5")),
        (PEER_2, frame_v6("fd00:0:0:1::5")),
        // The part of its subnet that is routed to another.
        (PEER_1, frame_v4("10.1.1.200")),
        // Ours, whichever address of it.
        (PEER_1, frame_v4("10.9.9.1")),
        (PEER_1, frame_v4("10.9.9.255")),
        (PEER_1, frame_v6("fd00:0:0:909::1")),
        // Inside the network, but nobody's.
        (PEER_1, frame_v4("10.77.0.1")),
        (PEER_1, frame_v6("fd00:0:0:3::1")),
    ] {
        assert_eq!(admit(&table, outer, &frame), Err(DropReason::SpoofedSource));
    }
}

#[test]
fn our_own_subnet_stays_ours_even_where_a_lease_claims_it() {
    let claim = [route("10.9.9.0/24", peer(1, 1))];
    let table = Table::build(overlay(), &claim).unwrap();
    let got = admit(&table, PEER_1, &frame_v4("10.9.9.1"));
    assert_eq!(got, Err(DropReason::SpoofedSource));
}

#[test]
fn strangers_send_nothing() {
    let table = table(Admission::Strict);
    for outer in ["192.168.0.3", "::1", "2001:db8::1", "0.0.0.0"] {
        let got = admit(&table, outer, &frame_v4("10.1.1.5"));
        assert_eq!(got, Err(DropReason::UnknownSender));
    }
    let empty = Table::empty(overlay());
    let got = admit(&empty, PEER_1, &frame_v4("10.1.1.5"));
    assert_eq!(got, Err(DropReason::UnknownSender));
}

#[test]
fn loose_admission_trusts_addresses_but_not_headers() {
    let table = table(Admission::Loose);
    let stranger = "203.0.113.9";
    for source in ["10.1.1.5", "10.9.9.9", "10.77.0.1", "8.8.8.8"] {
        assert!(admit(&table, stranger, &frame_v4(source)).is_ok());
    }
    let sender = sender(&table, stranger.parse().unwrap()).unwrap();
    assert_eq!(sender.peer, None);
    let mut frame = frame_v4("10.1.1.5");
    frame[6] ^= 1;
    assert_eq!(sender.frame(&table, &frame), Err(DropReason::WrongVni));
}

/// Each fault, alone in a frame that is good otherwise, under its own reason.
#[test]
fn each_fault_has_its_reason() {
    let table = table(Admission::Strict);
    type Fault = fn(&mut Vec<u8>);
    let common: &[(&str, DropReason, Fault)] = &[
        ("no I flag", DropReason::BadVxlan, |f| f[0] = 0),
        ("another flag", DropReason::BadVxlan, |f| f[0] = 0x88),
        ("reserved byte 1", DropReason::BadVxlan, |f| f[1] = 1),
        ("reserved byte 2", DropReason::BadVxlan, |f| f[2] = 1),
        ("reserved byte 3", DropReason::BadVxlan, |f| f[3] = 1),
        ("reserved byte 7", DropReason::BadVxlan, |f| f[7] = 1),
        ("no byte", DropReason::BadVxlan, |f| f.clear()),
        ("half a header", DropReason::BadVxlan, |f| f.truncate(21)),
        ("VNI, high byte", DropReason::WrongVni, |f| f[4] ^= 0x80),
        ("VNI, low byte", DropReason::WrongVni, |f| f[6] ^= 1),
        ("destination", DropReason::WrongMac, |f| f[13] ^= 1),
        ("broadcast", DropReason::WrongMac, |f| f[8..14].fill(0xff)),
        ("our own frame", DropReason::Loop, |f| {
            f.copy_within(8..14, 14)
        }),
        ("ARP", DropReason::BadEthertype, |f| {
            f[20..22].copy_from_slice(&[8, 6])
        }),
        ("VLAN tag", DropReason::BadEthertype, |f| {
            f[20..22].copy_from_slice(&[0x81, 0])
        }),
        ("the other version", DropReason::BadInnerIp, |f| {
            f[22] ^= 0x20
        }),
        ("version 0", DropReason::BadInnerIp, |f| f[22] &= 0x0f),
        ("no IP header", DropReason::BadInnerIp, |f| f.truncate(22)),
        ("one byte short", DropReason::BadInnerIp, |f| {
            f.truncate(f.len() - 1)
        }),
        ("half an IP header", DropReason::BadInnerIp, |f| {
            f.truncate(41)
        }),
    ];
    let only_v4: &[(&str, DropReason, Fault)] = &[
        ("IHL 4", DropReason::BadInnerIp, |f| f[22] = 0x44),
        ("IHL beyond the packet", DropReason::BadInnerIp, |f| {
            f[22] = 0x48
        }),
        ("length below IHL", DropReason::BadInnerIp, |f| f[25] = 19),
        ("length beyond the frame", DropReason::BadInnerIp, |f| {
            f[25] = 29
        }),
    ];
    let only_v6: &[(&str, DropReason, Fault)] = &[
        ("EtherType of IPv4", DropReason::BadInnerIp, |f| {
            f[20..22].copy_from_slice(&[8, 0])
        }),
        ("payload beyond the frame", DropReason::BadInnerIp, |f| {
            f[27] = 9
        }),
    ];
    let v4 = common
        .iter()
        .chain(only_v4)
        .map(|case| (case, frame_v4("10.1.1.5")));
    let v6 = common
        .iter()
        .chain(only_v6)
        .map(|case| (case, frame_v6("fd00:0:0:1::5")));
    for ((name, reason, fault), mut frame) in v4.chain(v6) {
        assert!(admit(&table, PEER_1, &frame).is_ok());
        fault(&mut frame);
        assert_eq!(admit(&table, PEER_1, &frame), Err(*reason), "{name}");
    }
}

#[test]
fn a_group_policy_is_taken_where_it_is_configured() {
    let mut frame = frame_v4("10.1.1.5");
    frame[0] |= 0x80;
    frame[2..4].copy_from_slice(&[0x12, 0x34]);
    let plain = table(Admission::Strict);
    assert_eq!(admit(&plain, PEER_1, &frame), Err(DropReason::BadVxlan));
    let overlay = Overlay {
        gbp: true,
        ..overlay()
    };
    let gbp = Table::build(overlay, &routes()).unwrap();
    assert!(admit(&gbp, PEER_1, &frame).is_ok());
    assert!(admit(&gbp, PEER_1, &frame_v4("10.1.1.5")).is_ok());
    frame[0] |= 0x01;
    assert_eq!(admit(&gbp, PEER_1, &frame), Err(DropReason::BadVxlan));
}

#[test]
fn padding_is_cut() {
    let table = table(Admission::Strict);
    let mut frame = frame_v4("10.1.1.5");
    frame.extend([0; 18]);
    assert_eq!(admit(&table, PEER_1, &frame).unwrap().ip_len, 28);
    let mut frame = frame_v6("fd00:0:0:1::5");
    frame.extend([0; 1]);
    assert_eq!(admit(&table, PEER_1, &frame).unwrap().ip_len, 48);
}

#[test]
fn an_overlay_of_one_family_takes_the_other_as_outside() {
    let overlay = Overlay {
        network_v6: None,
        own_v6: None,
        ..overlay()
    };
    let table = Table::build(overlay, &routes()).unwrap();
    assert!(admit(&table, PEER_1, &frame_v6("fd00:0:0:2::5")).is_ok());
}

/// The packet of a frame, with its checksum right.
fn bare(source: &str) -> Vec<u8> {
    let mut packet = frame_v4(source).split_off(FRAME_OVERHEAD);
    fix(&mut packet);
    packet
}

fn fix(packet: &mut [u8]) {
    ipv4::Packet::header_only(packet).unwrap().fill_checksum();
}

fn bare_table(admission: Admission) -> Table {
    let overlay = Overlay {
        wire: Wire::Ip,
        admission,
        ..overlay()
    };
    Table::build(overlay, &routes()).unwrap()
}

#[test]
fn a_bare_packet_is_its_own_frame() {
    let table = bare_table(Admission::Strict);
    let inner = InnerPacket {
        ip_offset: 0,
        ip_len: 28,
        v6: false,
        ecn: Ecn::Ect1,
    };
    assert_eq!(admit(&table, PEER_1, &bare("10.1.1.5")), Ok(inner));
    assert_eq!(admit(&table, PEER_1, &bare("192.168.0.1")), Ok(inner));
    for source in ["10.1.2.5", "10.9.9.1", "10.77.0.1"] {
        let got = admit(&table, PEER_1, &bare(source));
        assert_eq!(got, Err(DropReason::SpoofedSource), "{source}");
    }
    let got = admit(&table, "192.168.0.3", &bare("10.1.1.5"));
    assert_eq!(got, Err(DropReason::UnknownSender));
    let loose = bare_table(Admission::Loose);
    assert_eq!(admit(&loose, "192.168.0.3", &bare("10.1.2.5")), Ok(inner));
}

/// What no table may let in, whoever sends it: nothing else tells a packet from garbage.
#[test]
fn a_bare_packet_must_be_one_ipv4_packet_with_a_right_header() {
    type Fault = fn(&mut Vec<u8>);
    let faults: &[(&str, Fault)] = &[
        ("nothing", |p| p.clear()),
        ("19 bytes", |p| p.truncate(19)),
        ("cut off", |p| p.truncate(27)),
        ("a byte too many", |p| p.push(0)),
        ("two packets", |p| p.extend(p.clone())),
        ("version 6", |p| p[0] = 0x65),
        ("version 0", |p| p[0] = 0x05),
        ("IHL 4", |p| p[0] = 0x44),
        ("IHL beyond the packet", |p| p[0] = 0x48),
        ("length below IHL", |p| p[3] = 19),
        ("length beyond the datagram", |p| p[3] = 29),
        ("checksum", |p| p[10] ^= 1),
        ("an IPv6 packet", |p| {
            *p = frame_v6("fd00:0:0:1::5").split_off(FRAME_OVERHEAD);
        }),
        ("a VXLAN frame", |p| *p = frame_v4("10.1.1.5")),
    ];
    for table in [Admission::Strict, Admission::Loose].map(bare_table) {
        for (name, fault) in faults {
            let mut packet = bare("10.1.1.5");
            fault(&mut packet);
            // Its checksum shall not be what gives it away.
            if *name != "checksum" && packet.len() >= 28 && packet[0] == 0x45 {
                fix(&mut packet);
            }
            let got = admit(&table, PEER_1, &packet);
            assert_eq!(got, Err(DropReason::BadInnerIp), "{name}");
        }
    }
}

proptest! {
    /// Whatever arrives: no panic, and what is admitted lies within the frame.
    #[test]
    fn admitted_packets_lie_within_their_frames(
        v6 in any::<bool>(),
        damage in prop::collection::vec((0..80usize, any::<u8>()), 0..6),
        len in 0..120usize,
    ) {
        let table = table(Admission::Strict);
        let mut frame = if v6 { frame_v6("fd00:0:0:1::5") } else { frame_v4("10.1.1.5") };
        frame.resize(len, 0);
        for (at, byte) in damage {
            if let Some(slot) = frame.get_mut(at) {
                *slot = byte;
            }
        }
        if let Ok(inner) = admit(&table, PEER_1, &frame) {
            prop_assert!(inner.ip_offset + inner.ip_len <= frame.len());
            let header_len = if inner.v6 { 40 } else { 20 };
            prop_assert!(inner.ip_len >= header_len);
        }
    }
}
