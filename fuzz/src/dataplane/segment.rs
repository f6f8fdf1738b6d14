//! The `segment` fuzz target: whatever is accepted is cut into right segments.
//!
//! Input: a mode byte, a 10-byte `virtio_net_hdr` in native byte order, an IP packet. With
//! an odd mode the length fields, the checksum seed and `csum_start` are put right first,
//! so that mutation gets past the checks and the segments can be verified.

use weft_dataplane::offload::segment::{MAX_HEADER_LEN, Segmenter, finish_checksum};
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::wire::checksum::sum;
use weft_dataplane::wire::ip::{IpPacket, protocol};
use weft_dataplane::wire::{ipv4, ipv6, tcp, udp};

pub(super) fn run(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let Ok(mut hdr) = VnetHdr::decode(data, Layout::Legacy) else {
        return;
    };
    let mut ip = data[Layout::Legacy.len()..].to_vec();
    let right = mode & 1 == 1 && put_right(&mut hdr, &mut ip).is_some();
    if let Ok(segmenter) = Segmenter::new(&hdr, &ip) {
        cut(segmenter, &ip, right);
    }
    let before = ip.clone();
    match finish_checksum(&hdr, &mut ip) {
        Ok(()) if right => assert!(sum_of(&ip).is_none_or(|(_, valid)| valid)),
        Ok(()) => {}
        Err(_) => assert_eq!(ip, before),
    }
}

/// Make lengths, seed and checksum fields those of a packet that fills the buffer.
fn put_right(hdr: &mut VnetHdr, ip: &mut [u8]) -> Option<()> {
    let len = ip.len();
    if ip.first()? >> 4 == 4 {
        let mut packet = ipv4::Packet::header_only(&mut *ip).ok()?;
        packet.set_total_len(u16::try_from(len).ok()?);
        packet.set_fragment(true, false, 0);
        packet.fill_checksum();
    } else {
        let mut packet = ipv6::Packet::header_only(&mut *ip).ok()?;
        packet.set_payload_len(u16::try_from(len - ipv6::HEADER_LEN).ok()?);
    }
    let packet = IpPacket::new(ip).ok()?;
    let (number, l4) = (packet.protocol(), packet.header_len());
    let l4_len = (len - l4) as u32;
    let seed = packet.pseudo_sum(l4_len).fold();
    hdr.csum_start = l4 as u16;
    match number {
        protocol::TCP => {
            tcp::Segment::new(&mut ip[l4..]).ok()?.set_checksum(seed);
            hdr.csum_offset = vnet_hdr::TCP_CSUM_OFFSET;
        }
        protocol::UDP => {
            let mut datagram = udp::Datagram::header_only(&mut ip[l4..]).ok()?;
            datagram.set_checksum(seed);
            datagram.set_len(l4_len as u16);
            hdr.csum_offset = vnet_hdr::UDP_CSUM_OFFSET;
        }
        _ => return None,
    }
    hdr.flags |= vnet_hdr::F_NEEDS_CSUM;
    Some(())
}

fn cut(mut segmenter: Segmenter, ip: &[u8], right: bool) {
    let header_len = segmenter.header_len();
    let mut slot = [0; MAX_HEADER_LEN];
    let mut at = header_len;
    let mut left = segmenter.remaining();
    assert_ne!(left, 0);
    while let Some(len) = segmenter.next_len() {
        let payload = segmenter.segment(ip, &mut slot).expect("a segment is left");
        assert_eq!(payload.start, at);
        assert_eq!(header_len + payload.len(), len);
        at = payload.end;
        left -= 1;
        let mut segment = slot[..header_len].to_vec();
        segment.extend_from_slice(&ip[payload.clone()]);
        let packet = IpPacket::new(&segment).expect("a segment is a packet");
        assert_eq!(packet.total_len(), segment.len());
        if let IpPacket::V4(packet) = packet {
            assert!(packet.verify_checksum());
        }
        // Only a right seed and no extension header make a checksum that can be verified.
        if right && let Some((flags, valid)) = sum_of(&segment) {
            assert!(valid);
            let end = payload.end == ip.len();
            assert!(end || flags & (tcp::FIN | tcp::PSH) == 0);
        }
    }
    assert_eq!((at, left), (ip.len(), 0));
    assert!(segmenter.is_done());
}

/// TCP flags and whether the transport checksum is right; `None` behind extension headers
/// or for other protocols.
fn sum_of(bytes: &[u8]) -> Option<(u16, bool)> {
    let packet = IpPacket::new(bytes).ok()?;
    let l4 = packet.payload();
    let valid = packet.pseudo_sum(l4.len() as u32).add(sum(l4)).is_valid();
    match packet.protocol() {
        protocol::TCP => Some((tcp::Segment::new(l4).ok()?.flags(), valid)),
        protocol::UDP => Some((0, valid)),
        _ => None,
    }
}
