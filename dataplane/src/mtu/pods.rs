//! The MTUs behind the TUN, where they are smaller than the TUN's own.
//!
//! A TCP super-packet that arrives whole does not say in which segments it was sent. The TUN
//! wants to be told, and a node forwards the super-packet to a pod only if segments of that
//! size fit the pod's link. What to tell is known from the control thread at first, and from
//! the ICMP errors with which this node refuses what was too large for one of its pods.
//!
//! Pods can send such errors themselves. One is believed only for the pod that its quote was
//! for, and only if the node may have sent it: it comes from the TUN's address, which the
//! kernel takes from no pod in IPv4, its checksum is right, and it quotes a packet that was too
//! long and that the receiver of the error may have sent to a pod of this node. A forged one
//! (in IPv6, from a pod that takes the node's address) costs the pod it names next to nothing:
//! smaller segments are but a number in the header of a super-packet that stays whole.

use super::paths::PathMtus;
use crate::route::table::Overlay;
use crate::wire::checksum::Sum;
use crate::wire::icmp::{self, v4, v6};
use crate::wire::ip::{IpPacket, protocol};
use crate::wire::{ipv4, ipv6};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

/// How long an error is believed, in milliseconds: then the pod's link may have grown, and the
/// next super-packet finds out. As for paths (RFC 1191 section 6.3).
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;

/// The largest inner packet that each pod of this node takes, for all workers of a TUN.
pub struct PodMtus {
    /// What all take of whom nothing was learned.
    most: u16,
    /// Less was never learned of any.
    least: AtomicU16,
    learned: PathMtus,
}

impl PodMtus {
    /// All pods take `mtu` bytes of inner IP packet.
    pub fn new(mtu: usize) -> PodMtus {
        let most = u16::try_from(mtu).unwrap_or(u16::MAX);
        PodMtus {
            most,
            least: AtomicU16::new(most),
            learned: PathMtus::believed_for(LIFETIME_MS),
        }
    }

    /// Whether nothing was ever learned: then no clock need be read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.learned.is_empty()
    }

    /// Whether anything learned is still believed.
    #[inline]
    pub fn any(&self, now: u64) -> bool {
        self.learned.any(now)
    }

    /// Bytes of inner IP packet that pods take of whom nothing was learned.
    #[inline]
    pub fn most(&self) -> usize {
        usize::from(self.most)
    }

    /// Bytes of inner IP packet that all pods take, whatever was learned.
    #[inline]
    pub fn least(&self) -> usize {
        usize::from(self.least.load(Ordering::Relaxed))
    }

    /// Bytes of inner IP packet that `pod` takes.
    pub fn get(&self, pod: IpAddr, now: u64) -> usize {
        let learned = self.learned.get(pod, now).unwrap_or(self.most);
        usize::from(learned.min(self.most))
    }

    /// Believe what the node says of a pod; whether that changes anything.
    pub fn learn(&self, reported: PodMtu, now: u64) -> bool {
        let before = self.get(reported.pod, now);
        self.learned.learn(reported.pod, reported.mtu, now);
        let after = self.get(reported.pod, now);
        self.least.fetch_min(after as u16, Ordering::Relaxed);
        after != before
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodMtu {
    /// The pod that a packet was too long for.
    pub pod: IpAddr,
    /// The MTU of its link in bytes.
    pub mtu: u16,
}

/// What `ip`, a packet on its way from a node of `overlay` to another, reports of a pod: that
/// packets are too big (RFC 1191, RFC 8201). As for paths, it cannot say less than
/// [`ipv4::MIN_PATH_MTU`] and [`ipv6::MIN_MTU`].
pub fn reported(ip: &[u8], overlay: &Overlay) -> Option<PodMtu> {
    let packet = IpPacket::new(ip).ok()?;
    let payload = packet.payload();
    let message = icmp::Message::new(payload).ok()?;
    let (mtu, pseudo) = match packet {
        IpPacket::V4(packet) if packet.protocol() == protocol::ICMP && !packet.is_fragment() => {
            (mtu_v4(&message)?, Sum::default())
        }
        IpPacket::V6(packet) if packet.next_header() == protocol::ICMPV6 => {
            (mtu_v6(&message)?, packet.pseudo_sum(payload.len() as u32))
        }
        _ => return None,
    };
    let quote = Quote::of(message.payload())?;
    let is_plausible = Some(packet.src()) == tun_of(quote.dst, overlay)
        && packet.dst() == quote.src
        && quote.len > usize::from(mtu)
        && pseudo.add_bytes(payload).is_valid();
    is_plausible.then_some(PodMtu {
        pod: quote.dst,
        mtu,
    })
}

fn mtu_v4(message: &icmp::Message<&[u8]>) -> Option<u16> {
    // The other half of the word is unused. Routers older than RFC 1191 say zero.
    let mtu = message.rest() as u16;
    let kind = (message.kind(), message.code());
    let is_report = kind == (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) && mtu != 0;
    is_report.then(|| mtu.max(ipv4::MIN_PATH_MTU))
}

fn mtu_v6(message: &icmp::Message<&[u8]>) -> Option<u16> {
    let mtu = u16::try_from(message.rest()).unwrap_or(u16::MAX);
    (message.kind() == v6::PACKET_TOO_BIG).then(|| mtu.max(ipv6::MIN_MTU))
}

/// The address of the TUN, if `addr` is that or lies behind it: the first one of the subnet.
fn tun_of(addr: IpAddr, overlay: &Overlay) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(ip) => {
            let own = overlay.own_v4.filter(|net| net.contains(&ip))?;
            Some(own.network().into())
        }
        IpAddr::V6(ip) => {
            let own = overlay.own_v6.filter(|net| net.contains(&ip))?;
            Some(own.network().into())
        }
    }
}

/// The packet that an error is about, of which it has the beginning.
struct Quote {
    src: IpAddr,
    dst: IpAddr,
    /// Length in bytes.
    len: usize,
}

impl Quote {
    fn of(bytes: &[u8]) -> Option<Quote> {
        if let Ok(packet) = ipv4::Packet::header_only(bytes) {
            return Some(Quote {
                src: packet.src().into(),
                dst: packet.dst().into(),
                len: packet.total_len().into(),
            });
        }
        let packet = ipv6::Packet::header_only(bytes).ok()?;
        Some(Quote {
            src: packet.src().into(),
            dst: packet.dst().into(),
            len: packet.total_len(),
        })
    }
}

#[cfg(test)]
mod tests;
