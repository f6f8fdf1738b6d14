//! What pods write to their device.

use std::net::Ipv4Addr;
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::sys::tun::VNET_HDR_LEN;
use weft_dataplane::wire::checksum::pseudo_v4;
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::wire::ipv4;

/// Bytes of an IP header.
pub(crate) const IP: usize = 20;

/// What is between an IP header and the payload.
enum L4 {
    Tcp,
    Udp,
}

/// One packet, and as what it arrives.
pub(crate) struct Parcel {
    /// `virtio_net_hdr` and packet.
    pub(crate) bytes: Vec<u8>,
    /// Packets that arrive.
    pub(crate) pieces: usize,
    /// Bytes behind the IP headers of all of them together.
    pub(crate) payload: usize,
}

impl Parcel {
    /// A TCP super-packet of `payload` bytes in segments that fill an MTU of 1,450, with DF.
    pub(crate) fn tcp(src: Ipv4Addr, dst: Ipv4Addr, payload: usize) -> Parcel {
        packet(src, dst, (L4::Tcp, payload), vnet_hdr::GSO_TCPV4, true).arriving_as(1)
    }

    /// A datagram.
    pub(crate) fn udp(src: Ipv4Addr, dst: Ipv4Addr, payload: usize, df: bool) -> Parcel {
        packet(src, dst, (L4::Udp, payload), vnet_hdr::GSO_NONE, df).arriving_as(1)
    }

    /// A super-packet of `datagrams` full datagrams without DF, each of which arrives in two
    /// fragments.
    pub(crate) fn udp_in_fragments(src: Ipv4Addr, dst: Ipv4Addr, datagrams: usize) -> Parcel {
        let gso = vnet_hdr::GSO_UDP_L4;
        let mut parcel = packet(src, dst, (L4::Udp, datagrams * SEGMENT), gso, false);
        parcel.payload = datagrams * (8 + SEGMENT);
        parcel.arriving_as(2 * datagrams)
    }

    /// The same as so many packets, 0 if it is to be lost.
    pub(crate) fn arriving_as(self, pieces: usize) -> Parcel {
        Parcel { pieces, ..self }
    }
}

/// Payload of a segment or datagram of a super-packet.
const SEGMENT: usize = 1_398;

fn packet(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    (kind, payload): (L4, usize),
    gso_type: u8,
    df: bool,
) -> Parcel {
    let (mut l4, csum_offset, protocol) = match kind {
        L4::Tcp => (tcp_header(), 16, protocol::TCP),
        L4::Udp => (vec![0x9c, 0x40, 0, 9, 0, 0, 0, 0], 6, protocol::UDP),
    };
    let len = (l4.len() + payload) as u16;
    if protocol == protocol::UDP {
        l4[4..6].copy_from_slice(&len.to_be_bytes());
    }
    let seed = pseudo_v4(src, dst, protocol, u32::from(len)).fold();
    l4[csum_offset..csum_offset + 2].copy_from_slice(&seed.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((IP as u16 + len).to_be_bytes());
    ip.extend([0, 1, if df { 0x40 } else { 0 }, 0, 64, protocol, 0, 0]);
    ip.extend(src.octets());
    ip.extend(dst.octets());
    let mut header = ipv4::Packet::header_only(&mut ip[..]).unwrap();
    header.fill_checksum();
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type,
        hdr_len: (IP + l4.len()) as u16,
        gso_size: match gso_type {
            vnet_hdr::GSO_NONE => 0,
            _ => SEGMENT as u16,
        },
        csum_start: IP as u16,
        csum_offset: csum_offset as u16,
    };
    let mut bytes = vec![0; VNET_HDR_LEN];
    offload.encode(&mut bytes, Layout::Legacy).unwrap();
    bytes.extend(ip);
    bytes.extend(l4);
    bytes.resize(VNET_HDR_LEN + IP + usize::from(len), 7);
    Parcel {
        bytes,
        pieces: 1,
        payload: usize::from(len),
    }
}

/// With timestamps, so that a full segment fills the MTU.
fn tcp_header() -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1];
    header.extend([0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    header.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    header
}
