//! Who may send us what: every received frame is held against the table before anything
//! else looks into it.
//!
//! Kernel VXLAN and flannel's `udp` proxy take frames from anywhere on the underlay; here the
//! outer source must be a live peer and the inner source one of that peer's, unless the
//! overlay is [`Admission::Loose`].

use super::table::{Admission, Overlay, PeerId, Table};
use crate::stats::DropReason;
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::wire::frame::{FRAME_OVERHEAD, Wire};
use crate::wire::{ipv4, ipv6, vxlan};
use std::net::IpAddr;

/// The node a datagram or train came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmittedSender {
    /// Underlay address, IPv4 even where the socket reported it mapped into IPv6.
    pub addr: IpAddr,
    /// The peer with this address; `None` only where admission is loose.
    pub peer: Option<PeerId>,
}

/// The IP packet in an admitted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerPacket {
    /// Where the IP header starts, in bytes from the start of the frame.
    pub ip_offset: usize,
    /// Length by the IP header in bytes; what follows in the frame is padding.
    pub ip_len: usize,
    /// IPv6, otherwise IPv4.
    pub v6: bool,
    /// ECN field.
    pub ecn: Ecn,
}

/// Admit the outer source of a datagram or train; ask once for all its frames.
#[inline]
pub fn sender(table: &Table, outer_src: IpAddr) -> Result<AdmittedSender, DropReason> {
    let peer = table.peer_by_addr(outer_src);
    match table.overlay().admission {
        Admission::Strict if peer.is_none() => Err(DropReason::UnknownSender),
        Admission::Strict | Admission::Loose => Ok(AdmittedSender {
            addr: outer_src.to_canonical(),
            peer,
        }),
    }
}

impl AdmittedSender {
    /// Admit one frame.
    ///
    /// `table` must be the one that [`sender`] saw. What is admitted has an IP header that
    /// lies within the frame, and a length by that header that does.
    #[inline]
    pub fn frame(&self, table: &Table, frame: &[u8]) -> Result<InnerPacket, DropReason> {
        let (inner, source) = match table.overlay().wire {
            Wire::Vxlan => match ethertype(table.overlay(), frame)? {
                ETHERTYPE_IPV4 => ipv4(&frame[FRAME_OVERHEAD..])?,
                ETHERTYPE_IPV6 => ipv6(&frame[FRAME_OVERHEAD..])?,
                _ => return Err(DropReason::BadEthertype),
            },
            Wire::Ip => plain(frame)?,
        };
        if table.overlay().admission == Admission::Strict && !self.may_use(table, source) {
            return Err(DropReason::SpoofedSource);
        }
        Ok(inner)
    }

    /// Whether an inner source is this sender's: routed to its address, or outside the
    /// overlay network, as traffic of the hosts themselves and masqueraded traffic is.
    fn may_use(&self, table: &Table, source: IpAddr) -> bool {
        let overlay = table.overlay();
        let (inside, own, route) = match source {
            IpAddr::V4(ip) => (
                overlay.network_v4.is_some_and(|net| net.contains(&ip)),
                overlay.own_v4.is_some_and(|net| net.contains(&ip)),
                table.lookup_v4(ip),
            ),
            IpAddr::V6(ip) => (
                overlay.network_v6.is_some_and(|net| net.contains(&ip)),
                overlay.own_v6.is_some_and(|net| net.contains(&ip)),
                table.lookup_v6(ip),
            ),
        };
        if own {
            return false;
        }
        if !inside {
            return true;
        }
        // Two leases of one address with different MACs are two peers but one sender.
        route.is_some_and(|id| Some(id) == self.peer || table.peer(id).addr.ip() == self.addr)
    }
}

/// Check VXLAN and Ethernet header and return the EtherType; the frame has both in full.
fn ethertype(overlay: &Overlay, frame: &[u8]) -> Result<u16, DropReason> {
    let header = frame
        .first_chunk::<FRAME_OVERHEAD>()
        .ok_or(DropReason::BadVxlan)?;
    let vxlan = vxlan::Header::new(header).map_err(|_| DropReason::BadVxlan)?;
    if !vxlan.is_valid(overlay.gbp) {
        return Err(DropReason::BadVxlan);
    }
    if vxlan.vni() != overlay.vni {
        return Err(DropReason::WrongVni);
    }
    let ethernet = ethernet::Frame::new(vxlan.payload()).map_err(|_| DropReason::BadVxlan)?;
    if ethernet.dst() != overlay.local_mac {
        return Err(DropReason::WrongMac);
    }
    if ethernet.src() == overlay.local_mac {
        return Err(DropReason::Loop);
    }
    Ok(ethernet.ethertype())
}

fn ipv4(bytes: &[u8]) -> Result<(InnerPacket, IpAddr), DropReason> {
    let packet = ipv4::Packet::new(bytes).map_err(|_| DropReason::BadInnerIp)?;
    let inner = InnerPacket {
        ip_offset: FRAME_OVERHEAD,
        ip_len: usize::from(packet.total_len()),
        v6: false,
        ecn: packet.ecn(),
    };
    Ok((inner, packet.src().into()))
}

fn ipv6(bytes: &[u8]) -> Result<(InnerPacket, IpAddr), DropReason> {
    let packet = ipv6::Packet::new(bytes).map_err(|_| DropReason::BadInnerIp)?;
    let inner = InnerPacket {
        ip_offset: FRAME_OVERHEAD,
        ip_len: packet.total_len(),
        v6: true,
        ecn: packet.ecn(),
    };
    Ok((inner, packet.src().into()))
}

/// A frame that is a packet and nothing else: without an Ethernet header there is no padding,
/// and nothing but the packet's own header tells it from garbage.
fn plain(frame: &[u8]) -> Result<(InnerPacket, IpAddr), DropReason> {
    let packet = ipv4::Packet::new(frame).map_err(|_| DropReason::BadInnerIp)?;
    if usize::from(packet.total_len()) != frame.len() || !packet.verify_checksum() {
        return Err(DropReason::BadInnerIp);
    }
    let inner = InnerPacket {
        ip_offset: 0,
        ip_len: frame.len(),
        v6: false,
        ecn: packet.ecn(),
    };
    Ok((inner, packet.src().into()))
}

#[cfg(test)]
mod tests;
