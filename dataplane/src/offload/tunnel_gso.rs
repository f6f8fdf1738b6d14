//! Tunnel GSO: super-packets that leave unsegmented, as the kernel's own VXLAN sends them.
//!
//! Since Linux 6.17 a TAP takes a whole VXLAN datagram around a TCP super-packet behind a
//! 24-byte `virtio_net_hdr` (VIRTIO 1.4, 5.1.6: UDP tunnel GSO). The kernel routes it out as
//! `SKB_GSO_UDP_TUNNEL`, and the network device, or the last moment before it, cuts it into
//! frames. Nothing is segmented or summed here: only headers are written, into the headroom
//! right before the inner packet.

pub mod recut;

use super::segment::Segmenter;
use super::vnet_hdr::{self, Layout, TunnelGsoHdr, VnetHdr};
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, MacAddr};
use crate::wire::frame::FRAME_OVERHEAD;
use crate::wire::ip::protocol;
use crate::wire::{checksum, ipv4, udp};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes in front of the inner packet: `virtio_net_hdr`, outer Ethernet, IPv4 and UDP header,
/// and the 22 bytes of every frame.
pub const HEADER_LEN: usize = Layout::TunnelGso.len()
    + ethernet::HEADER_LEN
    + ipv4::MIN_HEADER_LEN
    + udp::HEADER_LEN
    + FRAME_OVERHEAD;

/// Where, from the start of the outer Ethernet header, things begin.
const OUTER_L4: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
const INNER_L3: usize = OUTER_L4 + udp::HEADER_LEN + FRAME_OVERHEAD;

/// Longest inner packet: the outer one must not exceed 65,535 bytes.
pub const MAX_INNER: usize = 65_535 - ipv4::MIN_HEADER_LEN - udp::HEADER_LEN - FRAME_OVERHEAD;

/// The kernel forwards what comes from the TAP, which takes one off: 64 is to be on the wire.
const TTL: u8 = 65;

/// What the outer headers of all super-packets of this node have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// MAC address of the TAP: to whom the outer Ethernet header is addressed.
    pub mac: MacAddr,
    /// Underlay address to send from.
    pub local: Ipv4Addr,
}

/// The outer header of one super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Source port.
    pub src_port: u16,
    /// Underlay address and VXLAN port of the peer.
    pub to: SocketAddrV4,
    /// Outer ECN field.
    pub ecn: Ecn,
    /// IPv4 identification of the first frame; each takes one.
    pub ident: u16,
}

/// Whether a super-packet of `len` bytes can leave by tunnel GSO: TCP, short enough, and with a
/// partial checksum. (The kernel does not know UDP super-packets here, nor AccECN. It takes none
/// without a partial checksum; hosts make no other, but virtual machines may.)
pub fn takes(offload: &VnetHdr, len: usize) -> bool {
    let known = matches!(
        offload.gso_type & !vnet_hdr::GSO_ECN,
        vnet_hdr::GSO_TCPV4 | vnet_hdr::GSO_TCPV6
    );
    known && offload.needs_csum() && len <= MAX_INNER
}

/// Write all headers of a super-packet into `head`, the [`HEADER_LEN`] bytes before it.
///
/// `len` is the length of the inner packet, `offload` what the TUN said of it, and
/// `segmenter` made of both; `frame` is what every frame to the peer begins with. The
/// packet must be one that [`takes`] allows.
pub fn write(
    head: &mut [u8; HEADER_LEN],
    origin: &Origin,
    outer: &Outer,
    frame: &[u8; FRAME_OVERHEAD],
    (offload, segmenter, len): (&VnetHdr, &Segmenter, usize),
) {
    let (vnet, rest) = head.split_at_mut(Layout::TunnelGso.len());
    let (ether, rest) = rest.split_at_mut(ethernet::HEADER_LEN);
    let (ip, rest) = rest.split_at_mut(ipv4::MIN_HEADER_LEN);
    let (datagram, inner) = rest.split_at_mut(udp::HEADER_LEN);
    let header = TunnelGsoHdr {
        vnet: VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM | vnet_hdr::F_UDP_TUNNEL_CSUM,
            gso_type: offload.gso_type | vnet_hdr::GSO_UDP_TUNNEL_IPV4,
            hdr_len: (INNER_L3 + segmenter.header_len()) as u16,
            gso_size: offload.gso_size,
            csum_start: offload.csum_start + INNER_L3 as u16,
            csum_offset: offload.csum_offset,
        },
        outer_th_offset: OUTER_L4 as u16,
        inner_nh_offset: INNER_L3 as u16,
    };
    // The split above gives each exactly the length that it takes.
    let _ = header.encode(vnet);
    if let Ok(ether) = ether.try_into() {
        // The source matters to nobody; a local one that is not the TAP's own.
        let src = MacAddr([2, 0, 0, 0, 0, 0]);
        ethernet::write(ether, origin.mac, src, ETHERTYPE_IPV4);
    }
    inner.copy_from_slice(frame);
    let udp_len = (udp::HEADER_LEN + FRAME_OVERHEAD + len) as u16;
    write_ip(ip, origin.local, outer, udp_len);
    write_udp(datagram, origin.local, outer, udp_len);
}

fn write_ip(header: &mut [u8], local: Ipv4Addr, outer: &Outer, udp_len: u16) {
    header.fill(0);
    header[0] = 0x45;
    header[1] = outer.ecn.bits();
    header[8] = TTL;
    header[9] = protocol::UDP;
    header[12..16].copy_from_slice(&local.octets());
    header[16..20].copy_from_slice(&outer.to.ip().octets());
    if let Ok(mut packet) = ipv4::Packet::header_only(header) {
        packet.set_total_len(ipv4::MIN_HEADER_LEN as u16 + udp_len);
        packet.set_ident(outer.ident);
        packet.fill_checksum();
    }
}

/// The checksum is partial: the kernel completes that of every frame.
fn write_udp(header: &mut [u8], local: Ipv4Addr, outer: &Outer, udp_len: u16) {
    if let Ok(mut datagram) = udp::Datagram::header_only(header) {
        datagram.set_src_port(outer.src_port);
        datagram.set_dst_port(outer.to.port());
        datagram.set_len(udp_len);
        let to = *outer.to.ip();
        let seed = checksum::pseudo_v4(local, to, protocol::UDP, u32::from(udp_len));
        datagram.set_checksum(seed.fold());
    }
}

/// Length in bytes of the outer packet that [`probe`] makes when it leaves whole.
pub const PROBE_IP_LEN: usize =
    HEADER_LEN - Layout::TunnelGso.len() - ethernet::HEADER_LEN + PROBE_INNER;

const PROBE_PAYLOAD: usize = 16;
const PROBE_INNER: usize = 40 + PROBE_PAYLOAD;

/// Length in bytes of what [`probe`] makes.
pub const PROBE_LEN: usize = HEADER_LEN + PROBE_INNER;

/// A super-packet of two tiny segments that shows whether such ones get out of the node.
///
/// The peer takes the frames as ours and then drops the segments in silence: no packet can
/// come from 0.0.0.0.
pub fn probe(origin: &Origin, outer: &Outer, frame: &[u8; FRAME_OVERHEAD]) -> [u8; PROBE_LEN] {
    let mut bytes = [0; PROBE_LEN];
    let (head, inner) = bytes.split_at_mut(HEADER_LEN);
    let (ip, tcp) = inner.split_at_mut(ipv4::MIN_HEADER_LEN);
    ip[0] = 0x45;
    ip[8] = 1;
    ip[9] = protocol::TCP;
    ip[16..20].copy_from_slice(&outer.to.ip().octets());
    if let Ok(mut packet) = ipv4::Packet::header_only(ip) {
        packet.set_total_len(PROBE_INNER as u16);
        packet.set_fragment(true, false, 0);
        packet.fill_checksum();
    }
    // Data offset 5 words, flag ACK, discard port to discard port.
    tcp[1] = 9;
    tcp[3] = 9;
    tcp[12] = 0x50;
    tcp[13] = 0x10;
    let len = tcp.len() as u32;
    let seed = checksum::pseudo_v4(Ipv4Addr::UNSPECIFIED, *outer.to.ip(), protocol::TCP, len);
    tcp[16..18].copy_from_slice(&seed.fold().to_be_bytes());
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type: vnet_hdr::GSO_TCPV4,
        hdr_len: 40,
        gso_size: PROBE_PAYLOAD as u16 / 2,
        csum_start: 20,
        csum_offset: vnet_hdr::TCP_CSUM_OFFSET,
    };
    if let Ok(segmenter) = Segmenter::new(&offload, inner)
        && let Ok(head) = head.try_into()
    {
        write(
            head,
            origin,
            outer,
            frame,
            (&offload, &segmenter, PROBE_INNER),
        );
    }
    bytes
}

/// The probe as one datagram of a socket: one frame of the same length, which the peer drops, too.
pub fn datagram(probe: &[u8; PROBE_LEN]) -> &[u8] {
    &probe[HEADER_LEN - FRAME_OVERHEAD..]
}

#[cfg(test)]
mod tests;
