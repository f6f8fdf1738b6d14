//! Super-packet to segments, as the kernel's software GSO does it.
//!
//! The rules are those of `tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment` and
//! `ipv6_gso_segment`, and the output is theirs byte for byte. Only headers are written;
//! payload stays where it is and is read once, for the checksum.

use super::transport::{Transport, pseudo_sum};
use super::vnet_hdr::{self, VnetHdr};
use crate::wire::checksum::{Sum, sum};
use crate::wire::ip::{IpPacket, protocol};
use crate::wire::{Malformed, ipv4, ipv6, tcp, udp};
use std::ops::Range;

/// Longest run of IP and transport headers that is accepted, in bytes: IPv4 and TCP take
/// 120 at most, the rest is for IPv6 extension headers.
pub const MAX_HEADER_LEN: usize = 256;

/// The least payload that segments are shortened to, as the kernel's `TCP_MIN_SND_MSS` less
/// its options.
const MIN_PAYLOAD: usize = 8;

/// UDP segments of one super-packet (`UDP_MAX_SEGMENTS`).
const MAX_UDP_SEGMENTS: usize = 128;

/// Why a packet read with a `virtio_net_hdr` cannot be segmented or completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// `gso_type` says this is not a super-packet.
    #[error("not a super-packet")]
    NotSuper,
    /// A `gso_type` that is neither TCP nor UDP_L4.
    #[error("gso_type {0:#x} is not known")]
    UnknownType(u8),
    /// `gso_size` is zero.
    #[error("gso_size is zero")]
    ZeroSize,
    /// The IP or transport header is malformed.
    #[error("malformed header: {0}")]
    Malformed(#[from] Malformed),
    /// The length fields of the headers do not cover exactly the buffer.
    #[error("header lengths and buffer length differ")]
    Length,
    /// A fragment cannot be a super-packet.
    #[error("a super-packet is a fragment")]
    Fragment,
    /// `gso_type` does not fit the IP version or the protocol.
    #[error("gso_type does not fit the headers")]
    WrongProtocol,
    /// Headers longer than [`MAX_HEADER_LEN`].
    #[error("headers too long")]
    HeaderTooLong,
    /// The checksum fields are missing, out of range or not those of the transport header.
    #[error("csum_start and csum_offset do not fit the headers")]
    Checksum,
    /// More UDP segments than the kernel accepts.
    #[error("too many segments")]
    TooMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

/// Cuts one super-packet into segments, in order.
///
/// It borrows nothing: every call takes the super-packet again, which must be the bytes
/// given to [`Segmenter::new`].
#[derive(Clone, Copy, Debug)]
pub struct Segmenter {
    kind: Kind,
    v6: bool,
    /// Where the transport header starts.
    l4: usize,
    header_len: usize,
    gso_size: usize,
    /// Length of the super-packet.
    len: usize,
    /// Where the next segment's payload starts.
    cursor: usize,
    /// IPv4 identification of the next segment.
    ident: u16,
    /// TCP sequence number of the next segment.
    seq: u32,
    /// TCP flags of the super-packet.
    flags: u16,
    /// AccECN: CWR belongs to every segment.
    keep_cwr: bool,
    /// The IPv4 header without total length, identification and checksum.
    ip_sum: Sum,
    /// Pseudo-header and transport header without lengths, checksum and, for TCP,
    /// sequence number and flags.
    l4_sum: Sum,
}

impl Segmenter {
    /// Check a super-packet read from the TUN and prepare to cut it.
    ///
    /// `ip` is the IP packet without its `virtio_net_hdr`. `hdr_len` is not looked at.
    pub fn new(hdr: &VnetHdr, ip: &[u8]) -> Result<Segmenter, SegmentError> {
        Segmenter::of(hdr, &IpPacket::new(ip)?)
    }

    /// As [`Segmenter::new`], of a packet that has been parsed already and fills its buffer.
    pub fn of(hdr: &VnetHdr, packet: &IpPacket<'_>) -> Result<Segmenter, SegmentError> {
        let (kind, want_v6) = match hdr.gso() {
            vnet_hdr::GSO_NONE => return Err(SegmentError::NotSuper),
            vnet_hdr::GSO_TCPV4 => (Kind::Tcp, Some(false)),
            vnet_hdr::GSO_TCPV6 => (Kind::Tcp, Some(true)),
            vnet_hdr::GSO_UDP_L4 if hdr.gso_type == vnet_hdr::GSO_UDP_L4 => (Kind::Udp, None),
            _ => return Err(SegmentError::UnknownType(hdr.gso_type)),
        };
        if hdr.gso_size == 0 {
            return Err(SegmentError::ZeroSize);
        }
        let ip = packet.bytes();
        if packet.total_len() != ip.len() {
            return Err(SegmentError::Length);
        }
        let v6 = matches!(packet, IpPacket::V6(_));
        let transport = Transport::find(packet).ok_or(SegmentError::HeaderTooLong)?;
        if transport.fragment {
            return Err(SegmentError::Fragment);
        }
        let wanted = match kind {
            Kind::Tcp => protocol::TCP,
            Kind::Udp => protocol::UDP,
        };
        if transport.protocol != wanted || want_v6.is_some_and(|want| want != v6) {
            return Err(SegmentError::WrongProtocol);
        }
        let mut segmenter = Segmenter {
            kind,
            v6,
            l4: transport.offset,
            header_len: 0,
            gso_size: usize::from(hdr.gso_size),
            len: ip.len(),
            cursor: 0,
            ident: 0,
            seq: 0,
            flags: 0,
            keep_cwr: hdr.gso_type & vnet_hdr::GSO_ACCECN != 0,
            ip_sum: Sum::default(),
            l4_sum: Sum::default(),
        };
        let l4 = ip.get(transport.offset..).ok_or(SegmentError::Length)?;
        segmenter.read_transport(hdr, packet, l4)?;
        if let IpPacket::V4(packet) = packet {
            segmenter.ident = packet.ident();
            segmenter.ip_sum = sum(packet.header())
                .add_u16(!packet.total_len())
                .add_u16(!packet.ident())
                .add_u16(!packet.checksum());
        }
        Ok(segmenter)
    }

    /// Check the transport header and take from it what all segments share.
    fn read_transport(
        &mut self,
        hdr: &VnetHdr,
        packet: &IpPacket<'_>,
        l4: &[u8],
    ) -> Result<(), SegmentError> {
        let (l4_header, checksum, csum_offset) = match self.kind {
            Kind::Tcp => {
                let segment = tcp::Segment::new(l4)?;
                self.seq = segment.seq();
                self.flags = segment.flags();
                // The data offset stays in: only the twelve bits of flags go.
                self.l4_sum = sum(segment.header())
                    .add_u32(!segment.seq())
                    .add_u16(!segment.flags())
                    .add_u16(!segment.checksum());
                (
                    segment.header_len(),
                    segment.checksum(),
                    vnet_hdr::TCP_CSUM_OFFSET,
                )
            }
            Kind::Udp => {
                let datagram = udp::Datagram::header_only(l4)?;
                if usize::from(datagram.len()) != l4.len() {
                    return Err(SegmentError::Length);
                }
                self.l4_sum = Sum::default()
                    .add_u16(datagram.src_port())
                    .add_u16(datagram.dst_port());
                (
                    udp::HEADER_LEN,
                    datagram.checksum(),
                    vnet_hdr::UDP_CSUM_OFFSET,
                )
            }
        };
        self.header_len = self.l4 + l4_header;
        self.cursor = self.header_len;
        if self.header_len > MAX_HEADER_LEN {
            return Err(SegmentError::HeaderTooLong);
        }
        let payload = self.len - self.header_len;
        if payload == 0 {
            return Err(SegmentError::Length);
        }
        if self.kind == Kind::Udp && payload > self.gso_size * MAX_UDP_SEGMENTS {
            return Err(SegmentError::TooMany);
        }
        let pseudo = if hdr.needs_csum() {
            if usize::from(hdr.csum_start) != self.l4 || hdr.csum_offset != csum_offset {
                return Err(SegmentError::Checksum);
            }
            // The kernel builds on the seed as well. It is the pseudo-header sum with the
            // length of the super-packet, and knows of routing headers what we do not.
            Sum::default().add_u16(checksum).add_u16(!(l4.len() as u16))
        } else if self.kind == Kind::Tcp {
            pseudo_sum(packet, protocol::TCP, 0)
        } else {
            return Err(SegmentError::Checksum);
        };
        self.l4_sum = self.l4_sum.add(pseudo);
        Ok(())
    }

    /// Bytes of IP and transport header that every segment starts with.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// The same with segments of `len` bytes at most, header included.
    ///
    /// `None` for UDP, whose datagrams are the sender's choice, and where too little payload
    /// would be left to be worth a segment.
    pub fn shortened(&self, len: usize) -> Option<Segmenter> {
        let payload = len.saturating_sub(self.header_len);
        if self.kind != Kind::Tcp || payload < MIN_PAYLOAD {
            return None;
        }
        Some(Segmenter {
            gso_size: self.gso_size.min(payload),
            ..*self
        })
    }

    /// Whether it cuts UDP, whose datagrams have the length that their sender chose.
    pub fn is_udp(&self) -> bool {
        self.kind == Kind::Udp
    }

    /// Segments that are still to come.
    pub fn remaining(&self) -> usize {
        (self.len - self.cursor).div_ceil(self.gso_size)
    }

    /// Segments that the whole super-packet is cut into.
    pub fn count(&self) -> u16 {
        let payload = self.len - self.header_len;
        u16::try_from(payload.div_ceil(self.gso_size)).unwrap_or(u16::MAX)
    }

    /// Whether all segments have been handed out.
    pub fn is_done(&self) -> bool {
        self.cursor == self.len
    }

    /// Length in bytes of the next segment, header included.
    pub fn next_len(&self) -> Option<usize> {
        let payload = self.gso_size.min(self.len - self.cursor);
        (payload != 0).then_some(self.header_len + payload)
    }

    /// Write the next segment's finished headers to the first [`Segmenter::header_len`]
    /// bytes of `slot` and return where in `ip` its payload lies.
    ///
    /// `None` at the end, or when `slot` is too short or `ip` is not the super-packet;
    /// nothing advances then.
    #[inline]
    pub fn segment(&mut self, ip: &[u8], slot: &mut [u8]) -> Option<Range<usize>> {
        let end = self.len.min(self.cursor + self.gso_size);
        let header = ip.get(..self.header_len)?;
        let payload = ip.get(self.cursor..end).filter(|bytes| !bytes.is_empty())?;
        let slot = slot.get_mut(..self.header_len)?;
        slot.copy_from_slice(header);
        let (ip_header, l4_header) = slot.split_at_mut(self.l4);
        self.write_ip(ip_header, payload.len())?;
        let l4_len = self.header_len - self.l4 + payload.len();
        let sum = self.l4_sum.add_u16(l4_len as u16).add_bytes(payload);
        match self.kind {
            Kind::Tcp => {
                let mut segment = tcp::Segment::new(l4_header).ok()?;
                let flags = self.flags_until(end);
                segment.set_seq(self.seq);
                segment.set_flags(flags);
                segment.set_checksum(sum.add_u32(self.seq).add_u16(flags).finish());
            }
            Kind::Udp => {
                let mut datagram = udp::Datagram::header_only(l4_header).ok()?;
                datagram.set_len(l4_len as u16);
                // The length counts twice: in the pseudo-header and in the header.
                datagram.set_checksum(sum.add_u16(l4_len as u16).finish_udp());
            }
        }
        let range = self.cursor..end;
        self.cursor = end;
        self.ident = self.ident.wrapping_add(1);
        self.seq = self.seq.wrapping_add(payload.len() as u32);
        Some(range)
    }

    #[inline]
    fn write_ip(&self, header: &mut [u8], payload: usize) -> Option<()> {
        let total = self.header_len + payload;
        if self.v6 {
            let mut packet = ipv6::Packet::header_only(header).ok()?;
            packet.set_payload_len((total - ipv6::HEADER_LEN) as u16);
        } else {
            let mut packet = ipv4::Packet::header_only(header).ok()?;
            packet.set_total_len(total as u16);
            packet.set_ident(self.ident);
            let sum = self.ip_sum.add_u16(total as u16).add_u16(self.ident);
            packet.set_checksum(sum.finish());
        }
        Some(())
    }

    /// The flags of the segment whose payload runs from the cursor to `end`: FIN and PSH
    /// close the last one only, CWR answers once and so opens the first one only. URG stays in
    /// all, with its pointer, as with the kernel, whose TCP makes no super-packets of urgent data.
    #[inline]
    fn flags_until(&self, end: usize) -> u16 {
        let mut flags = self.flags;
        if end != self.len {
            flags &= !(tcp::FIN | tcp::PSH);
        }
        if self.cursor != self.header_len && !self.keep_cwr {
            flags &= !tcp::CWR;
        }
        flags
    }
}

/// Complete the partial checksum of a packet that is not a super-packet, in place.
///
/// Does nothing when the header asks for nothing. The field holds the folded pseudo-header
/// sum and is summed with the rest; a result of 0 is stored as 0xffff whatever the
/// protocol, as `skb_checksum_help` does.
pub fn finish_checksum(hdr: &VnetHdr, ip: &mut [u8]) -> Result<(), SegmentError> {
    if !hdr.needs_csum() {
        return Ok(());
    }
    let start = usize::from(hdr.csum_start);
    let offset = usize::from(hdr.csum_offset);
    if start < ipv4::MIN_HEADER_LEN {
        return Err(SegmentError::Checksum);
    }
    let covered = ip.get_mut(start..).ok_or(SegmentError::Checksum)?;
    // Behind an odd offset the field would straddle two words of the sum.
    if !offset.is_multiple_of(2) || offset + 2 > covered.len() {
        return Err(SegmentError::Checksum);
    }
    let checksum = sum(covered).finish_udp();
    covered[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
