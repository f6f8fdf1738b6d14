use super::*;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

const ORIGIN: Origin = Origin {
    mac: MacAddr([2, 1, 2, 3, 4, 5]),
    local: Ipv4Addr::new(192, 0, 2, 1),
};

fn outer() -> Outer {
    Outer {
        src_port: 40_000,
        to: "192.0.2.2:8472".parse().unwrap(),
        ecn: Ecn::Ect0,
        ident: 0x1234,
    }
}

fn frame() -> [u8; FRAME_OVERHEAD] {
    std::array::from_fn(|i| i as u8 + 100)
}

#[test]
fn an_independent_parser_finds_every_header_of_the_probe() {
    let bytes = probe(&ORIGIN, &outer(), &frame());
    let (vnet, rest) = bytes.split_at(Layout::TunnelGso.len());
    let header = TunnelGsoHdr::decode(vnet).unwrap();
    assert_eq!(header.outer_th_offset, 34);
    assert_eq!(header.inner_nh_offset, 64);
    assert_eq!(header.vnet.csum_start, 84);
    assert_eq!(header.vnet.hdr_len, 104);
    assert_eq!(header.vnet.gso_type, 0x21);
    assert_eq!(header.vnet.flags, 9);

    let packet = SlicedPacket::from_ethernet(rest).unwrap();
    let Some(NetSlice::Ipv4(ip)) = packet.net else {
        panic!("no IPv4 header: {packet:?}");
    };
    let ip = ip.header();
    assert_eq!(ip.source_addr(), ORIGIN.local);
    assert_eq!(ip.destination_addr(), *outer().to.ip());
    assert_eq!((ip.ttl(), ip.identification()), (65, 0x1234));
    assert_eq!(ip.ecn().value(), 2);
    assert!(!ip.dont_fragment());
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
    assert_eq!(usize::from(ip.total_len()), PROBE_IP_LEN);
    assert_eq!(rest.len(), 14 + PROBE_IP_LEN);
    let Some(TransportSlice::Udp(udp)) = packet.transport else {
        panic!("no UDP header");
    };
    assert_eq!((udp.source_port(), udp.destination_port()), (40_000, 8472));
    assert_eq!(usize::from(udp.length()), PROBE_IP_LEN - 20);
    assert_eq!(udp.payload()[..FRAME_OVERHEAD], frame());

    let inner = SlicedPacket::from_ip(&udp.payload()[FRAME_OVERHEAD..]).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = inner.transport else {
        panic!("no inner TCP header");
    };
    assert_eq!(tcp.payload().len(), PROBE_PAYLOAD);
    assert!(tcp.ack() && !tcp.syn() && !tcp.fin() && !tcp.rst());
}

#[test]
fn the_outer_checksum_is_the_folded_pseudo_header() {
    let bytes = probe(&ORIGIN, &outer(), &frame());
    let ip = &bytes[38..58];
    let udp = &bytes[58..66];
    let len = u32::from(u16::from_be_bytes([udp[4], udp[5]]));
    let mut sum = 17 + len;
    for word in ip[12..20].chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    assert_eq!(u16::from_be_bytes([udp[6], udp[7]]), sum as u16);
}

#[test]
fn only_tcp_that_fits_is_taken() {
    let tcp = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type: vnet_hdr::GSO_TCPV4,
        ..VnetHdr::default()
    };
    assert!(takes(&tcp, MAX_INNER));
    assert!(!takes(&tcp, MAX_INNER + 1));
    let finished = VnetHdr { flags: 0, ..tcp };
    assert!(!takes(&finished, 1000), "its checksum is whole");
    for (gso_type, taken) in [
        (vnet_hdr::GSO_TCPV6 | vnet_hdr::GSO_ECN, true),
        (vnet_hdr::GSO_TCPV4 | vnet_hdr::GSO_ACCECN, false),
        (vnet_hdr::GSO_UDP_L4, false),
        (vnet_hdr::GSO_NONE, false),
    ] {
        assert_eq!(
            takes(&VnetHdr { gso_type, ..tcp }, 1000),
            taken,
            "{gso_type:#x}"
        );
    }
}
