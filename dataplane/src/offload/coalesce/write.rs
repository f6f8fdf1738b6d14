//! One write to the TUN and how it grows.

use super::flow::{Flow, Slot};
use super::inspect::{InspectedSegment, MAX_OPTIONS, Protocol};
use super::{MAX_WRITE_PIECES, Packet, PacketBuffers};
use crate::offload::plan::{Piece, Source};
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::wire::checksum::Sum;
use crate::wire::{ipv4, ipv6, tcp, udp};

/// Bytes of one IP packet, and so of one super-packet.
const MAX_IP_LEN: usize = 65_535;

/// What the kernel is asked to do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offload {
    /// Nothing: the packet is as it came.
    None,
    /// Complete the checksum.
    Checksum,
    /// Treat it as a super-packet.
    Super,
}

/// One write to the TUN: a packet as it came, or a super-packet.
pub struct Write {
    offload: Offload,
    protocol: Protocol,
    v6: bool,
    /// Of what flow it is the latest or was, and where the index says so.
    pub(super) flow: Option<(Flow, Slot)>,
    /// No more segments may join.
    sealed: bool,
    /// The last segment had PSH set.
    push: bool,
    /// CWR is set, on a super-packet received whole.
    cwr: bool,
    l4: u16,
    header_len: u16,
    /// Payload bytes of every segment but the last.
    gso_size: u16,
    segments: u16,
    /// Number of the piece with the first segment: 1 if the `virtio_net_hdr` is a piece of
    /// its own, 0 if it lies before the segment.
    first: u8,
    next_ident: u16,
    next_seq: u32,
    /// Length of the IP packet.
    ip_len: usize,
    /// Length of the `virtio_net_hdr` before it.
    vnet_len: usize,
    /// Pseudo-header without its length.
    pseudo: Sum,
    /// What every segment must share with the first.
    ip_fields: u64,
    tcp_fields: u64,
    options: [u8; MAX_OPTIONS],
    options_len: u8,
    /// Apart from the rest, which then stays in the cache for many flows.
    pieces: Box<[Piece]>,
}

impl Write {
    pub(super) fn new(vnet_len: usize) -> Write {
        Write {
            offload: Offload::None,
            protocol: Protocol::Tcp,
            v6: false,
            flow: None,
            sealed: true,
            push: false,
            cwr: false,
            l4: 0,
            header_len: 0,
            gso_size: 0,
            segments: 0,
            first: 0,
            next_ident: 0,
            next_seq: 0,
            ip_len: 0,
            vnet_len,
            pseudo: Sum::default(),
            ip_fields: 0,
            tcp_fields: 0,
            options: [0; MAX_OPTIONS],
            options_len: 0,
            pieces: vec![Piece::EMPTY; MAX_WRITE_PIECES].into_boxed_slice(),
        }
    }

    /// The bytes to gather, in order: the `virtio_net_hdr` and the first segment, together
    /// in one piece if there was room, and the payload of the others.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..usize::from(self.first) + usize::from(self.segments)]
    }

    /// Bytes handed to the kernel, `virtio_net_hdr` included: what the write returns.
    pub fn bytes(&self) -> usize {
        self.vnet_len + self.ip_len
    }

    /// Bytes of the IP packet.
    pub fn ip_len(&self) -> usize {
        self.ip_len
    }

    /// Packets merged into this write; 1 for a super-packet that was received whole.
    pub fn segments(&self) -> usize {
        usize::from(self.segments)
    }

    /// Packets that the kernel will make of it.
    pub(super) fn kernel_segments(&self) -> usize {
        let payload = self.ip_len.saturating_sub(usize::from(self.header_len));
        payload.div_ceil(usize::from(self.gso_size).max(1))
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the kernel sees a super-packet.
    pub fn is_super(&self) -> bool {
        self.offload == Offload::Super
    }

    /// Become write `number`, of one packet as it came.
    pub(super) fn start(&mut self, at: Packet, ip_len: usize, number: usize) {
        self.offload = Offload::None;
        self.flow = None;
        self.sealed = true;
        self.push = false;
        self.cwr = false;
        self.segments = 1;
        self.ip_len = ip_len;
        let packet = Piece {
            source: Source::Buffer(at.buffer),
            offset: at.offset,
            len: ip_len as u32,
        };
        if usize::from(at.room) >= self.vnet_len {
            self.first = 0;
            self.pieces[0] = Piece {
                offset: packet.offset - self.vnet_len as u32,
                len: packet.len + self.vnet_len as u32,
                ..packet
            };
        } else {
            self.first = 1;
            self.pieces[0] = Piece {
                source: Source::Arena,
                offset: (number * self.vnet_len) as u32,
                len: self.vnet_len as u32,
            };
            self.pieces[1] = packet;
        }
    }

    /// Take over what merging and offloads need to know of the first segment.
    pub(super) fn describe(&mut self, segment: &InspectedSegment<'_>, pseudo: Sum) {
        self.protocol = segment.protocol;
        self.v6 = segment.v6;
        self.l4 = segment.l4 as u16;
        self.header_len = segment.header_len as u16;
        self.gso_size = segment.payload as u16;
        self.pseudo = pseudo;
    }

    /// Have the kernel complete a partial checksum.
    pub(super) fn complete_checksum(&mut self) {
        self.offload = Offload::Checksum;
    }

    /// Hand on a super-packet that was received whole.
    pub(super) fn pass_on(&mut self, segment: &InspectedSegment<'_>, gso_size: u16) {
        self.offload = Offload::Super;
        self.gso_size = gso_size;
        self.cwr = segment.flags & tcp::CWR != 0;
    }

    /// Let segments join that continue this one.
    pub(super) fn grow_from(&mut self, segment: &InspectedSegment<'_>) {
        self.ip_fields = segment.ip_fields;
        self.tcp_fields = segment.tcp_fields;
        let len = segment.options.len().min(MAX_OPTIONS);
        self.options[..len].copy_from_slice(&segment.options[..len]);
        self.options_len = len as u8;
        self.follow(segment);
    }

    /// Whether `segment` continues this write.
    pub(super) fn accepts(&self, segment: &InspectedSegment<'_>, max_segments: u16) -> bool {
        if self.sealed || self.segments >= max_segments {
            return false;
        }
        if segment.payload > usize::from(self.gso_size) {
            return false;
        }
        if self.ip_len + segment.payload > MAX_IP_LEN {
            return false;
        }
        if segment.protocol == Protocol::Tcp && segment.seq != self.next_seq {
            return false;
        }
        if segment.ident_counts && segment.ident != self.next_ident {
            return false;
        }
        if self.ip_fields != segment.ip_fields || self.tcp_fields != segment.tcp_fields {
            return false;
        }
        self.options[..usize::from(self.options_len)] == *segment.options
    }

    pub(super) fn append(&mut self, at: Packet, segment: &InspectedSegment<'_>) {
        self.pieces[usize::from(self.first) + usize::from(self.segments)] = Piece {
            source: Source::Buffer(at.buffer),
            offset: at.offset + segment.header_len as u32,
            len: segment.payload as u32,
        };
        self.segments += 1;
        self.ip_len += segment.payload;
        self.offload = Offload::Super;
        self.follow(segment);
    }

    /// What the next segment must look like after `segment`.
    fn follow(&mut self, segment: &InspectedSegment<'_>) {
        self.push = segment.flags & tcp::PSH != 0;
        self.sealed = self.push || segment.payload < usize::from(self.gso_size);
        self.next_seq = segment.seq.wrapping_add(segment.payload as u32);
        self.next_ident = segment.ident.wrapping_add(1);
    }

    /// Write the `virtio_net_hdr`, to `slot` if the packet has no room for it, and for a
    /// super-packet its headers into the buffer; `None` when the buffer is not the one that
    /// the packet was in.
    pub(super) fn finish(
        &self,
        buffers: &mut impl PacketBuffers,
        slot: &mut [u8],
        layout: Layout,
    ) -> Option<()> {
        let first = self.pieces.get(usize::from(self.first))?;
        let Source::Buffer(id) = first.source else {
            return None;
        };
        let from = first.offset as usize;
        let to = from + first.len as usize;
        let head = buffers.bytes_mut(id).get_mut(from..to)?;
        let (vnet, ip) = match self.first {
            0 => head.split_at_mut_checked(self.vnet_len)?,
            _ => (slot, head),
        };
        self.vnet_hdr().encode(vnet, layout).ok()?;
        if self.offload == Offload::Super {
            self.patch(ip.get_mut(..usize::from(self.header_len))?)?;
        }
        Some(())
    }

    fn vnet_hdr(&self) -> VnetHdr {
        let (tcp, csum_offset) = match self.protocol {
            Protocol::Tcp => (true, vnet_hdr::TCP_CSUM_OFFSET),
            Protocol::Udp => (false, vnet_hdr::UDP_CSUM_OFFSET),
        };
        let checksum = VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM,
            csum_start: self.l4,
            csum_offset,
            ..VnetHdr::default()
        };
        match self.offload {
            Offload::None => VnetHdr::default(),
            Offload::Checksum => checksum,
            Offload::Super => VnetHdr {
                gso_type: match (tcp, self.v6) {
                    (true, false) => vnet_hdr::GSO_TCPV4,
                    (true, true) => vnet_hdr::GSO_TCPV6,
                    (false, _) => vnet_hdr::GSO_UDP_L4,
                } | if self.cwr { vnet_hdr::GSO_ECN } else { 0 },
                hdr_len: self.header_len,
                gso_size: self.gso_size,
                ..checksum
            },
        }
    }

    /// Turn the first segment's headers into those of the super-packet. Writing them
    /// twice changes nothing.
    fn patch(&self, header: &mut [u8]) -> Option<()> {
        let (ip_header, l4_header) = header.split_at_mut_checked(usize::from(self.l4))?;
        if self.segments == 1 {
            // Received whole: the IP header is right, or the stack is to see that it is not.
        } else if self.v6 {
            let mut packet = ipv6::Packet::header_only(ip_header).ok()?;
            packet.set_payload_len((self.ip_len - ipv6::HEADER_LEN) as u16);
        } else {
            let mut packet = ipv4::Packet::header_only(ip_header).ok()?;
            packet.set_total_len(self.ip_len as u16);
            packet.fill_checksum();
        }
        let l4_len = (self.ip_len - usize::from(self.l4)) as u16;
        let seed = self.pseudo.add_u16(l4_len).fold();
        match self.protocol {
            Protocol::Tcp => {
                let mut segment = tcp::Segment::new(l4_header).ok()?;
                if self.push {
                    segment.set_flags(segment.flags() | tcp::PSH);
                }
                segment.set_checksum(seed);
            }
            Protocol::Udp => {
                let mut datagram = udp::Datagram::header_only(l4_header).ok()?;
                datagram.set_len(l4_len);
                datagram.set_checksum(seed);
            }
        }
        Some(())
    }
}
