//! IPv6 (RFC 8200). Extension headers belong to the payload.

use super::checksum::{self, Sum};
use super::ecn::Ecn;
use super::{Malformed, between, between_mut, put, put_u16, take, take_u16, take_u32};
use std::net::Ipv6Addr;

/// Length of the fixed header in bytes.
pub const HEADER_LEN: usize = 40;

/// The smallest MTU that a link can have, in bytes (RFC 8200 section 5).
pub const MIN_MTU: u16 = 1280;

const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SRC: usize = 8;
const DST: usize = 24;

/// An IPv6 packet. The buffer may be longer than the packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Check version and payload length. A jumbogram (RFC 2675) reads as an empty payload.
    #[inline]
    pub fn new(bytes: T) -> Result<Packet<T>, Malformed> {
        let packet = Packet::header_only(bytes)?;
        if packet.total_len() > packet.bytes.as_ref().len() {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// Check the version only: the payload length may lie, and [`Packet::payload`] is
    /// whatever of it the buffer holds.
    #[inline]
    pub fn header_only(bytes: T) -> Result<Packet<T>, Malformed> {
        let fixed: &[u8; HEADER_LEN] = bytes.as_ref().first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        Ok(Packet { bytes })
    }

    /// The buffer itself.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }

    /// Length of everything behind the fixed header, in bytes.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        take_u16(self.bytes.as_ref(), PAYLOAD_LEN)
    }

    /// Length of header and payload in bytes: 40 to 65,575.
    #[inline]
    pub fn total_len(&self) -> usize {
        HEADER_LEN + usize::from(self.payload_len())
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (take_u16(self.bytes.as_ref(), 0) >> 4) as u8
    }

    /// ECN field.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::of_tos(self.traffic_class())
    }

    /// Flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        take_u32(self.bytes.as_ref(), 0) & 0xf_ffff
    }

    /// Protocol or first extension header of the payload, see [`super::ip::protocol`].
    #[inline]
    pub fn next_header(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), NEXT_HEADER)[0]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), HOP_LIMIT)[0]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(take::<16>(self.bytes.as_ref(), SRC))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(take::<16>(self.bytes.as_ref(), DST))
    }

    /// Header and payload, without what the buffer holds behind them.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        between(self.bytes.as_ref(), 0, self.total_len())
    }

    /// The fixed header.
    #[inline]
    pub fn header(&self) -> &[u8] {
        between(self.bytes.as_ref(), 0, HEADER_LEN)
    }

    /// What the payload length leaves behind the fixed header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), HEADER_LEN, self.total_len())
    }

    /// Pseudo-header sum for an upper-layer payload of `len` bytes, where no extension
    /// header precedes it.
    #[inline]
    pub fn pseudo_sum(&self, len: u32) -> Sum {
        checksum::pseudo_v6(self.src(), self.dst(), self.next_header(), len)
    }
}

impl<'a> Packet<&'a [u8]> {
    /// As [`Packet::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        between(self.bytes, HEADER_LEN, self.total_len())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Set the payload length.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        put_u16(self.bytes.as_mut(), PAYLOAD_LEN, len);
    }

    /// Set the traffic class.
    #[inline]
    pub fn set_traffic_class(&mut self, class: u8) {
        let rest = take_u16(self.bytes.as_ref(), 0) & 0xf00f;
        put_u16(self.bytes.as_mut(), 0, rest | u16::from(class) << 4);
    }

    /// Set the ECN field.
    #[inline]
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.set_traffic_class(self.traffic_class() & !3 | ecn.bits());
    }

    /// Set the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, limit: u8) {
        put(self.bytes.as_mut(), HOP_LIMIT, [limit]);
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let to = self.total_len();
        between_mut(self.bytes.as_mut(), HEADER_LEN, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP packet cut to two payload bytes, and a byte behind it.
    const PACKET: [u8; 43] = [
        0x6b, 0x91, 0x23, 0x45, 0x00, 0x02, 0x06, 0x40, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 1, 0x0a, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x0b, 0xaa, 0xbb, 0xff,
    ];

    #[test]
    fn reads_a_packet() {
        let packet = Packet::new(&PACKET[..]).unwrap();
        assert_eq!((packet.payload_len(), packet.total_len()), (2, 42));
        assert_eq!((packet.traffic_class(), packet.ecn()), (0xb9, Ecn::Ect1));
        assert_eq!(packet.flow_label(), 0x1_2345);
        assert_eq!((packet.next_header(), packet.hop_limit()), (6, 64));
        assert_eq!(packet.src().to_string(), "fd00::10a");
        assert_eq!(packet.dst().to_string(), "fd00::20b");
        assert_eq!(packet.header(), &PACKET[..40]);
        assert_eq!(packet.payload(), [0xaa, 0xbb]);
        assert_eq!(packet.packet(), &PACKET[..42]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(Packet::new(&PACKET[..41]).unwrap_err(), Malformed::Length);
        assert_eq!(
            Packet::new(&PACKET[..39]).unwrap_err(),
            Malformed::Truncated
        );
        let mut bytes = PACKET;
        bytes[0] = 0x45;
        assert_eq!(Packet::new(&bytes[..]).unwrap_err(), Malformed::Version);
        assert!(
            Packet::header_only(&PACKET[..40])
                .unwrap()
                .payload()
                .is_empty()
        );
    }

    #[test]
    fn setters_change_their_field_and_nothing_else() {
        let mut bytes = PACKET;
        let mut packet = Packet::new(&mut bytes[..]).unwrap();
        packet.set_traffic_class(0x5e);
        packet.set_ecn(Ecn::Ce);
        packet.set_hop_limit(9);
        packet.set_payload_len(1);
        assert_eq!(
            (packet.traffic_class(), packet.flow_label()),
            (0x5f, 0x1_2345)
        );
        assert_eq!(packet.payload_mut(), [0xaa]);
        let mut expected = PACKET;
        expected[..2].copy_from_slice(&[0x65, 0xf1]);
        expected[5] = 1;
        expected[7] = 9;
        assert_eq!(bytes, expected);
    }
}
