//! Outer packets that a route has led back into the tunnel they came from.
//!
//! Sent once more, such a packet would come back once more, for ever. A kernel tunnel notices
//! that by the depth of its own stack; here each round is a packet like any other, so it is
//! known by what all outer packets have in common: UDP to the overlay's port at the address of
//! a peer. Its source says less: the host's own rules may masquerade what enters the tunnel.
//! Nor could a packet of that kind ever be of use in the tunnel: whatever carries it would
//! take the same way.

use crate::route::table::Table;
use crate::wire::ip::{IpPacket, protocol};
use crate::wire::ipv6;
use std::net::IpAddr;

/// Where ports, or what says that there are none, begin in an IPv6 fragment's payload.
const FRAGMENT_HEADER_LEN: usize = 8;

/// Whether `packet`, read from the TUN, is an outer packet to a peer of `table`, at whose
/// addresses `port` is the overlay's, or a fragment of one. Its payload begins with `ports`.
#[inline]
pub(super) fn is_outer(
    packet: &IpPacket<'_>,
    ports: Option<[u8; 4]>,
    table: &Table,
    port: u16,
) -> bool {
    let transport = match packet {
        IpPacket::V4(packet) if packet.protocol() == protocol::UDP => match packet.frag_offset() {
            0 => Transport::Ports(destination_port(ports)),
            _ => Transport::LaterFragment,
        },
        IpPacket::V6(packet) => match packet.next_header() {
            protocol::UDP => Transport::Ports(destination_port(ports)),
            protocol::FRAGMENT => transport_of_fragment(packet),
            _ => return false,
        },
        IpPacket::V4(_) => return false,
    };
    let may_be = match transport {
        Transport::Ports(destination) => destination == Some(port),
        Transport::LaterFragment => is_nodes_own(packet.src(), table),
        Transport::Other => false,
    };
    may_be && table.peer_by_addr(packet.dst()).is_some()
}

/// What is known of the transport header of a packet that may be UDP.
enum Transport {
    /// It is there, with this destination port.
    Ports(Option<u16>),
    /// It left with an earlier fragment.
    LaterFragment,
    Other,
}

#[cold]
fn transport_of_fragment(packet: &ipv6::Packet<&[u8]>) -> Transport {
    let payload = packet.payload();
    let Some(&[protocol::UDP, _, high, low]) = payload.first_chunk() else {
        return Transport::Other;
    };
    match u16::from_be_bytes([high, low]) & !7 {
        0 => Transport::Ports(
            payload
                .get(FRAGMENT_HEADER_LEN..)
                .and_then(|udp| destination_port(udp.first_chunk().copied())),
        ),
        _ => Transport::LaterFragment,
    }
}

#[inline]
fn destination_port(ports: Option<[u8; 4]>) -> Option<u16> {
    let [_, _, high, low] = ports?;
    Some(u16::from_be_bytes([high, low]))
}

/// Whether the node itself sent it, and not one of its pods: a fragment without ports may be
/// one of any datagram. The first address of the own subnet is that of the TUN, which the node
/// masquerades by.
#[cold]
fn is_nodes_own(source: IpAddr, table: &Table) -> bool {
    let overlay = table.overlay();
    let pods = match source {
        IpAddr::V4(ip) => overlay
            .own_v4
            .is_some_and(|net| net.contains(&ip) && net.network() != ip),
        IpAddr::V6(ip) => overlay
            .own_v6
            .is_some_and(|net| net.contains(&ip) && net.network() != ip),
    };
    !pods
}

#[cfg(test)]
mod tests;
