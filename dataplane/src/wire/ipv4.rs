//! IPv4 (RFC 791).

use super::checksum::{self, Sum};
use super::ecn::Ecn;
use super::{Malformed, between, between_mut, put, put_u16, take, take_u16};
use std::net::Ipv4Addr;

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;

/// The smallest MTU that Linux believes of a path, in bytes (`min_pmtu` in net/ipv4/route.c). A
/// sender that is told less clears DF.
pub const MIN_PATH_MTU: u16 = 552;

const TOS: usize = 1;
const TOTAL_LEN: usize = 2;
const IDENT: usize = 4;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SRC: usize = 12;
const DST: usize = 16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 packet. The buffer may be longer than the packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Check version, header length and total length. The checksum is not verified.
    #[inline]
    pub fn new(bytes: T) -> Result<Packet<T>, Malformed> {
        let packet = Packet::header_only(bytes)?;
        let total = usize::from(packet.total_len());
        if total < packet.header_len() || total > packet.bytes.as_ref().len() {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// Check version and header length only: the total length may lie, and
    /// [`Packet::payload`] is whatever of it the buffer holds.
    #[inline]
    pub fn header_only(bytes: T) -> Result<Packet<T>, Malformed> {
        let slice = bytes.as_ref();
        let fixed: &[u8; MIN_HEADER_LEN] = slice.first_chunk().ok_or(Malformed::Truncated)?;
        if fixed[0] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = usize::from(fixed[0] & 0xf) * 4;
        if header_len < MIN_HEADER_LEN || header_len > slice.len() {
            return Err(Malformed::HeaderLength);
        }
        Ok(Packet { bytes })
    }

    /// The buffer itself.
    #[inline]
    pub fn into_inner(self) -> T {
        self.bytes
    }

    /// Header length in bytes, options included: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(take::<1>(self.bytes.as_ref(), 0)[0] & 0xf) * 4
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> u16 {
        take_u16(self.bytes.as_ref(), TOTAL_LEN)
    }

    /// The whole type-of-service byte: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), TOS)[0]
    }

    /// ECN field.
    #[inline]
    pub fn ecn(&self) -> Ecn {
        Ecn::of_tos(self.tos())
    }

    /// Identification.
    #[inline]
    pub fn ident(&self) -> u16 {
        take_u16(self.bytes.as_ref(), IDENT)
    }

    /// The DF flag.
    #[inline]
    pub fn dont_frag(&self) -> bool {
        take_u16(self.bytes.as_ref(), FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// The MF flag.
    #[inline]
    pub fn more_frags(&self) -> bool {
        take_u16(self.bytes.as_ref(), FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where the payload lies in the unfragmented one, in bytes.
    #[inline]
    pub fn frag_offset(&self) -> u16 {
        (take_u16(self.bytes.as_ref(), FRAGMENT) & OFFSET_MASK) << 3
    }

    /// Whether this is a fragment: the first, the last or one between.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        take_u16(self.bytes.as_ref(), FRAGMENT) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), TTL)[0]
    }

    /// Protocol of the payload, see [`super::ip::protocol`].
    #[inline]
    pub fn protocol(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), PROTOCOL)[0]
    }

    /// Header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        take_u16(self.bytes.as_ref(), CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(take::<4>(self.bytes.as_ref(), SRC))
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(take::<4>(self.bytes.as_ref(), DST))
    }

    /// Header and payload, without what the buffer holds behind them.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        between(self.bytes.as_ref(), 0, usize::from(self.total_len()))
    }

    /// The header, options included.
    #[inline]
    pub fn header(&self) -> &[u8] {
        between(self.bytes.as_ref(), 0, self.header_len())
    }

    /// The options: empty, or a multiple of 4 bytes.
    #[inline]
    pub fn options(&self) -> &[u8] {
        between(self.bytes.as_ref(), MIN_HEADER_LEN, self.header_len())
    }

    /// What the total length leaves behind the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let total = usize::from(self.total_len());
        between(self.bytes.as_ref(), self.header_len(), total)
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::sum(self.header()).is_valid()
    }

    /// Pseudo-header sum for a payload of `len` bytes of protocol [`Packet::protocol`].
    #[inline]
    pub fn pseudo_sum(&self, len: u32) -> Sum {
        checksum::pseudo_v4(self.src(), self.dst(), self.protocol(), len)
    }
}

impl<'a> Packet<&'a [u8]> {
    /// As [`Packet::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        let total = usize::from(self.total_len());
        between(self.bytes, self.header_len(), total)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Set the total length, leaving the checksum stale.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        put_u16(self.bytes.as_mut(), TOTAL_LEN, len);
    }

    /// Set the identification, leaving the checksum stale.
    #[inline]
    pub fn set_ident(&mut self, ident: u16) {
        put_u16(self.bytes.as_mut(), IDENT, ident);
    }

    /// Set the fragmentation flags and the offset (bytes, a multiple of 8), leaving the
    /// checksum stale.
    #[inline]
    pub fn set_fragment(&mut self, dont_frag: bool, more_frags: bool, offset: u16) {
        let flags = u16::from(dont_frag) << 14 | u16::from(more_frags) << 13;
        put_u16(self.bytes.as_mut(), FRAGMENT, flags | offset >> 3);
    }

    /// Set the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }

    /// Compute the checksum of the header as it stands and store it.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = checksum::sum(self.header()).finish();
        self.set_checksum(checksum);
    }

    /// Set the type-of-service byte and update the checksum (RFC 1624).
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        self.set_byte(TOS, tos);
    }

    /// Set the ECN field and update the checksum (RFC 1624).
    #[inline]
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.set_tos(self.tos() & !3 | ecn.bits());
    }

    /// Set the time to live and update the checksum (RFC 1624).
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.set_byte(TTL, ttl);
    }

    /// The payload, writable.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = (self.header_len(), usize::from(self.total_len()));
        between_mut(self.bytes.as_mut(), from, to)
    }

    #[inline]
    fn set_byte(&mut self, at: usize, value: u8) {
        let word = at & !1;
        let old = take_u16(self.bytes.as_ref(), word);
        put(self.bytes.as_mut(), at, [value]);
        let new = take_u16(self.bytes.as_ref(), word);
        let checksum = checksum::update(self.checksum(), old, new);
        self.set_checksum(checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram of one byte with a router-alert option, and a byte behind the packet.
    const PACKET: [u8; 34] = [
        0x46, 0xb9, 0x00, 0x21, 0x12, 0x34, 0x60, 0xb9, 0x40, 0x11, 0x59, 0x35, 10, 244, 1, 2, 10,
        244, 2, 3, 0x94, 0x04, 0x00, 0x00, 0x9c, 0x40, 0x00, 0x35, 0x00, 0x09, 0x00, 0x00, 0x5a,
        0xff,
    ];

    #[test]
    fn reads_a_packet() {
        let packet = Packet::new(&PACKET[..]).unwrap();
        assert_eq!(packet.header_len(), 24);
        assert_eq!(packet.total_len(), 33);
        assert_eq!((packet.tos(), packet.ecn()), (0xb9, Ecn::Ect1));
        assert_eq!(packet.ident(), 0x1234);
        assert!(packet.dont_frag() && packet.more_frags() && packet.is_fragment());
        assert_eq!(packet.frag_offset(), 0xb9 * 8);
        assert_eq!(packet.ttl(), 64);
        assert_eq!(packet.protocol(), 17);
        assert_eq!(packet.checksum(), 0x5935);
        assert_eq!(packet.src(), Ipv4Addr::new(10, 244, 1, 2));
        assert_eq!(packet.dst(), Ipv4Addr::new(10, 244, 2, 3));
        assert_eq!(packet.header(), &PACKET[..24]);
        assert_eq!(packet.options(), [0x94, 0x04, 0, 0]);
        assert_eq!(packet.payload(), &PACKET[24..33]);
        assert_eq!(packet.into_payload(), &PACKET[24..33]);
        assert_eq!(packet.packet(), &PACKET[..33]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let error = |edit: fn(&mut [u8; 34]), len: usize| {
            let mut bytes = PACKET;
            edit(&mut bytes);
            Packet::new(&bytes[..len]).err()
        };
        assert_eq!(error(|_| {}, 33), None);
        assert_eq!(error(|_| {}, 32), Some(Malformed::Length));
        assert_eq!(error(|_| {}, 23), Some(Malformed::HeaderLength));
        assert_eq!(error(|_| {}, 19), Some(Malformed::Truncated));
        assert_eq!(error(|_| {}, 0), Some(Malformed::Truncated));
        assert_eq!(error(|b| b[0] = 0x66, 34), Some(Malformed::Version));
        assert_eq!(error(|b| b[0] = 0x44, 34), Some(Malformed::HeaderLength));
        assert_eq!(error(|b| b[0] = 0x4f, 34), Some(Malformed::HeaderLength));
        assert_eq!(error(|b| b[3] = 23, 34), Some(Malformed::Length));
        assert_eq!(error(|b| b[3] = 24, 34), None);
    }

    #[test]
    fn setters_change_their_field_and_nothing_else() {
        let mut bytes = PACKET;
        let mut packet = Packet::new(&mut bytes[..]).unwrap();
        assert!(packet.verify_checksum());
        packet.set_checksum(0);
        packet.fill_checksum();
        assert_eq!(packet.checksum(), 0x5935);
        packet.set_tos(0x03);
        packet.set_ttl(1);
        assert!(packet.verify_checksum());
        packet.set_ecn(Ecn::Ect0);
        assert!(packet.verify_checksum());
        assert_eq!((packet.tos(), packet.ttl()), (2, 1));
        packet.set_total_len(30);
        packet.set_ident(0xbeef);
        packet.set_fragment(false, true, 1480);
        assert!(!packet.verify_checksum());
        assert_eq!(packet.payload_mut().len(), 6);
        packet.set_checksum(0);
        let mut expected = PACKET;
        expected[1] = 2;
        expected[3] = 30;
        expected[4..8].copy_from_slice(&[0xbe, 0xef, 0x20, 0xb9]);
        expected[8] = 1;
        expected[10..12].fill(0);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_header_alone_has_the_payload_that_is_there() {
        let mut header = PACKET;
        header[2] = 0xff;
        let packet = Packet::header_only(&header[..24]).unwrap();
        assert_eq!(packet.total_len(), 0xff21);
        assert!(packet.payload().is_empty());
        assert_eq!(
            Packet::header_only(&header[..]).unwrap().payload(),
            &PACKET[24..]
        );
    }
}
