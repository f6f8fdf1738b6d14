//! Who may send us what: every received frame is held against the table before anything
//! else looks into it.
//!
//! Kernel VXLAN takes frames from anywhere on the underlay; here the outer source must be a
//! live peer and the inner source one of that peer's, unless the overlay is
//! [`Admission::Loose`].

use super::table::{Admission, ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_LEN, Overlay, PeerId, Table};
use crate::stats::Drop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node a datagram or train came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Underlay address, IPv4 even where the socket reported it mapped into IPv6.
    pub addr: IpAddr,
    /// The peer with this address; `None` only where admission is loose.
    pub peer: Option<PeerId>,
}

/// The IP packet in an admitted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where the IP header starts, in bytes from the VXLAN header.
    pub ip_offset: usize,
    /// Length by the IP header in bytes; what follows in the frame is padding.
    pub ip_len: usize,
    /// IPv6, otherwise IPv4.
    pub v6: bool,
    /// ECN field (RFC 3168 codepoint, 0 to 3).
    pub ecn: u8,
}

/// Admit the outer source of a datagram or train; ask once for all its frames.
#[inline]
pub fn sender(table: &Table, outer_src: IpAddr) -> Result<Sender, Drop> {
    let peer = table.peer_by_addr(outer_src);
    match table.overlay().admission {
        Admission::Strict if peer.is_none() => Err(Drop::UnknownSender),
        Admission::Strict | Admission::Loose => Ok(Sender {
            addr: outer_src.to_canonical(),
            peer,
        }),
    }
}

impl Sender {
    /// Admit one frame, from its VXLAN header on.
    ///
    /// `table` must be the one that [`sender`] saw. What is admitted has an IP header that
    /// lies within the frame, and a length by that header that does.
    #[inline]
    pub fn frame(&self, table: &Table, frame: &[u8]) -> Result<Inner, Drop> {
        let (header, packet) = frame
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Drop::BadVxlan)?;
        let (inner, source) = match ethertype(table.overlay(), header)? {
            ETHERTYPE_IPV4 => ipv4(packet)?,
            ETHERTYPE_IPV6 => ipv6(packet)?,
            _ => return Err(Drop::BadEthertype),
        };
        if table.overlay().admission == Admission::Strict && !self.may_use(table, source) {
            return Err(Drop::SpoofedSource);
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

/// Check VXLAN and Ethernet header and return the EtherType.
fn ethertype(overlay: &Overlay, header: &[u8; HEADER_LEN]) -> Result<u16, Drop> {
    let [f0, f1, f2, f3, v0, v1, v2, reserved, macs @ .., t0, t1] = *header;
    // Linux drops frames with flags it does not know (vxlan_rcv), and so do we: they say
    // that the payload is something else than Ethernet.
    if [f0, f1, f2, f3, reserved] != [0x08, 0, 0, 0, 0] {
        return Err(Drop::BadVxlan);
    }
    if u32::from_be_bytes([0, v0, v1, v2]) != overlay.vni {
        return Err(Drop::WrongVni);
    }
    if macs[..6] != overlay.local_mac {
        return Err(Drop::WrongMac);
    }
    if macs[6..] == overlay.local_mac {
        return Err(Drop::Loop);
    }
    Ok(u16::from_be_bytes([t0, t1]))
}

fn ipv4(packet: &[u8]) -> Result<(Inner, IpAddr), Drop> {
    let header = packet.first_chunk::<20>().ok_or(Drop::BadInnerIp)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let ip_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < 20 || ip_len < header_len || ip_len > packet.len() {
        return Err(Drop::BadInnerIp);
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let inner = Inner {
        ip_offset: HEADER_LEN,
        ip_len,
        v6: false,
        ecn: header[1] & 3,
    };
    Ok((inner, source.into()))
}

fn ipv6(packet: &[u8]) -> Result<(Inner, IpAddr), Drop> {
    let header = packet.first_chunk::<40>().ok_or(Drop::BadInnerIp)?;
    let ip_len = header.len() + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || ip_len > packet.len() {
        return Err(Drop::BadInnerIp);
    }
    let mut source = [0; 16];
    source.copy_from_slice(&header[8..24]);
    let inner = Inner {
        ip_offset: HEADER_LEN,
        ip_len,
        v6: true,
        ecn: (header[1] >> 4) & 3,
    };
    Ok((inner, Ipv6Addr::from(source).into()))
}

#[cfg(test)]
mod tests;
