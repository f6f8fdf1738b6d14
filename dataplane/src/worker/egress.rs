//! The ways on which packets leave: in frames through the send sockets, or whole by tunnel GSO;
//! and the one back to who sent them.

use super::flow::SendPool;
use super::outbound::Outbound;
use super::path_limits::PathLimits;
use super::reply::Replies;
use super::tunnel_gso::TunnelGsoGate;
use crate::mtu::pods::{self, PodMtus};
use crate::offload::cut::{self, Cut, Decision};
use crate::offload::plan::{Full, Piece, SendPlan, Source, TrainKey};
use crate::offload::segment::Segmenter;
use crate::offload::tunnel_gso::{self, Outer};
use crate::offload::vnet_hdr::VnetHdr;
use crate::route::table::{Overlay, Peer};
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::clock::Clock;
use crate::sys::engine::HEADROOM;
use crate::wire::frame::FrameHeader;
use std::net::SocketAddr;
use std::sync::Arc;

/// The ways on which packets can leave, and the one back to who sent a packet.
pub struct Egress {
    /// Send sockets to choose from by inner flow.
    pub(super) pool: SendPool,
    /// How long packets may be on their paths.
    pub(super) limits: PathLimits,
    /// Tunnel GSO.
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    /// Outer IPv4 identification of the next frame that leaves by tunnel GSO.
    ident: u16,
    /// ICMP errors.
    pub(super) replies: Replies,
    /// What this node's own ICMP errors say of its pods.
    pods: Arc<PodMtus>,
    /// Times that they said something new in this batch.
    pub(super) learned: u64,
}

/// A packet in a buffer and the way that its frames take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'t> {
    /// The buffer it lies in.
    pub(super) buffer: u16,
    /// What its frames share.
    pub(super) key: TrainKey,
    /// Underlay destination.
    pub(super) to: &'t SocketAddr,
    /// What its frames begin with.
    pub(super) header: &'t FrameHeader,
}

impl Egress {
    /// Through `buckets` sockets for each group of peers, in packets that `limits` allow, and
    /// by `tunnel_gso` to those for whom it is open. ICMP errors are limited by `clock`; `pods`
    /// learns from those that pass.
    pub fn new(
        buckets: u8,
        limits: PathLimits,
        tunnel_gso: Option<Arc<TunnelGsoGate>>,
        clock: Clock,
        pods: Arc<PodMtus>,
    ) -> Egress {
        Egress {
            pool: SendPool::new(buckets),
            limits,
            tunnel_gso,
            ident: 0,
            replies: Replies::new(clock),
            pods,
            learned: 0,
        }
    }

    /// Begin a batch, or go on with one after some of it was sent.
    pub(super) fn begin(&mut self) {
        let replies = &self.replies;
        self.limits.begin(|| replies.now());
    }

    /// Learn from an ICMP error of this node what its pods take.
    #[cold]
    pub(super) fn learn_pod_mtu(&mut self, error: &[u8], overlay: &Overlay) {
        if let Some(reported) = pods::reported(error, overlay) {
            let is_new = self.pods.learn(reported, self.replies.now());
            self.learned += u64::from(is_new);
        }
    }

    /// Whether `peer` takes super-packets whole just now.
    fn takes_whole(&self, peer: &Peer) -> bool {
        match (&self.tunnel_gso, peer.addr) {
            (Some(gate), SocketAddr::V4(to)) => gate.is_open(*to.ip()),
            _ => false,
        }
    }

    /// Decide what becomes of a packet.
    #[inline(never)]
    pub(super) fn decide(&self, outbound: &Outbound<'_, '_>) -> Decision {
        let Outbound {
            packet,
            offload,
            peer,
            header,
            limit,
            ..
        } = outbound;
        let whole = || self.takes_whole(peer);
        cut::decide(*packet, offload, header.wire(), *limit, whole)
    }

    /// Plan what was decided on, as far as that is one send; the rest is returned.
    ///
    /// The pair is what the TUN said of the packet, and the packet's length. Headers may overwrite
    /// the end of `head`, the bytes before it.
    #[inline(never)]
    pub(super) fn plan<'t>(
        &mut self,
        parcel: Parcel<'t>,
        decision: Decision,
        head: &mut [u8; HEADROOM],
        (offload, len): (&VnetHdr, usize),
        plan: &mut SendPlan,
    ) -> Result<Option<Pending<'t>>, DropReason> {
        let planned = match &decision.cut {
            Cut::InPlace => parcel.plan_in_place(head, len, decision.alone, plan),
            Cut::Whole(segmenter) => {
                self.plan_tunnel_gso(&parcel, head, (offload, segmenter, len), plan)
            }
            Cut::Refuse(reason) if decision.too_big.is_none() => return Err(*reason),
            Cut::Segments(_) | Cut::Fragments(_) | Cut::Datagrams(..) | Cut::Refuse(_) => {
                return Ok(Some(Pending { parcel, decision }));
            }
        };
        planned.map_err(|_| DropReason::SendFailed)?;
        Ok(decision
            .too_big
            .is_some()
            .then_some(Pending { parcel, decision }))
    }

    /// Plan a super-packet of `len` bytes that leaves by tunnel GSO. Its headers overwrite the end of
    /// `head`, the bytes before it.
    fn plan_tunnel_gso(
        &mut self,
        parcel: &Parcel<'_>,
        head: &mut [u8; HEADROOM],
        super_packet: (&VnetHdr, &Segmenter, usize),
        plan: &mut SendPlan,
    ) -> Result<(), Full> {
        let (_, segmenter, len) = super_packet;
        let Parcel { key, to, .. } = *parcel;
        let (Some(gate), SocketAddr::V4(addr)) = (&self.tunnel_gso, *to) else {
            return Err(Full);
        };
        let (FrameHeader::Vxlan(frame), Some(slot)) = (parcel.header, head.last_chunk_mut()) else {
            return Err(Full);
        };
        let outer = Outer {
            src_port: gate.port(key.bucket),
            to: addr,
            ecn: key.ecn,
            ident: self.ident,
        };
        tunnel_gso::write(slot, gate.origin(), &outer, frame, super_packet);
        self.ident = self.ident.wrapping_add(segmenter.count());
        let piece = Piece {
            source: Source::Buffer(parcel.buffer),
            offset: (HEADROOM - tunnel_gso::HEADER_LEN) as u32,
            len: (tunnel_gso::HEADER_LEN + len) as u32,
        };
        plan.push_tunnel_gso(key, *to, segmenter.count(), piece)
    }
}

impl Parcel<'_> {
    /// Plan the packet of `len` bytes as one frame where it lies. What the frame begins with
    /// overwrites the end of `head`, the bytes before it. `alone`: it is too long for a train.
    #[inline(always)]
    pub(super) fn plan_in_place(
        &self,
        head: &mut [u8; HEADROOM],
        len: usize,
        alone: bool,
        plan: &mut SendPlan,
    ) -> Result<(), Full> {
        let header_len = self.header.write_end(head);
        let frame_len = header_len + len;
        let piece = Piece {
            source: Source::Buffer(self.buffer),
            offset: (HEADROOM - header_len) as u32,
            len: frame_len as u32,
        };
        match alone {
            false => plan.push(self.key, *self.to, frame_len, &[piece]),
            true => plan.push_alone(self.key, *self.to, frame_len, &[piece]),
        }
    }
}

/// A packet that becomes several frames, on its way into the plan, or that its sender is to hear
/// of.
///
/// It holds no borrow but of the routing table, so the plan can be sent and cleared halfway.
pub struct Pending<'t> {
    pub(super) parcel: Parcel<'t>,
    pub(super) decision: Decision,
}

impl Pending<'_> {
    /// Plan as many frames as fit; `true` once all are planned.
    ///
    /// `ip` is the packet that this was made from.
    pub fn plan(&mut self, ip: &[u8], plan: &mut SendPlan, stats: &WorkerStats) -> bool {
        let Parcel {
            buffer,
            key,
            to,
            header: outer_header,
        } = self.parcel;
        let Decision { cut, alone, .. } = &mut self.decision;
        let outer_len = outer_header.wire().header_len();
        while let Some(inner_len) = cut.next_header_len() {
            let header_len = outer_len + inner_len;
            if !plan.has_room(header_len) {
                return false;
            }
            let Some((header, slot)) = plan.header(header_len) else {
                return false;
            };
            let (outer, inner) = slot.split_at_mut(outer_len);
            outer_header.write(outer);
            let Some(part) = cut.next(ip, inner) else {
                // What was decided on does not fit the packet, which only a bug could bring about.
                stats.count_drop(DropReason::BadInner);
                return true;
            };
            stats.add(Count::FragmentsMade, u64::from(part.is_fragment));
            let frame_len = header_len + part.payload.len();
            let payload = Piece {
                source: Source::Buffer(buffer),
                offset: (HEADROOM + part.payload.start) as u32,
                len: part.payload.len() as u32,
            };
            let pieces = [header, payload];
            // Room was checked, so this cannot be refused.
            let _ = match *alone {
                false => plan.push(key, *to, frame_len, &pieces),
                true => plan.push_alone(key, *to, frame_len, &pieces),
            };
        }
        true
    }
}
