//! TUN to underlay: packets become frames in the batch's send plan.
//!
//! Each packet takes the same steps, once and in this order: it is parsed and looked up
//! ([`Outbound`]), it is decided how it is cut ([`cut`]), and what it becomes is planned
//! ([`egress`](super::egress)). The engine sends the plan.

use super::egress::{Egress, Parcel, Pending};
use super::outbound::Outbound;
use super::reply;
use crate::offload::cut::{self, Cut, Decision, TooBig};
use crate::offload::plan::SendPlan;
use crate::offload::segment;
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::route::table::{Peer, Table};
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::Malformed;
use crate::wire::frame::{FRAME_OVERHEAD, Wire};
use crate::wire::ip::{IpPacket, protocol};

/// The longest header of one frame in bytes.
pub const MAX_HEADER: usize = FRAME_OVERHEAD + segment::MAX_HEADER_LEN;

/// Take the packets of one batch and plan them. The last ones are left for the engine to
/// send with the end of the batch.
pub fn batch(
    io: &mut impl EncapIo,
    table: &Table,
    stats: &WorkerStats,
    egress: &mut Egress,
) -> Result<(), EngineError> {
    egress.begin();
    let (mut packets, mut bytes) = (0, 0);
    while let Some(packet) = io.take()? {
        packets += 1;
        bytes += packet.len as u64;
        encap(io, packet, table, stats, egress)?;
    }
    stats.add(Count::TunReads, packets);
    stats.add(Count::TunReadBytes, bytes);
    stats.add(Count::PodMtusLearned, std::mem::take(&mut egress.learned));
    Ok(())
}

#[inline]
fn encap(
    io: &mut impl EncapIo,
    packet: TunPacket,
    table: &Table,
    stats: &WorkerStats,
    egress: &mut Egress,
) -> Result<(), EngineError> {
    let TunPacket { buffer, len } = packet;
    if io.parts().0.is_full() {
        flush(io, egress)?;
    }
    let (plan, buffers) = io.parts();
    match plan_packet(buffer, buffers.bytes_mut(buffer), len, table, egress, plan) {
        Ok(None) => Ok(()),
        Ok(Some(pending)) => finish(io, packet, pending, stats, egress),
        Err(reason) => {
            refuse(io, packet, reason, table, stats, egress);
            Ok(())
        }
    }
}

/// Plan the packet of `len` bytes in `bytes`, the whole buffer number `buffer`.
///
/// One that becomes one frame or leaves whole is planned; what is left to do with any other is
/// returned. The plan must have room for one more send.
#[inline]
pub fn plan_packet<'t>(
    buffer: u16,
    bytes: &mut [u8],
    len: usize,
    table: &'t Table,
    egress: &mut Egress,
    plan: &mut SendPlan,
) -> Result<Option<Pending<'t>>, DropReason> {
    let (head, rest) = bytes
        .split_first_chunk_mut::<HEADROOM>()
        .ok_or(DropReason::BadInner)?;
    let ip = rest.get_mut(..len).ok_or(DropReason::BadInner)?;
    let read = Read { buffer, head, ip };
    // Each version has code of its own from here on, which never asks for the version again.
    match read.ip.first().map(|first| first >> 4) {
        Some(4) => read.plan(|ip| IpPacket::v4(ip), table, egress, plan),
        Some(6) => read.plan(|ip| IpPacket::v6(ip), table, egress, plan),
        _ => Err(DropReason::BadInner),
    }
}

/// A packet as it was read from the TUN.
struct Read<'a> {
    /// The buffer that it lies in.
    buffer: u16,
    /// What the buffer holds before the packet; the `virtio_net_hdr` is at the end.
    head: &'a mut [u8; HEADROOM],
    ip: &'a mut [u8],
}

impl Read<'_> {
    /// Take the steps of [`plan_packet`] with a packet that `parse` takes.
    #[inline]
    fn plan<'t>(
        self,
        parse: impl for<'a> Fn(&'a [u8]) -> Result<IpPacket<'a>, Malformed>,
        table: &'t Table,
        egress: &mut Egress,
        plan: &mut SendPlan,
    ) -> Result<Option<Pending<'t>>, DropReason> {
        let Read { buffer, head, ip } = self;
        let packet = parse(ip).map_err(|_| DropReason::BadInner)?;
        let ip_len = packet.total_len();
        let is_icmp = matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6);
        let offload = VnetHdr::decode(&head[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
            .map_err(|_| DropReason::BadOffload)?;
        let (pool, limits) = (egress.pool, &mut egress.limits);
        let limit = |id, peer: &Peer| limits.of(id, peer);
        let outbound = Outbound::new(packet, offload, table, pool, limit)?;
        let parcel = Parcel {
            buffer,
            key: outbound.key,
            to: &outbound.peer.addr,
            header: outbound.header,
        };
        if cut::is_plain(ip_len, &offload, outbound.limit) {
            segment::finish_checksum(&offload, ip).map_err(|_| DropReason::BadOffload)?;
            if is_icmp {
                egress.learn_pod_mtu(ip, table.overlay());
            }
            let planned = parcel.plan_in_place(head, ip_len, false, plan);
            return planned.map(|()| None).map_err(|_| DropReason::SendFailed);
        }
        let decision = egress.decide(&outbound);
        if offload.gso() == vnet_hdr::GSO_NONE {
            segment::finish_checksum(&offload, ip).map_err(|_| DropReason::BadOffload)?;
        }
        egress.plan(parcel, decision, head, (&offload, ip_len), plan)
    }
}

/// Drop a packet for `reason`.
#[cold]
fn refuse(
    io: &mut impl EncapIo,
    packet: TunPacket,
    reason: DropReason,
    table: &Table,
    stats: &WorkerStats,
    egress: &mut Egress,
) {
    stats.count_drop(reason);
    // As flannel's proxy says it. A table without peers has not been filled yet.
    let answered = table.overlay().wire == Wire::Ip && !table.peers().is_empty();
    if reason == DropReason::NoPeer && answered {
        egress.replies.send(io, packet, stats, reply::no_route);
    }
}

/// Do what is left to do with a packet.
#[inline(never)]
fn finish(
    io: &mut impl EncapIo,
    packet: TunPacket,
    mut pending: Pending<'_>,
    stats: &WorkerStats,
    egress: &mut Egress,
) -> Result<(), EngineError> {
    let Decision { cut, too_big, .. } = &mut pending.decision;
    if let Some(TooBig { mtu, segmenter }) = too_big.take() {
        egress.replies.send(io, packet, stats, |out, ip| {
            reply::too_big(out, ip, segmenter, mtu)
        });
    }
    if let Cut::Refuse(reason) = cut {
        stats.count_drop(*reason);
        return Ok(());
    }
    loop {
        let (plan, buffers) = io.parts();
        let bytes = buffers.bytes(packet.buffer);
        let ip = bytes.get(HEADROOM..HEADROOM + packet.len);
        if pending.plan(ip.unwrap_or(&[]), plan, stats) {
            return Ok(());
        }
        flush(io, egress)?;
    }
}

/// Send what is planned, in the middle of a batch. What the kernel refused has taught how long
/// the next packets may be.
fn flush(io: &mut impl EncapIo, egress: &mut Egress) -> Result<(), EngineError> {
    io.flush()?;
    egress.begin();
    Ok(())
}

#[cfg(test)]
mod tests;
