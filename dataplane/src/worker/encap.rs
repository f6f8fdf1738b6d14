//! TUN to underlay: packets become frames in the batch's send plan.

use super::flow;
use crate::offload::ecn;
use crate::offload::plan::{Piece, SendPlan, Source, TrainKey};
use crate::offload::segment::{self, Segmenter};
use crate::offload::train::FRAME_OVERHEAD;
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::route::table::{Peer, PeerId, Table};
use crate::stats::{Count, Drop as Reason, WorkerStats};
use crate::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::ip::IpPacket;
use std::net::{IpAddr, SocketAddr};

/// The longest header of one frame in bytes.
pub const MAX_HEADER: usize = FRAME_OVERHEAD + segment::MAX_HEADER_LEN;

/// A super-packet on its way into the plan.
///
/// It holds no borrow, so the plan can be sent and cleared halfway.
pub struct Pending {
    segmenter: Segmenter,
    key: TrainKey,
    to: SocketAddr,
    header: [u8; FRAME_OVERHEAD],
}

impl Pending {
    /// Plan as many frames as fit; `true` once all are planned.
    ///
    /// `buffer` is the number and `ip` the IP packet of the buffer that it was made from.
    pub fn plan(&mut self, buffer: u16, ip: &[u8], plan: &mut SendPlan) -> bool {
        let header_len = FRAME_OVERHEAD + self.segmenter.header_len();
        while !self.segmenter.is_done() {
            if !plan.has_room(header_len) {
                return false;
            }
            let Some((header, slot)) = plan.header(header_len) else {
                return false;
            };
            let (outer, inner) = slot.split_at_mut(FRAME_OVERHEAD);
            outer.copy_from_slice(&self.header);
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
/// A packet that is one segment becomes one frame in place: its VXLAN and Ethernet headers
/// overwrite the `virtio_net_hdr`. A super-packet is returned for planning. The plan must
/// have room for one more send.
pub fn plan_packet(
    buffer: u16,
    bytes: &mut [u8],
    len: usize,
    table: &Table,
    buckets: u8,
    plan: &mut SendPlan,
) -> Result<Option<Pending>, Reason> {
    let (head, rest) = bytes
        .split_at_mut_checked(HEADROOM)
        .ok_or(Reason::BadInner)?;
    let ip = rest.get_mut(..len).ok_or(Reason::BadInner)?;
    let packet = IpPacket::new(ip).map_err(|_| Reason::BadInner)?;
    let peer = find_peer(table, packet.dst())?;
    let header = match packet {
        IpPacket::V4(_) => peer.header_v4,
        IpPacket::V6(_) => peer.header_v6,
    };
    let key = TrainKey {
        peer: peer.id,
        bucket: flow::bucket(&packet, buckets),
        ecn: ecn::encap(packet.ecn()),
    };
    let to = peer.addr;
    let ip_len = packet.total_len();
    let offload = VnetHdr::decode(&head[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
        .map_err(|_| Reason::BadOffload)?;
    if offload.gso() != vnet_hdr::GSO_NONE {
        let segmenter = Segmenter::new(&offload, ip).map_err(|_| Reason::BadOffload)?;
        return Ok(Some(Pending {
            segmenter,
            key,
            to,
            header,
        }));
    }
    segment::finish_checksum(&offload, ip).map_err(|_| Reason::BadOffload)?;
    let start = HEADROOM - FRAME_OVERHEAD;
    head[start..].copy_from_slice(&header);
    let frame_len = FRAME_OVERHEAD + ip_len;
    let piece = Piece {
        source: Source::Buffer(buffer),
        offset: start as u32,
        len: frame_len as u32,
    };
    plan.push(key, to, frame_len, &[piece])
        .map_err(|_| Reason::SendFailed)?;
    Ok(None)
}

struct Found {
    id: u32,
    addr: SocketAddr,
    header_v4: [u8; FRAME_OVERHEAD],
    header_v6: [u8; FRAME_OVERHEAD],
}

fn find_peer(table: &Table, dst: IpAddr) -> Result<Found, Reason> {
    let found: Option<PeerId> = match dst {
        IpAddr::V4(dst) => table.lookup_v4(dst),
        IpAddr::V6(dst) => table.lookup_v6(dst),
    };
    let Some(id) = found else {
        let unicast = match dst {
            IpAddr::V4(dst) => !dst.is_multicast() && !dst.is_broadcast() && !dst.is_unspecified(),
            IpAddr::V6(dst) => !dst.is_multicast() && !dst.is_unspecified(),
        };
        return Err(if unicast {
            Reason::NoPeer
        } else {
            Reason::NotUnicast
        });
    };
    let peer: &Peer = table.peer(id);
    Ok(Found {
        id: id.0,
        addr: peer.addr,
        header_v4: peer.header_v4,
        header_v6: peer.header_v6,
    })
}

/// Take the packets of one batch and plan them. The last ones are left for the engine to
/// send with the end of the batch.
pub fn batch(
    io: &mut impl EncapIo,
    table: &Table,
    stats: &WorkerStats,
    buckets: u8,
) -> Result<(), EngineError> {
    while let Some(packet) = io.take()? {
        stats.add(Count::TunReads, 1);
        stats.add(Count::TunReadBytes, packet.len as u64);
        encap(io, packet, table, stats, buckets)?;
    }
    Ok(())
}

fn encap(
    io: &mut impl EncapIo,
    packet: TunPacket,
    table: &Table,
    stats: &WorkerStats,
    buckets: u8,
) -> Result<(), EngineError> {
    let TunPacket { buffer, len } = packet;
    if !io.parts().0.has_room(MAX_HEADER) {
        io.flush()?;
    }
    let (plan, buffers) = io.parts();
    let planned = plan_packet(buffer, buffers.bytes_mut(buffer), len, table, buckets, plan);
    let mut pending = match planned {
        Ok(None) => return Ok(()),
        Ok(Some(pending)) => pending,
        Err(reason) => {
            stats.count_drop(reason);
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
