use super::*;
use crate::wire::checksum;
use etherparse::{Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, icmpv4, icmpv6};
use std::net::{Ipv4Addr, Ipv6Addr};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 0);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, 0);

/// An IPv4 packet of `protocol` from 10.244.1.2 to 10.244.2.3.
fn packet4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    bytes.extend([10, 244, 1, 2, 10, 244, 2, 3]);
    bytes.extend(payload);
    let len = bytes.len() as u16;
    let mut view = ipv4::Packet::header_only(&mut bytes[..]).unwrap();
    view.set_total_len(len);
    view.fill_checksum();
    bytes
}

/// An IPv6 packet whose first header is `next`, from fd00::10a to fd00::20b.
fn packet6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
    bytes[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    bytes.extend("fd00::10a".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend("fd00::20b".parse::<Ipv6Addr>().unwrap().octets());
    bytes.extend(payload);
    bytes
}

fn answer4(offender: &[u8]) -> Result<usize, Refused> {
    let offender = ipv4::Packet::new(offender).unwrap();
    v4::unreachable(
        &mut [0; v4::MAX_LEN],
        ROUTER,
        v4::HOST_UNREACHABLE,
        0,
        &offender,
    )
}

fn answer6(offender: &[u8]) -> Result<usize, Refused> {
    let offender = ipv6::Packet::new(offender).unwrap();
    v6::unreachable(&mut [0; v6::MAX_LEN], ROUTER6, v6::NO_ROUTE, &offender)
}

#[test]
fn reads_a_message() {
    let message = Message::new(&[3, 4, 0xab, 0xcd, 0, 0, 0x05, 0xaa, 0x45, 0][..]).unwrap();
    assert_eq!((message.kind(), message.code()), (3, 4));
    assert_eq!((message.checksum(), message.rest()), (0xabcd, 1_450));
    assert_eq!(message.payload(), [0x45, 0]);
    assert_eq!(Message::new(&[0; 7][..]).unwrap_err(), Malformed::Truncated);
}

/// Written out once by hand, field by field.
#[test]
fn a_fragmentation_needed_to_the_byte() {
    let offender = packet4(17, &[0x9c, 0x40, 0, 53, 0, 9, 0xab, 0xcd, 0x5a]);
    let mut out = [0xee; v4::MAX_LEN];
    let view = ipv4::Packet::new(&offender[..]).unwrap();
    let code = v4::FRAGMENTATION_NEEDED;
    let len = v4::unreachable(&mut out, ROUTER, code, 1_450, &view).unwrap();
    let mut expected = vec![0x45, 0xc0, 0, 57, 0, 0, 0x40, 0, 64, 1, 0x22, 0x1b];
    expected.extend([10, 244, 1, 0, 10, 244, 1, 2]);
    expected.extend([3, 4, 0x55, 0x05, 0, 0, 0x05, 0xaa]);
    expected.extend(&offender);
    assert_eq!(out[..len], expected);
    assert!(out[len..].iter().all(|&byte| byte == 0xee));
}

#[test]
fn an_independent_parser_takes_the_ipv4_error() {
    let offender = packet4(6, &[7; 1_400]);
    let mut out = [0; 600];
    let view = ipv4::Packet::new(&offender[..]).unwrap();
    let code = v4::FRAGMENTATION_NEEDED;
    let len = v4::unreachable(&mut out, ROUTER, code, 1_450, &view).unwrap();
    assert_eq!(len, v4::MAX_LEN);
    let sliced = etherparse::SlicedPacket::from_ip(&out[..len]).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("not IPv4");
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(header.destination, [10, 244, 1, 2]);
    let icmp = Icmpv4Slice::from_slice(ip.payload().payload).unwrap();
    let next_hop_mtu = 1_450;
    let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
    assert_eq!(
        icmp.icmp_type(),
        Icmpv4Type::DestinationUnreachable(expected)
    );
    let computed = icmp.icmp_type().calc_checksum(icmp.payload());
    assert_eq!(icmp.checksum(), computed);
    assert!(offender.starts_with(icmp.payload()));
}

#[test]
fn an_independent_parser_takes_the_ipv6_errors() {
    let offender = packet6(6, &[7; 1_400]);
    let view = ipv6::Packet::new(&offender[..]).unwrap();
    let mut out = [0xee; 1_400];
    let check = |out: &[u8], expected: Icmpv6Type| {
        let sliced = etherparse::SlicedPacket::from_ip(out).unwrap();
        let Some(etherparse::NetSlice::Ipv6(ip)) = sliced.net else {
            panic!("not IPv6");
        };
        let header = ip.header();
        assert_eq!(header.source_addr(), ROUTER6);
        assert_eq!(header.destination_addr(), view.src());
        let icmp = Icmpv6Slice::from_slice(ip.payload().payload).unwrap();
        assert_eq!(icmp.icmp_type(), expected);
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert!(offender.starts_with(icmp.payload()));
    };

    let len = v6::packet_too_big(&mut out, ROUTER6, 1_430, &view).unwrap();
    assert_eq!(len, v6::MAX_LEN);
    check(&out[..len], Icmpv6Type::PacketTooBig { mtu: 1_430 });

    let len = v6::unreachable(&mut out, ROUTER6, v6::ADDRESS_UNREACHABLE, &view).unwrap();
    let code = icmpv6::DestUnreachableCode::Address;
    check(&out[..len], Icmpv6Type::DestinationUnreachable(code));
}

#[test]
fn quotes_end_with_the_offender_not_with_its_buffer() {
    let mut bytes = packet4(17, &[1; 12]);
    bytes.extend([0xff; 40]);
    assert_eq!(answer4(&bytes), Ok(20 + 8 + 32));
    let mut bytes = packet6(17, &[1; 12]);
    bytes.extend([0xff; 40]);
    assert_eq!(answer6(&bytes), Ok(40 + 8 + 52));
}

#[test]
fn a_small_buffer_shortens_the_quote_down_to_the_least() {
    let offender = packet4(17, &[1; 100]);
    let view = ipv4::Packet::new(&offender[..]).unwrap();
    for room in 0..200 {
        let result = v4::unreachable(&mut vec![0; room], ROUTER, 0, 0, &view);
        let expected = match room {
            ..56 => Err(Refused::NoRoom),
            _ => Ok(room.min(20 + 8 + 120)),
        };
        assert_eq!(result, expected, "{room} bytes");
    }
    let offender = packet6(17, &[1; 100]);
    let view = ipv6::Packet::new(&offender[..]).unwrap();
    for room in 0..300 {
        let result = v6::unreachable(&mut vec![0; room], ROUTER6, 0, &view);
        let expected = match room {
            ..96 => Err(Refused::NoRoom),
            _ => Ok(room.min(40 + 8 + 140)),
        };
        assert_eq!(result, expected, "{room} bytes");
    }
}

#[test]
fn ipv4_errors_answer_only_what_rfc_1812_allows() {
    let with = |at: usize, value: [u8; 4]| {
        let mut bytes = packet4(17, &[0; 16]);
        bytes[at..at + 4].copy_from_slice(&value);
        answer4(&bytes).err()
    };
    assert_eq!(with(16, [10, 244, 2, 3]), None);
    assert_eq!(with(16, [224, 0, 0, 251]), Some(Refused::Destination));
    assert_eq!(with(16, [255; 4]), Some(Refused::Destination));
    for src in [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255; 4],
    ] {
        assert_eq!(with(12, src), Some(Refused::Source), "{src:?}");
    }
    // The third word is flags and offset, TTL, protocol: first fragment, then a later one.
    assert_eq!(with(6, [0x20, 0, 64, 17]), None);
    assert_eq!(with(6, [0x20, 1, 64, 17]), Some(Refused::LaterFragment));

    let icmp = |kind| answer4(&packet4(ip::protocol::ICMP, &[kind; 8])).err();
    for query in [0, 8, 13, 14] {
        assert_eq!(icmp(query), None, "type {query}");
    }
    for error in [3, 4, 5, 11, 12, 200] {
        assert_eq!(icmp(error), Some(Refused::IcmpError), "type {error}");
    }
    assert_eq!(
        answer4(&packet4(ip::protocol::ICMP, &[])),
        Err(Refused::IcmpError)
    );
}

#[test]
fn ipv6_errors_answer_only_what_rfc_4443_allows() {
    let icmp = |kind| answer6(&packet6(ip::protocol::ICMPV6, &[kind; 8])).err();
    assert_eq!(icmp(128), None);
    assert_eq!(icmp(129), None);
    for error in [1, 2, 3, 4, 100, 137] {
        assert_eq!(icmp(error), Some(Refused::IcmpError), "type {error}");
    }

    let mut offender = packet6(17, &[0; 16]);
    offender[24] = 0xff;
    assert_eq!(answer6(&offender), Err(Refused::Destination));
    let view = ipv6::Packet::new(&offender[..]).unwrap();
    let too_big = v6::packet_too_big(&mut [0; v6::MAX_LEN], ROUTER6, 1_430, &view);
    assert_eq!(too_big, Ok(40 + 8 + 56));

    let mut offender = packet6(17, &[0; 16]);
    offender[8] = 0xff;
    assert_eq!(answer6(&offender), Err(Refused::Source));
    offender[8..24].fill(0);
    assert_eq!(answer6(&offender), Err(Refused::Source));
}

#[test]
fn ipv6_extension_headers_do_not_hide_an_icmp_error() {
    // Hop-by-hop (8 bytes), destination options (16), authentication (12), fragment.
    let chain = |offset: u8, kind: u8| {
        let mut bytes = vec![60, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([58, 0, 0, offset, 0, 0, 0, 1]);
        bytes.extend([kind; 8]);
        answer6(&packet6(0, &bytes)).err()
    };
    assert_eq!(chain(0, 128), None);
    assert_eq!(chain(1, 128), None);
    assert_eq!(chain(0, 1), Some(Refused::IcmpError));
    // A first fragment still shows the type, a later one does not.
    assert_eq!(chain(1, 1), Some(Refused::IcmpError));
    assert_eq!(chain(8, 1), None);

    let endless = [0; 8 * 20];
    assert_eq!(answer6(&packet6(0, &endless)), Err(Refused::IcmpError));
    assert_eq!(
        answer6(&packet6(ip::protocol::ICMPV6, &[])),
        Err(Refused::IcmpError)
    );
}

#[test]
fn checksums_hold_for_every_quote_length() {
    let mut out = [0; v4::MAX_LEN];
    for len in 0..600 {
        let offender = packet4(17, &vec![0xa5; len]);
        let view = ipv4::Packet::new(&offender[..]).unwrap();
        let written = v4::unreachable(&mut out, ROUTER, v4::ADMIN_PROHIBITED, 0, &view).unwrap();
        let error = ipv4::Packet::new(&out[..written]).unwrap();
        assert!(error.verify_checksum());
        assert!(checksum::sum(error.payload()).is_valid());
    }
}
