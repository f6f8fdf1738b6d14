//! What IPv4 and IPv6 have in common.

use super::checksum::Sum;
use super::ecn::Ecn;
use super::{Malformed, ipv4, ipv6};
use std::net::IpAddr;

/// IP protocol and next-header numbers (IANA).
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DEST_OPTIONS: u8 = 60;
}

#[cfg(test)]
thread_local! {
    /// Packets that this thread has parsed, for tests that count.
    pub(crate) static PARSED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A packet of either version.
#[derive(Clone, Copy, Debug)]
pub enum IpPacket<'a> {
    /// Version 4.
    V4(ipv4::Packet<&'a [u8]>),
    /// Version 6.
    V6(ipv6::Packet<&'a [u8]>),
}

impl<'a> IpPacket<'a> {
    /// Parse by the version nibble, see [`ipv4::Packet::new`] and [`ipv6::Packet::new`].
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Result<IpPacket<'a>, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => IpPacket::v4(bytes),
            Some(6) => IpPacket::v6(bytes),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    /// Parse what must be version 4.
    #[inline]
    pub fn v4(bytes: &'a [u8]) -> Result<IpPacket<'a>, Malformed> {
        #[cfg(test)]
        PARSED.set(PARSED.get() + 1);
        ipv4::Packet::new(bytes).map(IpPacket::V4)
    }

    /// Parse what must be version 6.
    #[inline]
    pub fn v6(bytes: &'a [u8]) -> Result<IpPacket<'a>, Malformed> {
        #[cfg(test)]
        PARSED.set(PARSED.get() + 1);
        ipv6::Packet::new(bytes).map(IpPacket::V6)
    }

    /// The whole buffer, which may be longer than the packet.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            IpPacket::V4(packet) => packet.into_inner(),
            IpPacket::V6(packet) => packet.into_inner(),
        }
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> IpAddr {
        match self {
            IpPacket::V4(packet) => packet.src().into(),
            IpPacket::V6(packet) => packet.src().into(),
        }
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> IpAddr {
        match self {
            IpPacket::V4(packet) => packet.dst().into(),
            IpPacket::V6(packet) => packet.dst().into(),
        }
    }

    /// Protocol (IPv4) or next header (IPv6) of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        match self {
            IpPacket::V4(packet) => packet.protocol(),
            IpPacket::V6(packet) => packet.next_header(),
        }
    }

    /// Type of service (IPv4) or traffic class (IPv6).
    #[inline]
    pub fn tos(&self) -> u8 {
        match self {
            IpPacket::V4(packet) => packet.tos(),
            IpPacket::V6(packet) => packet.traffic_class(),
        }
    }

    /// ECN field.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::of_tos(self.tos())
    }

    /// Length of the IP header in bytes, IPv6 extension headers not included.
    #[inline]
    pub fn header_len(&self) -> usize {
        match self {
            IpPacket::V4(packet) => packet.header_len(),
            IpPacket::V6(_) => ipv6::HEADER_LEN,
        }
    }

    /// Length of the packet in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        match self {
            IpPacket::V4(packet) => usize::from(packet.total_len()),
            IpPacket::V6(packet) => packet.total_len(),
        }
    }

    /// The first bytes of the payload, where TCP and UDP have their ports; `None` if it is shorter.
    #[inline]
    pub fn ports(&self) -> Option<[u8; 4]> {
        let start = self.header_len();
        let end = start + 4;
        let bytes = self.bytes().get(start..end)?;
        bytes
            .first_chunk()
            .filter(|_| end <= self.total_len())
            .copied()
    }

    /// What follows the IP header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        match *self {
            IpPacket::V4(packet) => packet.into_payload(),
            IpPacket::V6(packet) => packet.into_payload(),
        }
    }

    /// Pseudo-header sum for a payload of `len` bytes of protocol [`IpPacket::protocol`].
    #[inline]
    pub fn pseudo_sum(&self, len: u32) -> Sum {
        match self {
            IpPacket::V4(packet) => packet.pseudo_sum(len),
            IpPacket::V6(packet) => packet.pseudo_sum(len),
        }
    }
}
