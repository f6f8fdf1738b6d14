//! Packets that are longer than the path to their peer.
//!
//! | packet | what becomes of it | its sender |
//! |---|---|---|
//! | TCP super-packet | shorter segments | is told, if it set DF |
//! | IPv4 with DF clear, and each datagram of such a super-packet | fragments | is not told |
//! | anything else | goes as it is where IP may fragment outer packets, else it is dropped | is told |
//!
//! To tell is to write an ICMP error to the TUN, see the module `reply`. Nobody is told less than
//! senders believe, so one who sends packets of that size has been told all there is.

use super::encap::{self, Egress, MAX_HEADER};
use super::flow::SendPool;
use crate::mtu::limits::inner_limit;
use crate::mtu::paths::{self, PathMtus};
use crate::offload::fragment::Fragmenter;
use crate::offload::plan::{Piece, SendPlan, Source, TrainKey};
use crate::offload::segment::{self, MAX_HEADER_LEN, Segmenter};
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::route::table::Table;
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use crate::sys::path::PathProbe;
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::frame::FrameHeader;
use crate::wire::icmp::{self, Refused};
use crate::wire::ip::IpPacket;
use crate::wire::{ipv4, ipv6};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// What one encap worker does about packets that are too long.
pub struct Oversize {
    paths: Arc<PathMtus>,
    /// Who to ask whether what is known still holds, and the TUN's MTU in bytes.
    probe: Option<(PathProbe, usize)>,
    outer_df: bool,
    /// Milliseconds, at the beginning of the batch.
    now: u64,
}

/// A packet that is too long for its path.
struct Found {
    frames: Frames,
    /// It is lost if outer packets must not be fragmented.
    whole: bool,
    /// What its sender is to hear, if anything: the longest packet that it may send.
    tell: Option<usize>,
    /// Cuts it as its sender meant it, if it is a super-packet.
    segmenter: Option<Segmenter>,
}

impl Oversize {
    /// Go by what is known in `paths`. With `outer_df` outer packets must not be fragmented.
    pub fn new(paths: Arc<PathMtus>, outer_df: bool) -> Oversize {
        Oversize {
            paths,
            probe: None,
            outer_df,
            now: 0,
        }
    }

    /// The same, which has the kernel asked by `probe`, that learns for the same paths, whether
    /// lessons still hold. `mtu` is the TUN's, in bytes.
    pub fn asking(self, probe: PathProbe, mtu: usize) -> Oversize {
        let probe = Some((probe, mtu));
        Oversize { probe, ..self }
    }

    /// Begin a batch. `now`, in milliseconds, is asked for only if it matters.
    pub fn begin(&mut self, now: impl FnOnce() -> u64) {
        if !self.paths.is_empty() {
            self.now = now();
        }
    }

    /// Deal with `packet` if it is too long for its path; `false` if it is not, or if nobody
    /// can say, and nothing has been done.
    pub fn take(
        &mut self,
        io: &mut impl EncapIo,
        packet: TunPacket,
        table: &Table,
        stats: &WorkerStats,
        egress: &mut Egress,
    ) -> Result<bool, EngineError> {
        if !self.paths.any(self.now) {
            return Ok(false);
        }
        let TunPacket { buffer, len } = packet;
        let bytes = io.parts().1.bytes_mut(buffer);
        let mut found = match self.find(bytes, len, table, egress.pool) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(reason) => {
                stats.count_drop(reason);
                return Ok(true);
            }
        };
        if let Some(limit) = found.tell {
            let segmenter = found.segmenter;
            egress.replies.send(io, packet, stats, |out, ip| {
                too_big(out, ip, segmenter, limit)
            });
        }
        // What is no longer than its sender was told, the kernel may know better about.
        if found.whole && self.outer_df && found.tell.is_some() {
            stats.count_drop(DropReason::TooBig);
            return Ok(true);
        }
        loop {
            let (plan, buffers) = io.parts();
            let ip = buffers.bytes(buffer).get(HEADROOM..HEADROOM + len);
            let done = found.frames.plan(buffer, ip.unwrap_or(&[]), plan, stats);
            if done {
                return Ok(true);
            }
            io.flush()?;
        }
    }

    /// What is to be done about the packet of `len` bytes in `bytes`, the whole buffer:
    /// nothing if it fits. What is malformed is left to those who send packets that fit.
    fn find(
        &mut self,
        bytes: &mut [u8],
        len: usize,
        table: &Table,
        pool: SendPool,
    ) -> Result<Option<Found>, DropReason> {
        let Some((head, ip)) = bytes
            .get_mut(..HEADROOM + len)
            .and_then(|bytes| bytes.split_at_mut_checked(HEADROOM))
        else {
            return Ok(None);
        };
        let Ok(offload) = VnetHdr::decode(&head[HEADROOM - VNET_HDR_LEN..], Layout::Legacy) else {
            return Ok(None);
        };
        let Some((way, limit)) = self.way(ip, table, pool) else {
            return Ok(None);
        };
        let Some(segmenter) = super_or_single(&offload, ip, limit) else {
            return Ok(None);
        };
        let len = segmenter.map_or(ip.len(), |segmenter| segmenter.next_len().unwrap_or(0));
        let told = self.told(ip, limit);
        let may_cut = ipv4::Packet::new(&ip[..]).is_ok_and(|packet| !packet.dont_frag());
        let cut = cut(ip, segmenter, may_cut, limit)?;
        let whole = matches!(cut, Cut::AsItIs(..));
        Ok(Some(Found {
            frames: Frames {
                cut,
                way,
                alone: whole,
            },
            whole,
            tell: (!may_cut && len > told).then_some(told),
            segmenter,
        }))
    }

    /// The way to the peer of a packet, and the longest that a packet may be on it; `None` if
    /// no MTU is known of it.
    fn way(&mut self, ip: &[u8], table: &Table, pool: SendPool) -> Option<(Way, usize)> {
        let packet = IpPacket::new(ip).ok()?;
        let found = encap::find_peer(table, &packet).ok()?;
        let (to, header) = (found.peer.addr, *found.header);
        let known = self.paths.look(to.ip(), self.now)?;
        let mtu = match &mut self.probe {
            Some((probe, mtu)) if known.is_due => {
                let longest = header.wire().header_len() + *mtu;
                probe.ask_again(to, longest, known.mtu)?
            }
            _ => known.mtu,
        };
        let limit = inner_limit(header.wire(), to.ip(), mtu);
        let key = encap::train_key(&found, &packet, pool);
        Some((Way { key, to, header }, limit))
    }

    /// What to tell the sender of `ip` where packets of `limit` bytes fit: no less than the
    /// least that its kernel believes. No IPv6 sender goes below that (RFC 8201 section 4); one
    /// of IPv4 clears DF, which would do only harm where IP may fragment outer packets anyway,
    /// and is the one way through where it must not.
    fn told(&self, ip: &[u8], limit: usize) -> usize {
        match ipv4::Packet::header_only(ip) {
            Ok(_) if self.outer_df => limit,
            Ok(_) => limit.max(usize::from(paths::MIN_V4)),
            Err(_) => limit.max(usize::from(paths::MIN_V6)),
        }
    }
}

/// What cuts a super-packet into its segments, and nothing for a single packet, which gets
/// its checksum finished. `None` if it fits or is malformed.
fn super_or_single(offload: &VnetHdr, ip: &mut [u8], limit: usize) -> Option<Option<Segmenter>> {
    if offload.gso() != vnet_hdr::GSO_NONE {
        let segmenter = Segmenter::new(offload, ip).ok()?;
        return (segmenter.next_len() > Some(limit)).then_some(Some(segmenter));
    }
    let too_long = IpPacket::new(ip).is_ok_and(|packet| packet.total_len() > limit);
    (too_long && segment::finish_checksum(offload, ip).is_ok()).then_some(None)
}

/// How to send a packet in packets of `limit` bytes. `may_cut`: its sender allows fragments.
fn cut(
    ip: &[u8],
    segmenter: Option<Segmenter>,
    may_cut: bool,
    limit: usize,
) -> Result<Cut, DropReason> {
    if let Some(segmenter) = segmenter {
        return Ok(match segmenter.shortened(limit) {
            Some(shorter) => Cut::Segments(shorter),
            None if may_cut => Cut::Datagrams(segmenter, None, limit),
            None => Cut::AsItIs(Some(segmenter), 0..0),
        });
    }
    let packet = IpPacket::new(ip).map_err(|_| DropReason::BadInner)?;
    let total = packet.total_len();
    if !may_cut {
        return Ok(Cut::AsItIs(None, 0..total));
    }
    let header_len = packet.header_len();
    let header = ip.get(..header_len).unwrap_or(&[]);
    let fragmenter = Fragmenter::new(header, header_len..total, limit);
    fragmenter
        .map(Cut::Fragments)
        .map_err(|_| DropReason::BadInner)
}

/// Write to `out` the ICMP error that tells the sender of `ip` that packets on this path may
/// be `limit` bytes long. Of a super-packet the first segment is quoted, as `segmenter` cuts
/// it. Returns the error's length.
fn too_big(
    out: &mut [u8],
    ip: &[u8],
    segmenter: Option<Segmenter>,
    limit: usize,
) -> Result<usize, Refused> {
    let mut first = [0; icmp::v6::MAX_LEN];
    let offender = match segmenter {
        None => ip,
        Some(mut segmenter) => {
            let payload = segmenter.segment(ip, &mut first).ok_or(Refused::NoRoom)?;
            let header_len = segmenter.header_len();
            let room = first.get_mut(header_len..).ok_or(Refused::NoRoom)?;
            let payload = ip.get(payload).ok_or(Refused::NoRoom)?;
            let len = payload.len().min(room.len());
            room[..len].copy_from_slice(&payload[..len]);
            &first[..header_len + len]
        }
    };
    // The header alone is checked: what is quoted may end before the packet does.
    if let Ok(offender) = ipv4::Packet::header_only(offender) {
        let (code, mtu) = (icmp::v4::FRAGMENTATION_NEEDED, limit as u16);
        return icmp::v4::unreachable(out, offender.dst(), code, mtu, &offender);
    }
    let offender = ipv6::Packet::header_only(offender).map_err(|_| Refused::NoRoom)?;
    icmp::v6::packet_too_big(out, offender.dst(), limit as u32, &offender)
}

/// How a packet becomes inner packets.
enum Cut {
    /// Into segments that fit.
    Segments(Segmenter),
    /// Into fragments.
    Fragments(Fragmenter),
    /// Into datagrams, and each of them into fragments of this length.
    Datagrams(Segmenter, Option<Fragmenter>, usize),
    /// Into the segments that its sender asked for, or not at all: then these bytes of it are
    /// still to go.
    AsItIs(Option<Segmenter>, Range<usize>),
}

/// What all frames of a packet have in common.
struct Way {
    key: TrainKey,
    to: SocketAddr,
    header: FrameHeader,
}

/// The frames of one packet on their way into the plan. As
/// [`Pending`](super::encap::Pending), it holds no borrow.
struct Frames {
    cut: Cut,
    way: Way,
    /// They are too long to be part of a train.
    alone: bool,
}

impl Frames {
    /// Write the next inner packet's header to `slot`; its length, and where in `ip` its
    /// payload lies.
    fn next(&mut self, ip: &[u8], slot: &mut [u8]) -> Option<(usize, Range<usize>)> {
        match &mut self.cut {
            Cut::Segments(segmenter) | Cut::AsItIs(Some(segmenter), _) => {
                let payload = segmenter.segment(ip, slot)?;
                Some((segmenter.header_len(), payload))
            }
            Cut::Fragments(fragmenter) => fragmenter.fragment(slot),
            Cut::Datagrams(segmenter, fragmenter, limit) => {
                if let Some(next) = fragmenter.as_mut().and_then(|next| next.fragment(slot)) {
                    return Some(next);
                }
                let payload = segmenter.segment(ip, slot)?;
                let head = slot.get(..segmenter.header_len())?;
                let datagram = Fragmenter::new(head, payload, *limit).ok()?;
                fragmenter.insert(datagram).fragment(slot)
            }
            Cut::AsItIs(None, rest) => {
                let all = std::mem::take(rest);
                (!all.is_empty()).then_some((0, all))
            }
        }
    }

    /// Plan as many frames as fit; `true` once all are planned.
    fn plan(&mut self, buffer: u16, ip: &[u8], plan: &mut SendPlan, stats: &WorkerStats) -> bool {
        let outer_len = self.way.header.wire().header_len();
        let mut inner = [0; MAX_HEADER_LEN];
        while plan.has_room(MAX_HEADER) {
            let Some((header_len, payload)) = self.next(ip, &mut inner) else {
                return true;
            };
            let inner = &inner[..header_len];
            let Some((header, slot)) = plan.header(outer_len + header_len) else {
                return true;
            };
            let (outer, rest) = slot.split_at_mut(outer_len);
            self.way.header.write(outer);
            rest.copy_from_slice(inner);
            let frame_len = outer_len + header_len + payload.len();
            let payload = Piece {
                source: Source::Buffer(buffer),
                offset: (HEADROOM + payload.start) as u32,
                len: payload.len() as u32,
            };
            // Room was checked, so this cannot be refused.
            let Way { key, to, .. } = self.way;
            let _ = match self.alone {
                true => plan.push_alone(key, to, frame_len, &[header, payload]),
                false => plan.push(key, to, frame_len, &[header, payload]),
            };
            let fragment = ipv4::Packet::header_only(inner).is_ok_and(|ip| ip.is_fragment());
            stats.add(Count::FragmentsMade, u64::from(fragment));
        }
        false
    }
}

#[cfg(test)]
mod tests;
