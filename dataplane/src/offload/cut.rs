//! What becomes of an outgoing packet, by what is known of the path to its peer.
//!
//! | packet | fits, or nothing is known of its path | is too long |
//! |---|---|---|
//! | single | one frame, in place | IPv4 with DF clear: fragments; any other: see below |
//! | TCP super-packet | leaves whole where its peer takes that, else segments | shorter segments |
//! | UDP super-packet | segments | IPv4 with DF clear: datagrams, each in fragments; any other: see below |
//!
//! What must not be cut any further leaves as it is, each frame as a send of its own, for IP to
//! fragment the outer packet. Where outer packets must not be fragmented, it is refused.
//!
//! The sender of a packet that is too long is told what fits (see [`TooBig`]), unless it allows
//! fragments. Nobody is told less than senders believe, so one who sends packets of that size has
//! been told all there is: those are never refused, as the kernel may know better about them.

use super::fragment::Fragmenter;
use super::segment::Segmenter;
use super::tunnel_gso;
use super::vnet_hdr::{self, VnetHdr};
use crate::stats::DropReason;
use crate::wire::frame::Wire;
use crate::wire::ip::IpPacket;
use crate::wire::{ipv4, ipv6};
use std::ops::Range;

/// What is known of the path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimit {
    /// The longest inner packet that leaves in one outer packet, in bytes.
    pub fits: usize,
    /// Outer packets must not be fragmented.
    pub outer_df: bool,
}

impl PathLimit {
    /// What to tell the sender of `packet`: no less than the least that its kernel believes. No
    /// IPv6 sender goes below that (RFC 8201 section 4); one of IPv4 clears DF, which would do
    /// only harm where IP may fragment outer packets anyway, and is the one way through where
    /// it must not.
    fn reported_to(self, packet: IpPacket<'_>) -> usize {
        match packet {
            IpPacket::V4(_) if self.outer_df => self.fits,
            IpPacket::V4(_) => self.fits.max(usize::from(ipv4::MIN_PATH_MTU)),
            IpPacket::V6(_) => self.fits.max(usize::from(ipv6::MIN_MTU)),
        }
    }
}

/// What a sender is to hear: the longest packet that it may send.
#[derive(Clone, Debug)]
pub struct TooBig {
    /// That length in bytes.
    pub mtu: usize,
    /// Cuts a super-packet as its sender meant it: its first segment is what was too long.
    pub segmenter: Option<Segmenter>,
}

/// What becomes of one packet.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How it is cut.
    pub cut: Cut,
    /// Its frames are too long to be part of a train.
    pub alone: bool,
    /// What its sender is to hear, if anything.
    pub too_big: Option<TooBig>,
}

/// How a packet is cut.
///
/// It is the iterator of the packets it is cut into, too, and holds no borrow, so whoever puts
/// them somewhere may make room halfway.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Not at all: it becomes one frame where it lies.
    InPlace,
    /// Not by us: a super-packet that leaves in one piece, by tunnel GSO.
    Whole(Segmenter),
    /// Into the segments that its sender asked for, or shorter ones.
    Segments(Segmenter),
    /// Into fragments.
    Fragments(Fragmenter),
    /// Into datagrams, and each of them into fragments of at most so many bytes.
    Datagrams(Segmenter, Option<Fragmenter>, usize),
    /// It goes no further.
    Refuse(DropReason),
}

/// One of the packets that another is cut into: the header that was just written for it, and
/// this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where its payload lies in the packet that is cut.
    pub payload: Range<usize>,
    /// It is a fragment.
    pub is_fragment: bool,
}

impl Cut {
    /// Bytes of header of the next part; `None` after the last one.
    #[inline]
    pub fn next_header_len(&self) -> Option<usize> {
        match self {
            Cut::Segments(segmenter) => (!segmenter.is_done()).then(|| segmenter.header_len()),
            Cut::Fragments(fragmenter) => fragmenter.next_header_len(),
            Cut::Datagrams(segmenter, fragmenter, _) => {
                let rest = fragmenter.as_ref().and_then(Fragmenter::next_header_len);
                rest.or_else(|| (!segmenter.is_done()).then(|| segmenter.header_len()))
            }
            Cut::InPlace | Cut::Whole(_) | Cut::Refuse(_) => None,
        }
    }

    /// Write the header of the next part to the first [`Cut::next_header_len`] bytes of `slot`.
    ///
    /// `ip` is the packet that is cut. `None` after the last part, or if `slot` is too short.
    #[inline]
    pub fn next(&mut self, ip: &[u8], slot: &mut [u8]) -> Option<Part> {
        match self {
            Cut::Segments(segmenter) => Some(Part {
                payload: segmenter.segment(ip, slot)?,
                is_fragment: false,
            }),
            Cut::Fragments(fragmenter) => next_fragment(fragmenter, slot),
            Cut::Datagrams(segmenter, fragmenter, limit) => {
                if let Some(fragmenter) = fragmenter.as_mut().filter(|rest| !rest.is_done()) {
                    return next_fragment(fragmenter, slot);
                }
                let payload = segmenter.segment(ip, slot)?;
                let head = slot.get(..segmenter.header_len())?;
                let datagram = Fragmenter::new(head, payload, *limit).ok()?;
                next_fragment(fragmenter.insert(datagram), slot)
            }
            Cut::InPlace | Cut::Whole(_) | Cut::Refuse(_) => None,
        }
    }
}

fn next_fragment(fragmenter: &mut Fragmenter, slot: &mut [u8]) -> Option<Part> {
    let (header_len, payload) = fragmenter.fragment(slot)?;
    let header = ipv4::Packet::header_only(slot.get(..header_len)?).ok()?;
    Some(Part {
        payload,
        is_fragment: header.is_fragment(),
    })
}

/// Whether a packet of `len` bytes is one frame that fits its path, as nearly all are that are no
/// super-packets: it is [`Cut::InPlace`], and there is nothing else to decide.
#[inline]
pub fn is_plain(len: usize, offload: &VnetHdr, limit: Option<PathLimit>) -> bool {
    offload.gso() == vnet_hdr::GSO_NONE && limit.is_none_or(|limit| len <= limit.fits)
}

/// Decide about `packet`, which fills its buffer and leaves in the form `wire`.
///
/// `offload` is what the TUN said of it and `limit` what is known of its path. `whole` tells
/// whether its peer takes super-packets in one piece, and is asked for such a one only.
pub fn decide(
    packet: IpPacket<'_>,
    offload: &VnetHdr,
    wire: Wire,
    limit: Option<PathLimit>,
    whole: impl FnOnce() -> bool,
) -> Decision {
    if is_plain(packet.total_len(), offload, limit) {
        return silently(Cut::InPlace);
    }
    match limit {
        Some(limit) if offload.gso() == vnet_hdr::GSO_NONE => too_long(packet, limit),
        Some(_) | None => decide_super(packet, offload, wire, limit, whole),
    }
}

fn silently(cut: Cut) -> Decision {
    Decision {
        cut,
        alone: false,
        too_big: None,
    }
}

fn decide_super(
    packet: IpPacket<'_>,
    offload: &VnetHdr,
    wire: Wire,
    limit: Option<PathLimit>,
    whole: impl FnOnce() -> bool,
) -> Decision {
    let Ok(segmenter) = Segmenter::of(offload, &packet) else {
        return silently(Cut::Refuse(DropReason::BadOffload));
    };
    if let Some(limit) = limit
        && segmenter.next_len() > Some(limit.fits)
    {
        return too_long_super(packet, segmenter, limit);
    }
    let may_be_whole = wire == Wire::Vxlan && tunnel_gso::takes(offload, packet.total_len());
    silently(match may_be_whole && whole() {
        true => Cut::Whole(segmenter),
        false => Cut::Segments(segmenter),
    })
}

fn too_long(packet: IpPacket<'_>, limit: PathLimit) -> Decision {
    let total = packet.total_len();
    if !may_fragment(packet) {
        return as_it_is(Cut::InPlace, packet, None, total, limit);
    }
    let header_len = packet.header_len();
    let header = packet.bytes().get(..header_len).unwrap_or(&[]);
    silently(
        match Fragmenter::new(header, header_len..total, limit.fits) {
            Ok(fragmenter) => Cut::Fragments(fragmenter),
            Err(_) => Cut::Refuse(DropReason::BadInner),
        },
    )
}

fn too_long_super(packet: IpPacket<'_>, segmenter: Segmenter, limit: PathLimit) -> Decision {
    let len = segmenter.next_len().unwrap_or(0);
    if let Some(shorter) = segmenter.shortened(limit.fits) {
        let decision = silently(Cut::Segments(shorter));
        let too_big = too_big(packet, Some(segmenter), len, limit);
        return Decision {
            too_big,
            ..decision
        };
    }
    if may_fragment(packet) && segmenter.is_udp() {
        return silently(Cut::Datagrams(segmenter, None, limit.fits));
    }
    as_it_is(
        Cut::Segments(segmenter),
        packet,
        Some(segmenter),
        len,
        limit,
    )
}

/// Whether its sender allows fragments.
fn may_fragment(packet: IpPacket<'_>) -> bool {
    matches!(packet, IpPacket::V4(packet) if !packet.dont_frag())
}

/// About frames that can become no shorter than `len`.
fn as_it_is(
    cut: Cut,
    packet: IpPacket<'_>,
    segmenter: Option<Segmenter>,
    len: usize,
    limit: PathLimit,
) -> Decision {
    let too_big = too_big(packet, segmenter, len, limit);
    let is_lost = limit.outer_df && too_big.is_some();
    Decision {
        cut: if is_lost {
            Cut::Refuse(DropReason::TooBig)
        } else {
            cut
        },
        alone: true,
        too_big,
    }
}

fn too_big(
    packet: IpPacket<'_>,
    segmenter: Option<Segmenter>,
    len: usize,
    limit: PathLimit,
) -> Option<TooBig> {
    let mtu = limit.reported_to(packet);
    (!may_fragment(packet) && len > mtu).then_some(TooBig { mtu, segmenter })
}

#[cfg(test)]
mod tests;
