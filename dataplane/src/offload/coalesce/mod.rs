//! Segments back to super-packets: GRO in userspace.
//!
//! The TUN runs the whole receive stack for every write, so one write of 45 segments costs
//! little more than one of a single segment. Which segments may merge follows the kernel's
//! GRO (`tcp_gro_receive`, `udp_gro_receive`, `inet_gro_receive`), with these choices:
//!
//! - Everything but lengths, sequence numbers, identification, PSH and checksums must be
//!   equal, the window too: what the receiver sees after segmenting the super-packet again
//!   is what was sent.
//! - The identification is free if DF is set (RFC 6864); else it must count up.
//! - UDP without a checksum is never merged: it would leave with one.
//!
//! # Checksums
//!
//! A super-packet is written with a partial checksum, so the receiving stack takes its
//! payload on trust. Before a segment merges, something must therefore vouch for it: the
//! outer checksum ([`Trust::Vouched`]), its own checksum, verified here, or a partial one
//! of its own. A segment whose checksum is wrong is written alone as it came; the stack
//! verifies, drops and counts it (`InCsumErrors`), as it would without us. Single packets
//! are never altered, vouched for or not: the stack verifies what the sender wrote, and
//! forwarded packets leave with the sender's checksum. Only where it is partial is the
//! stack told so.
//!
//! # Order
//!
//! Only the latest write of a flow may grow, and any packet of the flow that does not merge
//! becomes its latest write. Packets of which the flow cannot be told, such as fragments,
//! keep everything before them from growing.

mod flow;
mod inspect;

use self::flow::{Flow, Index, Slot};
use self::inspect::{Inner, Protocol, Segment, Template, inspect};
use super::plan::{Piece, Source};
use super::vnet_hdr::{self, Layout, VnetHdr};
use crate::stats::Drop;
use crate::wire::checksum::Sum;
use crate::wire::ip::IpPacket;
use crate::wire::{ipv4, ipv6, tcp, udp};

/// TCP segments that one write may carry.
pub const MAX_TCP_SEGMENTS: u16 = 64;

/// UDP segments that one write may carry (`UDP_MAX_SEGMENTS`).
pub const MAX_UDP_SEGMENTS: u16 = 128;

/// Bytes of one IP packet, and so of one super-packet.
const MAX_IP_LEN: usize = 65_535;

/// The receive buffers that packets lie in, by number.
pub trait Buffers {
    /// The whole buffer.
    fn bytes(&self, id: u16) -> &[u8];
    /// The whole buffer, writable.
    fn bytes_mut(&mut self, id: u16) -> &mut [u8];
}

/// Where an inner IP packet lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of its receive buffer.
    pub buffer: u16,
    /// First byte of the IP header, from the start of the buffer.
    pub offset: u32,
    /// Length in bytes up to the end of the frame.
    pub len: u32,
}

/// Whether something but the inner checksum vouches for a packet's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The kernel or the NIC has verified a non-zero outer UDP checksum, as it must have
    /// for every train.
    Vouched,
    /// Nothing is known: verify the inner checksum before merging.
    Unknown,
}

/// A packet that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// All writes are in use. Write them, clear and push again; nothing has changed.
    Full,
    /// The packet must go no further.
    Drop(Drop),
}

/// A layout whose header does not fit between two frames of a train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a virtio_net_hdr of {0} bytes does not fit the 22 bytes before an inner packet")]
pub struct LayoutTooLong(pub usize);

/// How far to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// MTU of the TUN in bytes. A longer packet was a super-packet already.
    pub mtu: usize,
    /// TCP segments a write, at most [`MAX_TCP_SEGMENTS`]; 1 turns merging off.
    pub tcp_segments: u16,
    /// UDP segments a write, at most [`MAX_UDP_SEGMENTS`]; 1 turns merging off.
    pub udp_segments: u16,
}

impl Limits {
    /// As far as the kernel allows on a TUN of this MTU.
    pub fn new(mtu: usize) -> Limits {
        Limits {
            mtu,
            tcp_segments: MAX_TCP_SEGMENTS,
            udp_segments: MAX_UDP_SEGMENTS,
        }
    }

    fn segments(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Tcp => self.tcp_segments.min(MAX_TCP_SEGMENTS),
            Protocol::Udp => self.udp_segments.min(MAX_UDP_SEGMENTS),
        }
    }
}

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
    flow: Option<(Flow, Slot)>,
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
    next_ident: u16,
    next_seq: u32,
    /// Length of the IP packet.
    ip_len: usize,
    /// Length of the `virtio_net_hdr` before it.
    vnet_len: usize,
    /// Pseudo-header without its length.
    pseudo: Sum,
    template: Template,
    pieces: [Piece; MAX_UDP_SEGMENTS as usize],
}

impl Write {
    fn new(vnet_len: usize) -> Write {
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
            next_ident: 0,
            next_seq: 0,
            ip_len: 0,
            vnet_len,
            pseudo: Sum::default(),
            template: Template::EMPTY,
            pieces: [Piece {
                source: Source::Arena,
                offset: 0,
                len: 0,
            }; MAX_UDP_SEGMENTS as usize],
        }
    }

    /// The bytes to gather, in order. The first piece starts with the `virtio_net_hdr`
    /// and runs to the end of the first segment; the others are payload.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..usize::from(self.segments)]
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

    /// Whether the kernel sees a super-packet.
    pub fn is_super(&self) -> bool {
        self.offload == Offload::Super
    }

    /// Become a write of one packet as it came.
    fn start(&mut self, at: Packet, ip_len: usize) {
        self.offload = Offload::None;
        self.flow = None;
        self.sealed = true;
        self.push = false;
        self.cwr = false;
        self.segments = 1;
        self.ip_len = ip_len;
        self.pieces[0] = Piece {
            source: Source::Buffer(at.buffer),
            offset: at.offset - self.vnet_len as u32,
            len: (self.vnet_len + ip_len) as u32,
        };
    }

    /// Take over what merging and offloads need to know of the first segment.
    fn describe(&mut self, segment: &Segment, pseudo: Sum) {
        self.protocol = segment.protocol;
        self.v6 = segment.v6;
        self.l4 = segment.l4 as u16;
        self.header_len = segment.header_len as u16;
        self.gso_size = segment.payload as u16;
        self.pseudo = pseudo;
    }

    /// Whether `segment` continues this write.
    fn accepts(&self, segment: &Segment, template: &Template, max_segments: u16) -> bool {
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
        self.template == *template
    }

    fn append(&mut self, at: Packet, segment: &Segment) {
        self.pieces[usize::from(self.segments)] = Piece {
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
    fn follow(&mut self, segment: &Segment) {
        self.push = segment.flags & tcp::PSH != 0;
        self.sealed = self.push || segment.payload < usize::from(self.gso_size);
        self.next_seq = segment.seq.wrapping_add(segment.payload as u32);
        self.next_ident = segment.ident.wrapping_add(1);
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

/// Merges the inner packets of one batch into as few writes as order allows.
///
/// Push all packets, [`Coalescer::finish`], hand [`Coalescer::writes`] to the kernel in
/// order, and [`Coalescer::clear`] once the kernel is done with the buffers. All memory is
/// taken in [`Coalescer::new`]; nothing allocates afterwards.
pub struct Coalescer {
    layout: Layout,
    limits: Limits,
    writes: Box<[Write]>,
    used: usize,
    index: Index,
    /// Number of the write that the latest packet went to.
    last: usize,
    /// Writes before this number may not grow.
    barrier: usize,
}

impl Coalescer {
    /// Room for `writes` writes (at most 32,768), each behind a header of `layout`.
    pub fn new(writes: usize, layout: Layout, limits: Limits) -> Result<Coalescer, LayoutTooLong> {
        if layout == Layout::Tunnel {
            return Err(LayoutTooLong(layout.len()));
        }
        let writes = writes.clamp(1, 1 << 15);
        Ok(Coalescer {
            layout,
            limits,
            writes: (0..writes).map(|_| Write::new(layout.len())).collect(),
            used: 0,
            index: Index::new(writes),
            last: 0,
            barrier: 0,
        })
    }

    /// Merge less or more from the next packet on, for kernels that refuse super-packets
    /// and for a changed MTU.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Forget all writes.
    pub fn clear(&mut self) {
        for write in &self.writes[..self.used] {
            if let Some((_, slot)) = write.flow {
                self.index.empty(slot);
            }
        }
        self.used = 0;
        self.last = 0;
        self.barrier = 0;
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The writes, in the order in which they must reach the kernel.
    pub fn writes(&self) -> &[Write] {
        &self.writes[..self.used]
    }

    /// Take in one packet.
    ///
    /// `bytes` are the `at.len` bytes at `at`. Before them in the same buffer must lie as
    /// many bytes as the layout takes, free to overwrite: the VXLAN and Ethernet headers.
    /// `super_gso` is the segment size of a packet received as [`super::train::Shape::Super`]
    /// where the kernel gave one.
    pub fn push(
        &mut self,
        at: Packet,
        bytes: &[u8],
        trust: Trust,
        super_gso: Option<u16>,
    ) -> Result<(), PushError> {
        if (at.offset as usize) < self.layout.len() || at.len as usize != bytes.len() {
            return Err(PushError::Drop(Drop::BadVxlan));
        }
        let (ip, inner) = inspect(bytes).map_err(|_| PushError::Drop(Drop::BadInnerIp))?;
        match inner {
            Inner::Other => {
                self.open(at, ip.total_len())?;
            }
            Inner::Unknown => {
                self.open(at, ip.total_len())?;
                self.barrier = self.used;
            }
            Inner::Segment(segment) if ip.total_len() > self.limits.mtu || super_gso.is_some() => {
                self.push_super(at, &ip, &segment, bytes, trust, super_gso)?;
            }
            Inner::Segment(segment) => self.push_segment(at, &ip, &segment, bytes, trust)?,
        }
        Ok(())
    }

    fn push_segment(
        &mut self,
        at: Packet,
        ip: &IpPacket<'_>,
        segment: &Segment,
        bytes: &[u8],
        trust: Trust,
    ) -> Result<(), PushError> {
        let max_segments = self.limits.segments(segment.protocol);
        let pseudo = segment.pseudo(ip);
        let partial = segment.is_partial(pseudo);
        let template = Some(segment)
            .filter(|segment| segment.mergeable && max_segments > 1)
            .filter(|_| trust == Trust::Vouched || partial || segment.is_intact(pseudo, bytes))
            .and_then(|segment| segment.template(bytes));
        let (slot, latest) = self.latest(&segment.flow);
        if let Some(template) = &template
            && let Some(number) = latest.filter(|&number| number >= self.barrier)
            && self.writes[number].accepts(segment, template, max_segments)
        {
            self.writes[number].append(at, segment);
            self.last = number;
            return Ok(());
        }
        let write = self.open_latest(at, ip.total_len(), segment.flow, slot)?;
        write.describe(segment, pseudo);
        if partial {
            write.offload = Offload::Checksum;
        }
        if let Some(template) = template {
            write.template = template;
            write.follow(segment);
        }
        Ok(())
    }

    /// A packet that nobody has segmented yet: hand it on as it is, with a fresh header.
    fn push_super(
        &mut self,
        at: Packet,
        ip: &IpPacket<'_>,
        segment: &Segment,
        bytes: &[u8],
        trust: Trust,
        super_gso: Option<u16>,
    ) -> Result<(), PushError> {
        let pseudo = segment.pseudo(ip);
        let partial = segment.is_partial(pseudo);
        let gso_size = self
            .super_gso_size(segment, super_gso)
            .filter(|_| trust == Trust::Vouched || partial || segment.is_intact(pseudo, bytes));
        let (slot, _) = self.latest(&segment.flow);
        let write = self.open_latest(at, ip.total_len(), segment.flow, slot)?;
        write.describe(segment, pseudo);
        if let Some(gso_size) = gso_size {
            write.offload = Offload::Super;
            write.gso_size = gso_size;
            write.cwr = segment.flags & tcp::CWR != 0;
        } else if partial {
            write.offload = Offload::Checksum;
        }
        Ok(())
    }

    /// Payload bytes of each segment of a super-packet; `None` when it is none that the
    /// kernel would take.
    fn super_gso_size(&self, segment: &Segment, super_gso: Option<u16>) -> Option<u16> {
        let size = match segment.protocol {
            Protocol::Tcp => {
                // The sender's segment size is lost; whatever fits our MTU will do.
                let fits = self.limits.mtu.saturating_sub(segment.header_len);
                super_gso.map_or(fits, |size| fits.min(usize::from(size)))
            }
            Protocol::Udp => {
                let size = usize::from(super_gso?);
                let most = size * usize::from(MAX_UDP_SEGMENTS);
                (segment.checksum != 0 && segment.payload <= most).then_some(size)?
            }
        };
        let ok = segment.exact && size != 0 && segment.payload > size;
        u16::try_from(size).ok().filter(|_| ok)
    }

    /// The slot of `flow` and the number of its latest write.
    fn latest(&self, flow: &Flow) -> (Slot, Option<usize>) {
        let writes = self.writes();
        if let Some((last, slot)) = writes.get(self.last).and_then(|write| write.flow.as_ref())
            && last == flow
        {
            return (*slot, Some(self.last));
        }
        self.index.find(flow, |number| {
            let (flow, _) = writes.get(number)?.flow.as_ref()?;
            Some(flow)
        })
    }

    fn open(&mut self, at: Packet, ip_len: usize) -> Result<&mut Write, PushError> {
        let write = self.writes.get_mut(self.used).ok_or(PushError::Full)?;
        write.start(at, ip_len);
        self.last = self.used;
        self.used += 1;
        Ok(write)
    }

    fn open_latest(
        &mut self,
        at: Packet,
        ip_len: usize,
        flow: Flow,
        slot: Slot,
    ) -> Result<&mut Write, PushError> {
        let number = self.used;
        self.open(at, ip_len)?;
        self.index.set(slot, number);
        let write = &mut self.writes[number];
        write.flow = Some((flow, slot));
        Ok(write)
    }

    /// Write the headers of all writes into the buffers: patch those of super-packets and
    /// put a `virtio_net_hdr` before each.
    pub fn finish(&self, buffers: &mut impl Buffers) {
        for write in self.writes() {
            let first = write.pieces[0];
            let Source::Buffer(id) = first.source else {
                continue;
            };
            let from = first.offset as usize;
            let Some(head) = buffers
                .bytes_mut(id)
                .get_mut(from..from + first.len as usize)
            else {
                debug_assert!(false, "buffer {id} has changed since the push");
                continue;
            };
            let (vnet, ip) = head.split_at_mut(write.vnet_len);
            let encoded = write.vnet_hdr().encode(vnet, self.layout).is_ok();
            debug_assert!(encoded, "the piece starts with room for the header");
            if write.offload == Offload::Super {
                let header = ip.get_mut(..usize::from(write.header_len));
                let patched = header.and_then(|header| write.patch(header));
                debug_assert!(patched.is_some(), "headers were parsed at the push");
            }
        }
    }
}

#[cfg(test)]
mod tests;
