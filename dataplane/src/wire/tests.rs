//! Properties over all views: each agrees with etherparse. That no bytes make one panic is a
//! fuzz target, `wire`.

use super::ip::IpPacket;
use super::{Malformed, ethernet, icmp, ipv4, ipv6, tcp, udp};
use etherparse::{
    Ethernet2HeaderSlice, Icmpv4Slice, Icmpv6Slice, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpSlice,
    UdpSlice,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes whose first one is likely to pass for an IP version and header length.
fn ip_like() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0x45), Just(0x4f), Just(0x60), any::<u8>()];
    (first, any::<bool>(), vec(any::<u8>(), 1..200)).prop_map(|(first, fits, mut bytes)| {
        bytes[0] = first;
        let len = bytes.len();
        if fits && len > 6 {
            let field = if first >> 4 == 6 { 4 } else { 2 };
            let value = if first >> 4 == 6 {
                len.saturating_sub(40)
            } else {
                len
            };
            bytes[field..field + 2].copy_from_slice(&(value as u16).to_be_bytes());
        }
        bytes
    })
}

/// A TCP-like run of bytes with a data offset that fits.
fn tcp_like() -> impl Strategy<Value = Vec<u8>> {
    (5u8..=15, vec(any::<u8>(), 60..200)).prop_map(|(words, mut bytes)| {
        bytes[12] = words << 4 | bytes[12] & 0xf;
        bytes
    })
}

proptest! {
    #[test]
    fn ipv4_agrees_with_etherparse(bytes in ip_like()) {
        let ours = ipv4::Packet::header_only(&bytes[..]);
        let theirs = Ipv4HeaderSlice::from_slice(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
        prop_assert_eq!(ours.header_len(), usize::from(theirs.ihl()) * 4);
        prop_assert_eq!(ours.header(), theirs.slice());
        prop_assert_eq!(ours.options(), theirs.options());
        prop_assert_eq!(ours.tos(), theirs.dcp().value() << 2 | theirs.ecn().value());
        prop_assert_eq!(ours.ecn().bits(), theirs.ecn().value());
        prop_assert_eq!(ours.total_len(), theirs.total_len());
        prop_assert_eq!(ours.ident(), theirs.identification());
        prop_assert_eq!(ours.dont_frag(), theirs.dont_fragment());
        prop_assert_eq!(ours.more_frags(), theirs.more_fragments());
        prop_assert_eq!(ours.frag_offset(), theirs.fragments_offset().value() << 3);
        prop_assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
        prop_assert_eq!(ours.ttl(), theirs.ttl());
        prop_assert_eq!(ours.protocol(), theirs.protocol().0);
        prop_assert_eq!(ours.checksum(), theirs.header_checksum());
        prop_assert_eq!(ours.src(), theirs.source_addr());
        prop_assert_eq!(ours.dst(), theirs.destination_addr());
        let fits = theirs.payload_len().is_ok() && usize::from(theirs.total_len()) <= bytes.len();
        prop_assert_eq!(ipv4::Packet::new(&bytes[..]).is_ok(), fits);

        let mut header = theirs.slice().to_vec();
        let mut packet = ipv4::Packet::header_only(&mut header[..]).unwrap();
        packet.fill_checksum();
        // etherparse leaves the reserved flag out, which counts like the others.
        let reserved = theirs.slice()[6] & 0x80 != 0;
        prop_assume!(!reserved);
        prop_assert_eq!(packet.checksum(), theirs.to_header().calc_header_checksum());
    }

    #[test]
    fn incremental_updates_equal_recomputing(bytes in ip_like(), tos: u8, ttl: u8) {
        let mut updated = bytes;
        let Ok(mut packet) = ipv4::Packet::header_only(&mut updated[..]) else { return Ok(()) };
        packet.fill_checksum();
        packet.set_tos(tos);
        packet.set_ttl(ttl);
        let mut recomputed = updated.clone();
        ipv4::Packet::header_only(&mut recomputed[..]).unwrap().fill_checksum();
        prop_assert_eq!(updated, recomputed);
    }

    #[test]
    fn ipv6_agrees_with_etherparse(bytes in ip_like()) {
        let ours = ipv6::Packet::header_only(&bytes[..]);
        let theirs = Ipv6HeaderSlice::from_slice(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
        prop_assert_eq!(ours.header(), theirs.slice());
        prop_assert_eq!(ours.traffic_class(), theirs.traffic_class());
        prop_assert_eq!(ours.ecn().bits(), theirs.ecn().value());
        prop_assert_eq!(ours.flow_label(), theirs.flow_label().value());
        prop_assert_eq!(ours.payload_len(), theirs.payload_length());
        prop_assert_eq!(ours.next_header(), theirs.next_header().0);
        prop_assert_eq!(ours.hop_limit(), theirs.hop_limit());
        prop_assert_eq!(ours.src(), theirs.source_addr());
        prop_assert_eq!(ours.dst(), theirs.destination_addr());
    }

    #[test]
    fn tcp_agrees_with_etherparse(bytes in tcp_like()) {
        let ours = tcp::Segment::new(&bytes[..]).unwrap();
        let theirs = TcpSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(ours.src_port(), theirs.source_port());
        prop_assert_eq!(ours.dst_port(), theirs.destination_port());
        prop_assert_eq!(ours.seq(), theirs.sequence_number());
        prop_assert_eq!(ours.ack(), theirs.acknowledgment_number());
        prop_assert_eq!(ours.header_len(), theirs.header_len());
        let flags = [
            (tcp::FIN, theirs.fin()),
            (tcp::SYN, theirs.syn()),
            (tcp::RST, theirs.rst()),
            (tcp::PSH, theirs.psh()),
            (tcp::ACK, theirs.ack()),
            (tcp::URG, theirs.urg()),
            (tcp::ECE, theirs.ece()),
            (tcp::CWR, theirs.cwr()),
            (tcp::AE, theirs.ns()),
        ];
        for (flag, set) in flags {
            prop_assert_eq!(ours.flags() & flag != 0, set);
        }
        prop_assert_eq!(ours.window(), theirs.window_size());
        prop_assert_eq!(ours.checksum(), theirs.checksum());
        prop_assert_eq!(ours.urgent(), theirs.urgent_pointer());
        prop_assert_eq!(ours.options(), theirs.options());
        prop_assert_eq!(ours.payload(), theirs.payload());
    }

    #[test]
    fn l4_checksums_agree_with_etherparse(bytes in tcp_like(), src: u32, dst: u32) {
        let theirs = TcpSlice::from_slice(&bytes).unwrap();
        let mut zeroed = bytes.clone();
        zeroed[tcp::CHECKSUM_OFFSET..][..2].fill(0);
        let len = bytes.len() as u32;

        let pseudo = super::checksum::pseudo_v4(src.into(), dst.into(), 6, len);
        let expected = theirs.calc_checksum_ipv4(src.to_be_bytes(), dst.to_be_bytes()).unwrap();
        prop_assert_eq!(pseudo.add_bytes(&zeroed).finish(), expected);

        let (src, dst) = (u128::from(src) << 77, u128::from(dst) << 3);
        let pseudo = super::checksum::pseudo_v6(src.into(), dst.into(), 6, len);
        let expected = theirs.calc_checksum_ipv6(src.to_be_bytes(), dst.to_be_bytes()).unwrap();
        prop_assert_eq!(pseudo.add_bytes(&zeroed).finish(), expected);
    }

    #[test]
    fn udp_agrees_with_etherparse(mut bytes in vec(any::<u8>(), 8..100), len in 0u16..110) {
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        let ours = udp::Datagram::new(&bytes[..]);
        // For etherparse a length of 0 means "as long as the buffer"; we know no such thing.
        prop_assume!(len != 0);
        let theirs = UdpSlice::from_slice(&bytes);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
        prop_assert_eq!(ours.src_port(), theirs.source_port());
        prop_assert_eq!(ours.dst_port(), theirs.destination_port());
        prop_assert_eq!(ours.len(), theirs.length());
        prop_assert_eq!(ours.checksum(), theirs.checksum());
        prop_assert_eq!(ours.payload(), theirs.payload());
    }

    #[test]
    fn icmp_agrees_with_etherparse(bytes in vec(any::<u8>(), 8..60)) {
        let ours = icmp::Message::new(&bytes[..]).unwrap();
        // Timestamps have an exact length in etherparse.
        if let Ok(theirs) = Icmpv4Slice::from_slice(&bytes) {
            prop_assert_eq!(ours.kind(), theirs.type_u8());
            prop_assert_eq!(ours.code(), theirs.code_u8());
            prop_assert_eq!(ours.checksum(), theirs.checksum());
        }
        let theirs = Icmpv6Slice::from_slice(&bytes).unwrap();
        prop_assert_eq!(ours.rest().to_be_bytes(), theirs.bytes5to8());
        prop_assert_eq!(ours.payload(), &bytes[8..]);
    }

    #[test]
    fn ethernet_agrees_with_etherparse(bytes in vec(any::<u8>(), 14..40)) {
        let ours = ethernet::Frame::new(&bytes[..]).unwrap();
        let theirs = Ethernet2HeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(ours.dst().0, theirs.destination());
        prop_assert_eq!(ours.src().0, theirs.source());
        prop_assert_eq!(ours.ethertype(), theirs.ether_type().0);
    }
}

#[test]
fn the_version_nibble_decides() {
    let mut v4 = [0; 60];
    v4[0] = 0x45;
    v4[3] = 20;
    assert!(matches!(IpPacket::new(&v4), Ok(IpPacket::V4(_))));
    let mut v6 = [0; 60];
    v6[0] = 0x60;
    assert!(matches!(IpPacket::new(&v6), Ok(IpPacket::V6(_))));
    assert_eq!(IpPacket::new(&[0x50; 60]).unwrap_err(), Malformed::Version);
    assert_eq!(IpPacket::new(&[]).unwrap_err(), Malformed::Truncated);
}
