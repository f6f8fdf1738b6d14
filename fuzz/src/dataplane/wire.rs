//! The `wire` fuzz target: nothing that bytes say may make a view panic.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use weft_dataplane::wire::checksum::{self, Sum};
use weft_dataplane::wire::ecn::Ecn;
use weft_dataplane::wire::ip::{IpPacket, protocol};
use weft_dataplane::wire::{ethernet, icmp, ipv4, ipv6, tcp, udp, vxlan};

pub(super) fn run(data: &[u8]) {
    checksums(data);
    vxlan(data);
    ethernet(data);
    ip(data);
    transport(data, protocol::TCP);
    transport(data, protocol::UDP);
    transport(data, protocol::ICMP);
    let mut scratch = data.to_vec();
    write_ipv4(&mut scratch);
    write_ipv6(&mut scratch);
    write_transport(&mut scratch);
}

fn checksums(data: &[u8]) {
    let whole = checksum::sum(data).fold();
    let (head, tail) = data.split_at(data.len() / 3);
    let tail = match head.len() % 2 {
        0 => checksum::sum(tail),
        _ => checksum::sum(tail).at_odd_offset(),
    };
    assert_eq!(checksum::sum(head).add(tail).fold(), whole);
    let by_words = data.chunks(2).fold(Sum::default(), |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum.add_u16(u16::from_be_bytes([pair[0], low]))
    });
    assert_eq!(by_words.fold(), whole);
}

fn vxlan(data: &[u8]) {
    let Ok(header) = vxlan::Header::new(data) else {
        return;
    };
    assert_eq!(header.payload().len() + vxlan::HEADER_LEN, data.len());
    assert!(header.vni() <= vxlan::Vni::MAX);
    let mut written = [0; vxlan::HEADER_LEN];
    vxlan::write(&mut written, header.vni());
    assert_eq!(header.is_valid(false), data.starts_with(&written));
    ethernet(header.into_payload());
}

fn ethernet(data: &[u8]) {
    let Ok(frame) = ethernet::Frame::new(data) else {
        return;
    };
    for mac in [frame.dst(), frame.src()] {
        black_box((mac.is_multicast(), mac.is_unspecified()));
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    assert_eq!(frame.payload().len() + ethernet::HEADER_LEN, data.len());
    match frame.ethertype() {
        ethernet::ETHERTYPE_IPV4 | ethernet::ETHERTYPE_IPV6 => ip(frame.into_payload()),
        _ => {}
    }
}

fn ip(data: &[u8]) {
    let Ok(packet) = IpPacket::new(data) else {
        return;
    };
    assert!(packet.total_len() <= data.len());
    assert_eq!(
        packet.header_len() + packet.payload().len(),
        packet.total_len()
    );
    black_box((packet.src(), packet.dst(), packet.tos(), packet.ecn()));
    black_box(packet.pseudo_sum(packet.payload().len() as u32).fold());
    match &packet {
        IpPacket::V4(packet) => read_ipv4(packet),
        IpPacket::V6(packet) => read_ipv6(packet),
    }
    transport(packet.payload(), packet.protocol());
}

fn read_ipv4(packet: &ipv4::Packet<&[u8]>) {
    black_box((packet.ident(), packet.ttl(), packet.checksum()));
    black_box((packet.dont_frag(), packet.verify_checksum()));
    let is_fragment = packet.more_frags() || packet.frag_offset() != 0;
    assert_eq!(packet.is_fragment(), is_fragment);
    assert_eq!(packet.header().len(), packet.header_len());
    assert_eq!(
        packet.options().len() + ipv4::MIN_HEADER_LEN,
        packet.header_len()
    );

    let mut out = [0; icmp::v4::MAX_LEN];
    let from = Ipv4Addr::new(10, 0, 0, 1);
    let code = icmp::v4::FRAGMENTATION_NEEDED;
    if let Ok(len) = icmp::v4::unreachable(&mut out, from, code, 1_450, packet) {
        let error = ipv4::Packet::new(&out[..len]);
        assert!(error.is_ok_and(|error| {
            error.verify_checksum()
                && checksum::sum(error.payload()).is_valid()
                && packet.packet().starts_with(&error.payload()[8..])
        }));
    }
}

fn read_ipv6(packet: &ipv6::Packet<&[u8]>) {
    black_box((packet.hop_limit(), packet.traffic_class()));
    assert!(packet.flow_label() <= 0xf_ffff);
    assert_eq!(packet.header().len(), ipv6::HEADER_LEN);

    let mut out = [0; icmp::v6::MAX_LEN];
    for from in [Ipv6Addr::LOCALHOST, packet.dst()] {
        if let Ok(len) = icmp::v6::packet_too_big(&mut out, from, 1_430, packet) {
            let error = ipv6::Packet::new(&out[..len]);
            assert!(error.is_ok_and(|error| {
                let pseudo = error.pseudo_sum(error.payload().len() as u32);
                pseudo.add_bytes(error.payload()).is_valid()
                    && packet.packet().starts_with(&error.payload()[8..])
            }));
        }
    }
    black_box(icmp::v6::unreachable(&mut out, packet.dst(), 0, packet).is_ok());
}

fn transport(data: &[u8], number: u8) {
    match number {
        protocol::TCP => {
            let Ok(segment) = tcp::Segment::new(data) else {
                return;
            };
            assert_eq!(segment.header_len() + segment.payload().len(), data.len());
            assert_eq!(segment.header().len(), segment.header_len());
            assert_eq!(
                segment.options().len() + tcp::MIN_HEADER_LEN,
                segment.header_len()
            );
            black_box((segment.src_port(), segment.dst_port()));
            black_box((segment.seq(), segment.ack(), segment.flags()));
            black_box((segment.window(), segment.checksum(), segment.urgent()));
        }
        protocol::UDP => {
            let Ok(datagram) = udp::Datagram::new(data) else {
                return;
            };
            assert_eq!(
                datagram.payload().len() + udp::HEADER_LEN,
                usize::from(datagram.len())
            );
            black_box((datagram.src_port(), datagram.dst_port()));
            black_box(datagram.checksum());
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let Ok(message) = icmp::Message::new(data) else {
                return;
            };
            black_box((message.kind(), message.code(), message.rest()));
            black_box((message.checksum(), message.payload().len()));
        }
        _ => {}
    }
}

/// Setters keep the checksum right, and lengths that lie shorten slices but never panic.
fn write_ipv4(data: &mut [u8]) {
    let Ok(mut packet) = ipv4::Packet::header_only(data) else {
        return;
    };
    packet.fill_checksum();
    assert!(packet.verify_checksum());
    packet.set_tos(!packet.tos());
    packet.set_ttl(packet.ttl().wrapping_sub(1));
    packet.set_ecn(Ecn::Ce);
    assert!(packet.verify_checksum());
    assert_eq!(packet.ecn(), Ecn::Ce);
    packet.set_ident(packet.ident().wrapping_add(1));
    packet.set_fragment(packet.dont_frag(), true, packet.frag_offset());
    assert!(packet.is_fragment());
    for len in [0, 7, 19, 21, u16::MAX] {
        packet.set_total_len(len);
        assert!(packet.payload().len() <= usize::from(len));
        assert_eq!(packet.payload().len(), packet.payload_mut().len());
        black_box(packet.packet().len());
    }
}

fn write_ipv6(data: &mut [u8]) {
    let Ok(mut packet) = ipv6::Packet::header_only(data) else {
        return;
    };
    let label = packet.flow_label();
    packet.set_traffic_class(0xa5);
    packet.set_ecn(Ecn::Ect0);
    packet.set_hop_limit(1);
    assert_eq!(packet.traffic_class(), 0xa6);
    assert_eq!(packet.flow_label(), label);
    for len in [0, 7, u16::MAX] {
        packet.set_payload_len(len);
        assert_eq!(packet.payload().len(), packet.payload_mut().len());
        black_box(packet.packet().len());
    }
}

fn write_transport(data: &mut [u8]) {
    if let Ok(mut segment) = tcp::Segment::new(&mut *data) {
        let header_len = segment.header_len();
        segment.set_flags(0xffff);
        segment.set_seq(0xdead_beef);
        segment.set_checksum(1);
        assert_eq!((segment.flags(), segment.header_len()), (0xfff, header_len));
    }
    if let Ok(mut datagram) = udp::Datagram::header_only(data) {
        datagram.set_src_port(1);
        datagram.set_dst_port(2);
        datagram.set_checksum(3);
        for len in [0, 7, 9, u16::MAX] {
            datagram.set_len(len);
            black_box(datagram.payload().len());
        }
    }
}
