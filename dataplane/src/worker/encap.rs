//! TUN to underlay: packets become frames in the batch's send plan.

use super::flow::SendPool;
use super::oversize::Oversize;
use super::recursion;
use super::reply::{self, Replies};
use super::tunnel_gso::TunnelGsoGate;
use crate::mtu::pods::{self, PodMtus};
use crate::offload::ecn;
use crate::offload::plan::{Piece, SendPlan, Source, TrainKey};
use crate::offload::segment::{self, Segmenter};
use crate::offload::tunnel_gso::{self, Outer};
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::route::table::{Overlay, Peer, PeerId, Table};
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::clock::Clock;
use crate::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::frame::{FRAME_OVERHEAD, FrameHeader, Wire};
use crate::wire::ip::{IpPacket, protocol};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The longest header of one frame in bytes.
pub const MAX_HEADER: usize = FRAME_OVERHEAD + segment::MAX_HEADER_LEN;

/// The ways on which frames can leave, and the one back to who sent a packet.
pub struct Egress {
    /// Send sockets to choose from by inner flow.
    pub(super) pool: SendPool,
    /// Tunnel GSO.
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    /// Outer IPv4 identification of the next frame that leaves by tunnel GSO.
    ident: u16,
    /// ICMP errors.
    pub(super) replies: Replies,
    /// What this node's own ICMP errors say of its pods.
    pods: Arc<PodMtus>,
    /// Times that they said something new in this batch.
    learned: u64,
}

impl Egress {
    /// Through `buckets` sockets for each group of peers, and by `tunnel_gso` to
    /// those for whom it is open. ICMP errors are limited by `clock`; `pods` learns from those that pass.
    pub fn new(
        buckets: u8,
        tunnel_gso: Option<Arc<TunnelGsoGate>>,
        clock: Clock,
        pods: Arc<PodMtus>,
    ) -> Egress {
        Egress {
            pool: SendPool::new(buckets),
            tunnel_gso,
            ident: 0,
            replies: Replies::new(clock),
            pods,
            learned: 0,
        }
    }

    /// Learn from an ICMP error of this node what its pods take.
    #[cold]
    fn learn_pod_mtu(&mut self, error: &[u8], overlay: &Overlay) {
        if let Some(told) = pods::told(error, overlay) {
            let is_news = self.pods.learn(told, self.replies.now());
            self.learned += u64::from(is_news);
        }
    }

    /// A super-packet as it leaves by tunnel GSO, if it may; its headers overwrite the end of
    /// `head`, all bytes of the buffer before it.
    fn plan_tunnel_gso(
        &mut self,
        buffer: u16,
        head: &mut [u8],
        to: SocketAddr,
        header: &FrameHeader,
        key: TrainKey,
        super_packet: (&VnetHdr, &Segmenter, usize),
    ) -> Option<Piece> {
        let (offload, segmenter, len) = super_packet;
        let (Some(gate), SocketAddr::V4(to)) = (&self.tunnel_gso, to) else {
            return None;
        };
        let FrameHeader::Vxlan(frame) = header else {
            return None;
        };
        if !tunnel_gso::takes(offload, len) || !gate.is_open(*to.ip()) {
            return None;
        }
        let outer = Outer {
            src_port: gate.port(key.bucket),
            to,
            ecn: key.ecn,
            ident: self.ident,
        };
        tunnel_gso::write(
            head.last_chunk_mut()?,
            gate.origin(),
            &outer,
            frame,
            super_packet,
        );
        self.ident = self.ident.wrapping_add(segmenter.count());
        Some(Piece {
            source: Source::Buffer(buffer),
            offset: (HEADROOM - tunnel_gso::HEADER_LEN) as u32,
            len: (tunnel_gso::HEADER_LEN + len) as u32,
        })
    }
}

/// A super-packet on its way into the plan.
///
/// It holds no borrow, so the plan can be sent and cleared halfway.
pub struct Pending {
    segmenter: Segmenter,
    key: TrainKey,
    to: SocketAddr,
    header: FrameHeader,
}

impl Pending {
    /// Plan as many frames as fit; `true` once all are planned.
    ///
    /// `buffer` is the number and `ip` the IP packet of the buffer that it was made from.
    pub fn plan(&mut self, buffer: u16, ip: &[u8], plan: &mut SendPlan) -> bool {
        let outer_len = self.header.wire().header_len();
        let header_len = outer_len + self.segmenter.header_len();
        while !self.segmenter.is_done() {
            if !plan.has_room(header_len) {
                return false;
            }
            let Some((header, slot)) = plan.header(header_len) else {
                return false;
            };
            let (outer, inner) = slot.split_at_mut(outer_len);
            self.header.write(outer);
            let Some(payload) = self.segmenter.segment(ip, inner) else {
                return true;
            };
            let frame_len = header_len + payload.len();
            let payload = Piece {
                source: Source::Buffer(buffer),
                offset: (HEADROOM + payload.start) as u32,
                len: payload.len() as u32,
            };
            // Room was checked, so this cannot be refused.
            let _ = plan.push(self.key, self.to, frame_len, &[header, payload]);
        }
        true
    }
}

/// Plan the packet of `len` bytes in `bytes`, the whole buffer number `buffer`.
///
/// A packet that is one segment becomes one frame in place: what the frame begins with
/// overwrites the `virtio_net_hdr`. A super-packet leaves by tunnel GSO where that is open, and
/// is returned for planning otherwise. The plan must have room for one more send.
pub fn plan_packet(
    buffer: u16,
    bytes: &mut [u8],
    len: usize,
    table: &Table,
    egress: &mut Egress,
    plan: &mut SendPlan,
) -> Result<Option<Pending>, DropReason> {
    let (head, rest) = bytes
        .split_at_mut_checked(HEADROOM)
        .ok_or(DropReason::BadInner)?;
    let ip = rest.get_mut(..len).ok_or(DropReason::BadInner)?;
    let packet = IpPacket::new(ip).map_err(|_| DropReason::BadInner)?;
    let found = find_peer(table, &packet)?;
    let key = train_key(&found, &packet, egress.pool);
    let (to, header) = (found.peer.addr, found.header);
    let ip_len = packet.total_len();
    let offload = VnetHdr::decode(&head[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
        .map_err(|_| DropReason::BadOffload)?;
    if offload.gso() != vnet_hdr::GSO_NONE {
        let segmenter = Segmenter::new(&offload, ip).map_err(|_| DropReason::BadOffload)?;
        let super_packet = (&offload, &segmenter, ip_len);
        if let Some(whole) = egress.plan_tunnel_gso(buffer, head, to, header, key, super_packet) {
            plan.push_tunnel_gso(key, to, segmenter.count(), whole)
                .map_err(|_| DropReason::SendFailed)?;
            return Ok(None);
        }
        return Ok(Some(Pending {
            segmenter,
            key,
            to,
            header: *header,
        }));
    }
    let is_icmp = matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6);
    segment::finish_checksum(&offload, ip).map_err(|_| DropReason::BadOffload)?;
    if is_icmp {
        egress.learn_pod_mtu(ip, table.overlay());
    }
    let start = HEADROOM - header.wire().header_len();
    header.write(&mut head[start..]);
    let frame_len = HEADROOM - start + ip_len;
    let piece = Piece {
        source: Source::Buffer(buffer),
        offset: start as u32,
        len: frame_len as u32,
    };
    plan.push(key, to, frame_len, &[piece])
        .map_err(|_| DropReason::SendFailed)?;
    Ok(None)
}

/// The peer of a packet.
pub(super) struct Found<'a> {
    pub(super) id: u32,
    pub(super) peer: &'a Peer,
    /// What the packet's frames begin with.
    pub(super) header: &'a FrameHeader,
}

/// What the frames of `packet` to the peer that was found share.
pub(super) fn train_key(found: &Found<'_>, packet: &IpPacket<'_>, pool: SendPool) -> TrainKey {
    TrainKey {
        peer: found.id,
        bucket: pool.socket(packet, found.peer.exit),
        ecn: match found.header.wire() {
            Wire::Vxlan => ecn::encap(packet.ecn()),
            // The peer may be flannel's proxy, which does not look at the outer field, so
            // that routers must drop instead of mark (RFC 6040, section 4.1).
            Wire::Ip => ecn::NOT_ECT,
        },
    }
}

pub(super) fn find_peer<'a>(
    table: &'a Table,
    packet: &IpPacket<'_>,
) -> Result<Found<'a>, DropReason> {
    let dst = packet.dst();
    let found: Option<PeerId> = match dst {
        IpAddr::V4(dst) => table.lookup_v4(dst),
        IpAddr::V6(dst) => table.lookup_v6(dst),
    };
    let Some(id) = found else {
        if dst.is_ipv6() && table.overlay().wire == Wire::Ip {
            return Err(DropReason::NotIpv4);
        }
        let unicast = match dst {
            IpAddr::V4(dst) => !dst.is_multicast() && !dst.is_broadcast() && !dst.is_unspecified(),
            IpAddr::V6(dst) => !dst.is_multicast() && !dst.is_unspecified(),
        };
        return Err(if unicast {
            DropReason::NoPeer
        } else {
            DropReason::NotUnicast
        });
    };
    let peer: &Peer = table.peer(id);
    if peer.is_cut_off() || recursion::is_outer(packet, table, peer.addr.port()) {
        return Err(DropReason::Recursion);
    }
    Ok(Found {
        id: id.0,
        peer,
        header: match dst {
            IpAddr::V4(_) => &peer.header_v4,
            IpAddr::V6(_) => &peer.header_v6,
        },
    })
}

/// Take the packets of one batch and plan them. The last ones are left for the engine to
/// send with the end of the batch.
pub fn batch(
    io: &mut impl EncapIo,
    table: &Table,
    stats: &WorkerStats,
    egress: &mut Egress,
    oversize: &mut Oversize,
) -> Result<(), EngineError> {
    while let Some(packet) = io.take()? {
        stats.add(Count::TunReads, 1);
        stats.add(Count::TunReadBytes, packet.len as u64);
        if !oversize.take(io, packet, table, stats, egress)? {
            encap(io, packet, table, stats, egress)?;
        }
    }
    let learned = std::mem::take(&mut egress.learned);
    stats.add(Count::PodMtusLearned, learned);
    Ok(())
}

fn encap(
    io: &mut impl EncapIo,
    packet: TunPacket,
    table: &Table,
    stats: &WorkerStats,
    egress: &mut Egress,
) -> Result<(), EngineError> {
    let TunPacket { buffer, len } = packet;
    if !io.parts().0.has_room(MAX_HEADER) {
        io.flush()?;
    }
    let (plan, buffers) = io.parts();
    let planned = plan_packet(buffer, buffers.bytes_mut(buffer), len, table, egress, plan);
    let mut pending = match planned {
        Ok(None) => return Ok(()),
        Ok(Some(pending)) => pending,
        Err(reason) => {
            stats.count_drop(reason);
            // As flannel's proxy says it. A table without peers has not been filled yet.
            let answered = table.overlay().wire == Wire::Ip && !table.peers().is_empty();
            if reason == DropReason::NoPeer && answered {
                egress.replies.send(io, packet, stats, reply::no_route);
            }
            return Ok(());
        }
    };
    loop {
        let (plan, buffers) = io.parts();
        let ip = buffers.bytes(buffer).get(HEADROOM..HEADROOM + len);
        if pending.plan(buffer, ip.unwrap_or(&[]), plan) {
            return Ok(());
        }
        io.flush()?;
    }
}

#[cfg(test)]
mod tests;
