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

mod error;
mod flow;
mod inspect;
mod limits;
mod packet;
mod refusal;
mod write;

pub use self::error::{LayoutTooLong, PushError};
pub use self::limits::{Limits, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, MAX_WRITE_PIECES};
pub use self::packet::{Packet, PacketBuffers, Trust};
pub use self::refusal::MergeRefusals;
pub use self::write::Write;

use self::flow::{Flow, Index, Slot};
use self::inspect::{Inspected, InspectedSegment, Protocol, inspect};
use self::limits::OLD_UDP_SEGMENTS;
use self::refusal::KnownRefusals;
use super::vnet_hdr::Layout;
use crate::stats::DropReason;
use crate::wire::ip::IpPacket;
use std::sync::Arc;

/// Merges the inner packets of one batch into as few writes as order allows.
///
/// Push all packets, [`Coalescer::finish`], hand [`Coalescer::writes`] to the kernel in
/// order, and [`Coalescer::clear`] once the kernel is done with the buffers. All memory is
/// taken in [`Coalescer::new`]; nothing allocates afterwards.
pub struct Coalescer {
    layout: Layout,
    limits: Limits,
    /// UDP segments of a super-packet that is handed on as it came.
    whole_udp_segments: u16,
    /// What the kernel refuses for the time being, by protocol.
    refusals: KnownRefusals,
    writes: Box<[Write]>,
    /// For each write the `virtio_net_hdr` that its packet has no room for.
    arena: Box<[u8]>,
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
        if layout == Layout::TunnelGso {
            return Err(LayoutTooLong(layout.len()));
        }
        let writes = writes.clamp(1, 1 << 15);
        Ok(Coalescer {
            layout,
            limits,
            whole_udp_segments: MAX_UDP_SEGMENTS,
            refusals: KnownRefusals::default(),
            writes: (0..writes).map(|_| Write::new(layout.len())).collect(),
            arena: vec![0; writes * layout.len()].into_boxed_slice(),
            used: 0,
            index: Index::new(writes),
            last: 0,
            barrier: 0,
        })
    }

    /// The same, which goes by what the kernel refused to any that shares `refusals`, from its
    /// next batch on.
    pub fn sharing(self, refusals: Arc<MergeRefusals>) -> Coalescer {
        let mut sharing = Coalescer {
            refusals: KnownRefusals::sharing(refusals),
            ..self
        };
        sharing.adopt();
        sharing
    }

    fn adopt(&mut self) {
        if self.refusals.adopt() {
            self.shorten_udp();
        }
    }

    /// Write no more UDP segments than kernels before Linux 6.9 take; whether there were more.
    fn shorten_udp(&mut self) -> bool {
        let limits = [&mut self.limits.udp_segments, &mut self.whole_udp_segments];
        let above = |limit: &mut u16| *limit > OLD_UDP_SEGMENTS;
        let lowered = limits
            .into_iter()
            .filter_map(|limit| above(limit).then(|| *limit = OLD_UDP_SEGMENTS));
        lowered.count() > 0
    }

    /// Cut super-packets of lost segment size to this MTU, at most the TUN's, from the next
    /// packet on.
    pub fn set_pod_mtu(&mut self, mtu: usize) {
        self.limits.pod_mtu = mtu.min(self.limits.mtu);
    }

    /// Learn that the kernel refused write `index` for what it is; whether it was taken until
    /// now.
    ///
    /// More UDP segments than kernels before 6.9 take are never tried again. Any other
    /// super-packet is one of those that some kernels refuse: the protocol's packets are not
    /// merged for a while, longer each time.
    pub fn note_refusal(&mut self, index: usize) -> bool {
        let Some(write) = self.writes().get(index).filter(|write| write.is_super()) else {
            return false;
        };
        let protocol = write.protocol();
        if protocol == Protocol::Udp && write.kernel_segments() > usize::from(OLD_UDP_SEGMENTS) {
            self.refusals.note_long_udp();
            return self.shorten_udp();
        }
        self.refusals.note(protocol)
    }

    /// Packets of a protocol that one write may carry. Asked once for each packet.
    fn segments(&mut self, protocol: Protocol) -> u16 {
        if self.refusals.holds(protocol) {
            return 1;
        }
        self.limits.segments(protocol)
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
        self.adopt();
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The writes, in the order in which they must reach the kernel.
    pub fn writes(&self) -> &[Write] {
        &self.writes[..self.used]
    }

    /// The `virtio_net_hdr`s that [`Source::Arena`](super::plan::Source) pieces point into.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Part with the arena, for a kernel that may still read it. Nothing can be written
    /// afterwards.
    pub fn take_arena(&mut self) -> Box<[u8]> {
        self.used = 0;
        std::mem::take(&mut self.arena)
    }

    /// Take in one packet.
    ///
    /// `bytes` are the `at.len` bytes at `at`. `super_gso` is the segment size of a packet
    /// received as [`super::train::Shape::Super`], where the kernel gave one.
    pub fn push(
        &mut self,
        at: Packet,
        bytes: &[u8],
        trust: Trust,
        super_gso: Option<u16>,
    ) -> Result<(), PushError> {
        if at.offset < u32::from(at.room) || at.len as usize != bytes.len() {
            return Err(PushError::Drop(DropReason::BadVxlan));
        }
        let (ip, inner) = inspect(bytes).map_err(|_| PushError::Drop(DropReason::BadInnerIp))?;
        match inner {
            Inspected::Other => {
                self.open(at, ip.total_len())?;
            }
            Inspected::Unknown => {
                self.open(at, ip.total_len())?;
                self.barrier = self.used;
            }
            Inspected::Segment(segment) => {
                let large = ip.total_len() > self.limits.pod_mtu && self.is_super(&ip, &segment);
                if large || super_gso.is_some() {
                    self.push_super(at, &ip, &segment, bytes, trust, super_gso)?;
                } else {
                    self.push_segment(at, &ip, &segment, bytes, trust)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a packet that not every pod takes is a super-packet, though the kernel does not
    /// say so.
    ///
    /// One that fits the TUN may be a single packet, and merges. Where its checksum was left to
    /// be completed it has seen virtual links alone, which take super-packets of any length:
    /// then it is safer to cut it in two.
    #[cold]
    fn is_super(&self, ip: &IpPacket<'_>, segment: &InspectedSegment<'_>) -> bool {
        let may_be = || segment.protocol == Protocol::Tcp && segment.is_partial(segment.pseudo(ip));
        ip.total_len() > self.limits.mtu || may_be()
    }

    fn push_segment(
        &mut self,
        at: Packet,
        ip: &IpPacket<'_>,
        segment: &InspectedSegment<'_>,
        bytes: &[u8],
        trust: Trust,
    ) -> Result<(), PushError> {
        let max_segments = self.segments(segment.protocol);
        let pseudo = segment.pseudo(ip);
        let partial = segment.is_partial(pseudo);
        let may_merge = segment.mergeable
            && max_segments > 1
            && (trust == Trust::Vouched || partial || segment.is_intact(pseudo, bytes));
        let (slot, latest) = self.latest(&segment.flow);
        if may_merge
            && let Some(number) = latest.filter(|&number| number >= self.barrier)
            && self.writes[number].accepts(segment, max_segments)
        {
            self.writes[number].append(at, segment);
            self.last = number;
            return Ok(());
        }
        let write = self.open_latest(at, ip.total_len(), segment.flow, slot)?;
        write.describe(segment, pseudo);
        if partial {
            write.complete_checksum();
        }
        if may_merge {
            write.grow_from(segment);
        }
        Ok(())
    }

    /// A packet that nobody has segmented yet: hand it on as it is, with a fresh header.
    fn push_super(
        &mut self,
        at: Packet,
        ip: &IpPacket<'_>,
        segment: &InspectedSegment<'_>,
        bytes: &[u8],
        trust: Trust,
        super_gso: Option<u16>,
    ) -> Result<(), PushError> {
        let pseudo = segment.pseudo(ip);
        let partial = segment.is_partial(pseudo);
        let taken = self.segments(segment.protocol) > 1;
        let gso_size = self
            .super_gso_size(segment, super_gso)
            .filter(|_| taken)
            .filter(|_| trust == Trust::Vouched || partial || segment.is_intact(pseudo, bytes));
        if gso_size.is_none() && super_gso.is_some() && segment.protocol == Protocol::Udp {
            // Written whole it would be one datagram where the sender sent several.
            return Err(PushError::Drop(DropReason::BadSuper));
        }
        let (slot, _) = self.latest(&segment.flow);
        let write = self.open_latest(at, ip.total_len(), segment.flow, slot)?;
        write.describe(segment, pseudo);
        if let Some(gso_size) = gso_size {
            write.pass_on(segment, gso_size);
        } else if partial {
            write.complete_checksum();
        }
        Ok(())
    }

    /// Payload bytes of each segment of a super-packet; `None` when it is none that the
    /// kernel would take: then it goes on as one long packet.
    fn super_gso_size(
        &self,
        segment: &InspectedSegment<'_>,
        super_gso: Option<u16>,
    ) -> Option<u16> {
        let size = match segment.protocol {
            Protocol::Tcp => {
                // The sender's segment size is lost; whatever fits the way to the pod will do.
                let fits = self.limits.pod_mtu.saturating_sub(segment.header_len);
                super_gso.map_or(fits, |size| fits.min(usize::from(size)))
            }
            Protocol::Udp => {
                let size = usize::from(super_gso?);
                // Nothing is merged here, so the limit on merging does not count.
                let most = size * usize::from(self.whole_udp_segments);
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
        write.start(at, ip_len, self.used);
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

    /// Write the headers of all writes: patch those of super-packets in the buffers and put
    /// a `virtio_net_hdr` before each.
    pub fn finish(&mut self, buffers: &mut impl PacketBuffers) {
        let slots = self.arena.chunks_exact_mut(self.layout.len());
        for (write, slot) in self.writes[..self.used].iter().zip(slots) {
            let finished = write.finish(buffers, slot, self.layout);
            debug_assert!(finished.is_some(), "the buffers are those of the pushes");
        }
    }
}

#[cfg(test)]
mod tests;
