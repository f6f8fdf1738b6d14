//! The MTU behind the TUN, where it is smaller than the TUN's own.
//!
//! A TCP super-packet that arrives whole does not say in which segments it was sent. The TUN
//! wants to be told, and a node forwards the super-packet to a pod only if segments of that
//! size fit the pod's link. What to tell is known from the control thread at first, and from
//! the ICMP errors with which this node refuses what was too large for one of its pods.

use crate::route::pmtu;
use crate::wire::icmp::{self, v4, v6};
use crate::wire::ip::{IpPacket, protocol};
use std::sync::atomic::{AtomicU16, Ordering};

/// The largest inner packet that every pod of this node takes, for all workers of a TUN.
///
/// It only ever falls: segments that are smaller than they need to be cost nothing, as they
/// are but a number in the header of a super-packet that stays whole.
#[derive(Debug)]
pub struct PodMtu(AtomicU16);

impl PodMtu {
    /// Begin with `mtu` bytes of inner IP packet.
    pub fn new(mtu: usize) -> PodMtu {
        PodMtu(AtomicU16::new(u16::try_from(mtu).unwrap_or(u16::MAX)))
    }

    /// Bytes of inner IP packet.
    #[inline]
    pub fn get(&self) -> usize {
        usize::from(self.0.load(Ordering::Relaxed))
    }

    /// Learn of a link of this MTU; whether it is news.
    pub fn learn(&self, mtu: u16) -> bool {
        self.0.fetch_min(mtu, Ordering::Relaxed) > mtu
    }
}

/// The MTU that `ip`, a packet on its way to another node, says a link of this node has: an
/// ICMP error for packets that are too big (RFC 1191, RFC 8201). As for paths, a forged one
/// cannot say less than [`pmtu::MIN_V4`] and [`pmtu::MIN_V6`].
pub fn told(ip: &[u8]) -> Option<u16> {
    let packet = IpPacket::new(ip).ok()?;
    let message = icmp::Message::new(packet.payload()).ok()?;
    let (kind, code, mtu) = (message.kind(), message.code(), message.rest());
    match packet {
        // The other half of the word is unused. Routers older than RFC 1191 say zero.
        IpPacket::V4(packet) if packet.protocol() == protocol::ICMP && !packet.is_fragment() => {
            let mtu = mtu as u16;
            ((kind, code) == (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) && mtu != 0)
                .then(|| mtu.max(pmtu::MIN_V4))
        }
        IpPacket::V4(_) => None,
        IpPacket::V6(packet) => (packet.next_header() == protocol::ICMPV6
            && kind == v6::PACKET_TOO_BIG)
            .then(|| u16::try_from(mtu).unwrap_or(u16::MAX).max(pmtu::MIN_V6)),
    }
}

#[cfg(test)]
mod tests;
