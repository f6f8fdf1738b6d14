mod too_long;

use super::*;
use crate::mtu::pods::PodMtus;
use crate::offload::plan::Source;
use crate::offload::testing::{Spec, assert_valid, super_packets};
use crate::offload::vnet_hdr::{Layout, VnetHdr};
use crate::route::table::{NewPeer, Overlay, Route};
use crate::sys::clock::Clock;
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::MacAddr;
use crate::wire::vxlan::Vni;
use crate::wire::{icmp, ipv4};
use crate::worker::path_limits::PathLimits;
use ipnet::Ipv4Net;
use proptest::prelude::*;
use std::sync::Arc;

const BUFFER: u16 = 5;
const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const REMOTE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A table in which every destination of [`Spec`] packets belongs to one peer.
fn table() -> Table {
    table_of(Wire::Vxlan)
}

fn table_of(wire: Wire) -> Table {
    let overlay = Overlay {
        wire,
        vni: Vni::new(7).unwrap(),
        local_mac: LOCAL,
        network_v4: Some("10.0.0.0/8".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd00::/8".parse().unwrap()),
        subnet_len_v6: 64,
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: "192.0.2.2:8472".parse().unwrap(),
        mac: REMOTE,
    };
    let routes = ["0.0.0.0/1", "::/0"].map(|prefix| Route {
        prefix: prefix.parse().unwrap(),
        peer,
    });
    Table::build(overlay, &routes).unwrap()
}

/// Through `buckets` sockets alone.
fn egress(buckets: u8) -> Egress {
    let pods = Arc::new(PodMtus::new(1450));
    Egress::new(buckets, no_limits(), None, Clock::start(), pods)
}

/// Nothing is known of any path.
fn no_limits() -> PathLimits {
    PathLimits::new(Arc::default(), false)
}

/// A buffer as the TUN fills it.
fn buffer(offload: &VnetHdr, ip: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xee; HEADROOM];
    offload
        .encode(&mut bytes[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
        .unwrap();
    bytes.extend(ip);
    bytes
}

/// The frames of all sends of a plan.
fn frames(plan: &SendPlan, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for send in plan.sends() {
        let mut train = Vec::new();
        for piece in send.pieces() {
            let memory = match piece.source {
                Source::Arena => plan.arena(),
                Source::Buffer(id) => {
                    assert_eq!(id, BUFFER);
                    bytes
                }
            };
            train.extend(&memory[piece.offset as usize..][..piece.len as usize]);
        }
        assert_eq!(train.len(), send.bytes as usize);
        let cut: Vec<_> = train
            .chunks(usize::from(send.stride))
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(cut.len(), usize::from(send.frames));
        frames.extend(cut);
    }
    frames
}

fn outer(ethertype: u16) -> Vec<u8> {
    let mut header = vec![8, 0, 0, 0, 0, 0, 7, 0];
    header.extend(REMOTE.0);
    header.extend(LOCAL.0);
    header.extend(ethertype.to_be_bytes());
    header
}

#[test]
fn a_segment_becomes_one_frame_in_place_with_its_checksum_finished() {
    for spec in Spec::all(300) {
        let mut offload = spec.vnet_hdr(0);
        offload.gso_type = vnet_hdr::GSO_NONE;
        let ip = spec.build_partial();
        let mut bytes = buffer(&offload, &ip);
        let (table, mut plan) = (table(), SendPlan::new(4, 0, 128));
        let mut egress = egress(4);
        let planned = plan_packet(BUFFER, &mut bytes, ip.len(), &table, &mut egress, &mut plan);
        assert!(planned.unwrap().is_none());
        assert_eq!(plan.sends()[0].pieces().len(), 1, "one contiguous piece");
        assert_eq!(plan.sends()[0].to, "192.0.2.2:8472".parse().unwrap());
        let mut expected = outer(if spec.v6 { 0x86dd } else { 0x0800 });
        expected.extend(spec.build());
        assert_eq!(frames(&plan, &bytes), [expected]);
    }
}

#[test]
fn a_super_packet_longer_than_a_datagram_needs_two_sends() {
    let spec = Spec::tcp4(65_000);
    let ip = spec.build_partial();
    let bytes = &mut buffer(&spec.vnet_hdr(1398), &ip)[..];
    let (table, mut plan) = (table(), SendPlan::new(8, 64 << 10, 128));
    let pending = plan_packet(BUFFER, bytes, ip.len(), &table, &mut egress(4), &mut plan).unwrap();
    assert!(
        pending
            .unwrap()
            .plan(&ip, &mut plan, &WorkerStats::default())
    );
    let counts: Vec<_> = plan.sends().iter().map(|send| send.frames).collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    let frames = frames(&plan, bytes);
    let segments = spec.segments(1398);
    assert_eq!(frames.len(), segments.len());
    for (frame, segment) in frames.iter().zip(segments) {
        assert_eq!(frame[..22], outer(0x0800));
        assert_eq!(frame[22..], segment.build());
        assert_valid(&frame[22..]);
    }
}

#[test]
fn a_plan_that_fills_up_halfway_is_resumed_without_a_gap() {
    for spec in Spec::all(20_000) {
        let ip = spec.build_partial();
        let bytes = &mut buffer(&spec.vnet_hdr(1000), &ip)[..];
        // Headers of three segments at most, so that twenty take seven turns.
        let header = FRAME_OVERHEAD + spec.header_len();
        let mut plan = SendPlan::new(4, 3 * header, 128);
        let table = table();
        let mut pending = plan_packet(BUFFER, bytes, ip.len(), &table, &mut egress(1), &mut plan)
            .unwrap()
            .unwrap();
        let mut sent = Vec::new();
        let mut turns = 0;
        loop {
            let done = pending.plan(&ip, &mut plan, &WorkerStats::default());
            sent.extend(frames(&plan, bytes));
            plan.clear();
            turns += 1;
            if done {
                break;
            }
        }
        assert_eq!(turns, 7);
        let expected: Vec<_> = spec.segments(1000).iter().map(Spec::build).collect();
        let inner: Vec<_> = sent.iter().map(|frame| frame[22..].to_vec()).collect();
        assert_eq!(inner, expected);
    }
}

#[test]
fn a_bare_packet_is_its_own_frame_and_its_outer_ecn_field_is_empty() {
    for mut spec in [Spec::tcp4(300), Spec::udp4(300)] {
        spec.tos = 3;
        let mut offload = spec.vnet_hdr(0);
        offload.gso_type = vnet_hdr::GSO_NONE;
        let ip = spec.build_partial();
        let mut bytes = buffer(&offload, &ip);
        let mut plan = SendPlan::new(4, 0, 128);
        let table = table_of(Wire::Ip);
        let mut egress = egress(4);
        let planned = plan_packet(BUFFER, &mut bytes, ip.len(), &table, &mut egress, &mut plan);
        assert!(planned.unwrap().is_none());
        assert_eq!(frames(&plan, &bytes), [spec.build()]);
        assert_eq!(plan.sends()[0].key.ecn, Ecn::NotEct);
    }
}

#[test]
fn ipv6_has_no_place_among_bare_packets() {
    for spec in [Spec::tcp6(100), Spec::udp6(100)] {
        let ip = spec.build();
        let mut bytes = buffer(&VnetHdr::default(), &ip);
        let mut plan = SendPlan::new(1, 0, 1);
        let table = table_of(Wire::Ip);
        let mut egress = egress(1);
        let planned = plan_packet(BUFFER, &mut bytes, ip.len(), &table, &mut egress, &mut plan);
        assert_eq!(planned.err(), Some(DropReason::NotIpv4));
        assert!(plan.is_empty());
    }
}

proptest! {
    #[test]
    fn bare_segments_are_those_that_the_kernel_would_send((spec, gso) in super_packets()) {
        let spec = Spec { v6: false, ..spec };
        let ip = spec.build_partial();
        let bytes = &mut buffer(&spec.vnet_hdr(gso as u16), &ip)[..];
        let mut plan = SendPlan::new(64, 64 << 10, 128);
        let table = table_of(Wire::Ip);
        let mut egress = egress(4);
        let pending = plan_packet(BUFFER, bytes, ip.len(), &table, &mut egress, &mut plan);
        prop_assert!(pending.unwrap().unwrap().plan(&ip, &mut plan, &WorkerStats::default()));
        let expected: Vec<_> = spec.segments(gso).iter().map(Spec::build).collect();
        prop_assert_eq!(frames(&plan, bytes), expected);
    }
}

#[test]
fn fragments_of_one_packet_share_a_bucket() {
    let mut keys = Vec::new();
    for (offset, more) in [(0u16, 0x20u8), (185, 0x20), (370, 0)] {
        let mut ip = Spec::udp4(200).build();
        ip[6] = more | (offset >> 8) as u8;
        ip[7] = offset as u8;
        let mut bytes = buffer(&VnetHdr::default(), &ip);
        let mut plan = SendPlan::new(1, 0, 1);
        plan_packet(
            BUFFER,
            &mut bytes,
            ip.len(),
            &table(),
            &mut egress(64),
            &mut plan,
        )
        .unwrap();
        keys.push(plan.sends()[0].key);
    }
    assert!(keys.iter().all(|key| key == &keys[0]), "{keys:?}");
}

#[test]
fn smaller_pods_are_learned_from_what_passes() {
    let pods = Arc::new(PodMtus::new(1450));
    let mut egress = Egress::new(1, no_limits(), None, Clock::start(), pods.clone());
    // What the peer sent to a pod of this node, and what this node says of it.
    let offender = Spec::tcp4(1420).build();
    let offender = ipv4::Packet::new(&offender[..]).unwrap();
    let own = Ipv4Net::new(offender.dst(), 24).unwrap().trunc();
    let overlay = Overlay {
        own_v4: Some(own),
        ..table().overlay().clone()
    };
    let routes = [route("0.0.0.0/1", "192.0.2.2:8472")];
    let table = Table::build(overlay, &routes).unwrap();
    let (mut error, from) = (vec![0; icmp::v4::MAX_LEN], own.network());
    let code = icmp::v4::FRAGMENTATION_NEEDED;
    let len = icmp::v4::unreachable(&mut error, from, code, 1400, &offender).unwrap();
    for ip in [&error[..len], &Spec::udp4(500).build(), &error[..len]] {
        let mut bytes = buffer(&VnetHdr::default(), ip);
        let mut plan = SendPlan::new(1, 0, 1);
        plan_packet(BUFFER, &mut bytes, ip.len(), &table, &mut egress, &mut plan).unwrap();
        assert_eq!(plan.sends().len(), 1, "it goes on all the same");
    }
    assert_eq!(pods.get(offender.dst().into(), 0), 1400);
    assert_eq!(egress.learned, 1);
}

#[test]
fn what_would_come_back_is_dropped() {
    let mut udp = Spec::udp4(100).build();
    udp[16..20].copy_from_slice(&[192, 0, 2, 2]);
    udp[22..24].copy_from_slice(&8472_u16.to_be_bytes());
    let cut_off = NewPeer {
        addr: "192.0.2.2:0".parse().unwrap(),
        mac: REMOTE,
    };
    // Routed into the tunnel, the peer's own address; and a peer that nothing is sent to.
    let around = route("192.0.2.0/24", "192.0.2.2:8472");
    let routes = [around, route("10.0.0.0/8", "192.0.2.2:8472")];
    let open = Table::build(table().overlay().clone(), &routes).unwrap();
    let routes = routes.map(|route| Route {
        peer: cut_off,
        ..route
    });
    let closed = Table::build(table().overlay().clone(), &routes).unwrap();
    let plan = |table: &Table, ip: &[u8]| {
        let mut bytes = buffer(&VnetHdr::default(), ip);
        let (mut plan, egress) = (SendPlan::new(1, 0, 1), &mut egress(1));
        plan_packet(BUFFER, &mut bytes, ip.len(), table, egress, &mut plan).err()
    };
    assert_eq!(plan(&open, &udp), Some(DropReason::Recursion));
    assert_eq!(plan(&open, &Spec::udp4(100).build()), None);
    assert_eq!(
        plan(&closed, &Spec::udp4(100).build()),
        Some(DropReason::Recursion)
    );
}

fn route(prefix: &str, addr: &str) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        peer: NewPeer {
            addr: addr.parse().unwrap(),
            mac: REMOTE,
        },
    }
}

#[test]
fn what_is_longer_than_its_buffer_is_no_packet() {
    let ip = Spec::tcp4(100).build();
    let mut bytes = buffer(&VnetHdr::default(), &ip);
    let (table, mut plan) = (table(), SendPlan::new(1, 0, 1));
    for (end, len) in [(bytes.len(), ip.len() + 1), (HEADROOM - 1, 0)] {
        let bytes = &mut bytes[..end];
        let planned = plan_packet(BUFFER, bytes, len, &table, &mut egress(1), &mut plan);
        assert_eq!(planned.err(), Some(DropReason::BadInner));
    }
    assert!(plan.is_empty());
}

#[test]
fn what_cannot_be_sent_has_a_reason() {
    let drop = |offload: VnetHdr, ip: &[u8]| {
        let mut bytes = buffer(&offload, ip);
        let (table, mut plan) = (table(), SendPlan::new(1, 0, 1));
        let mut egress = egress(1);
        let planned = plan_packet(BUFFER, &mut bytes, ip.len(), &table, &mut egress, &mut plan);
        assert!(plan.is_empty());
        planned.err()
    };
    let spec = Spec::tcp4(100);
    let with_dst = |dst: [u8; 4]| {
        let mut ip = spec.build();
        ip[16..20].copy_from_slice(&dst);
        ip
    };
    let none = VnetHdr::default();
    assert_eq!(drop(none, &[]), Some(DropReason::BadInner));
    assert_eq!(drop(none, &[0x45; 19]), Some(DropReason::BadInner));
    assert_eq!(drop(none, &[0x15; 40]), Some(DropReason::BadInner));
    assert_eq!(
        drop(none, &with_dst([192, 0, 2, 9])),
        Some(DropReason::NoPeer)
    );
    assert_eq!(
        drop(none, &with_dst([224, 0, 0, 1])),
        Some(DropReason::NotUnicast)
    );
    assert_eq!(
        drop(none, &with_dst([255; 4])),
        Some(DropReason::NotUnicast)
    );
    let unknown_type = VnetHdr {
        gso_type: 9,
        ..spec.vnet_hdr(50)
    };
    assert_eq!(
        drop(unknown_type, &spec.build_partial()),
        Some(DropReason::BadOffload)
    );
    let outside = VnetHdr {
        csum_start: 5000,
        gso_type: vnet_hdr::GSO_NONE,
        ..spec.vnet_hdr(0)
    };
    assert_eq!(
        drop(outside, &spec.build_partial()),
        Some(DropReason::BadOffload)
    );
}
