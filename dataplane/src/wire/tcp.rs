//! TCP (RFC 9293).

use super::{Malformed, between, put_u16, put_u32, take, take_u16, take_u32};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;

/// Offset of the checksum field in the header (`csum_offset` of a `virtio_net_hdr`).
pub const CHECKSUM_OFFSET: usize = 16;

/// No more data from the sender.
pub const FIN: u16 = 0x001;
/// Synchronise sequence numbers.
pub const SYN: u16 = 0x002;
/// Reset the connection.
pub const RST: u16 = 0x004;
/// Push function.
pub const PSH: u16 = 0x008;
/// The acknowledgment field counts.
pub const ACK: u16 = 0x010;
/// The urgent pointer counts.
pub const URG: u16 = 0x020;
/// ECN-Echo (RFC 3168).
pub const ECE: u16 = 0x040;
/// Congestion window reduced (RFC 3168).
pub const CWR: u16 = 0x080;
/// Accurate ECN (RFC 9768), formerly NS.
pub const AE: u16 = 0x100;

const SRC_PORT: usize = 0;
const DST_PORT: usize = 2;
const SEQ: usize = 4;
const ACK_NUMBER: usize = 8;
const OFFSET_AND_FLAGS: usize = 12;
const WINDOW: usize = 14;
const URGENT: usize = 18;

/// A TCP segment that fills its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Segment<T> {
    /// Check the data offset.
    #[inline]
    pub fn new(bytes: T) -> Result<Segment<T>, Malformed> {
        let slice = bytes.as_ref();
        let fixed: &[u8; MIN_HEADER_LEN] = slice.first_chunk().ok_or(Malformed::Truncated)?;
        let header_len = usize::from(fixed[OFFSET_AND_FLAGS] >> 4) * 4;
        if header_len < MIN_HEADER_LEN || header_len > slice.len() {
            return Err(Malformed::HeaderLength);
        }
        Ok(Segment { bytes })
    }

    /// The buffer itself.
    pub fn into_inner(self) -> T {
        self.bytes
    }

    /// Source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        take_u16(self.bytes.as_ref(), SRC_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        take_u16(self.bytes.as_ref(), DST_PORT)
    }

    /// Sequence number of the first payload byte.
    #[inline]
    pub fn seq(&self) -> u32 {
        take_u32(self.bytes.as_ref(), SEQ)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn ack(&self) -> u32 {
        take_u32(self.bytes.as_ref(), ACK_NUMBER)
    }

    /// Header length in bytes, options included: 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(take::<1>(self.bytes.as_ref(), OFFSET_AND_FLAGS)[0] >> 4) * 4
    }

    /// The flags, and above them ([`AE`] and up) the reserved bits: 12 bits in all.
    #[inline]
    pub fn flags(&self) -> u16 {
        take_u16(self.bytes.as_ref(), OFFSET_AND_FLAGS) & 0xfff
    }

    /// Receive window, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        take_u16(self.bytes.as_ref(), WINDOW)
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        take_u16(self.bytes.as_ref(), CHECKSUM_OFFSET)
    }

    /// Urgent pointer.
    #[inline]
    pub fn urgent(&self) -> u16 {
        take_u16(self.bytes.as_ref(), URGENT)
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

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), self.header_len(), usize::MAX)
    }
}

impl<'a> Segment<&'a [u8]> {
    /// As [`Segment::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        between(self.bytes, self.header_len(), usize::MAX)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Segment<T> {
    /// Set the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        put_u32(self.bytes.as_mut(), SEQ, seq);
    }

    /// Set flags and reserved bits (12 bits), keeping the data offset.
    #[inline]
    pub fn set_flags(&mut self, flags: u16) {
        let offset = take_u16(self.bytes.as_ref(), OFFSET_AND_FLAGS) & 0xf000;
        put_u16(
            self.bytes.as_mut(),
            OFFSET_AND_FLAGS,
            offset | flags & 0xfff,
        );
    }

    /// Set the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM_OFFSET, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: [u8; 26] = [
        0x9c, 0x40, 0x14, 0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x61, 0x99, 0x01, 0xf6, 0xab, 0xcd, 0x00,
        0x07, 2, 4, 5, 0xb4, 0xaa, 0xbb,
    ];

    #[test]
    fn reads_a_segment() {
        let segment = Segment::new(&SEGMENT[..]).unwrap();
        assert_eq!((segment.src_port(), segment.dst_port()), (40_000, 5_201));
        assert_eq!((segment.seq(), segment.ack()), (0x0102_0304, 0x0506_0708));
        assert_eq!(segment.header_len(), 24);
        assert_eq!(segment.flags(), AE | CWR | ACK | PSH | FIN);
        assert_eq!((segment.window(), segment.urgent()), (502, 7));
        assert_eq!(segment.checksum(), 0xabcd);
        assert_eq!(segment.header(), &SEGMENT[..24]);
        assert_eq!(segment.options(), [2, 4, 5, 0xb4]);
        assert_eq!(segment.payload(), [0xaa, 0xbb]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(
            Segment::new(&SEGMENT[..19]).unwrap_err(),
            Malformed::Truncated
        );
        assert_eq!(
            Segment::new(&SEGMENT[..23]).unwrap_err(),
            Malformed::HeaderLength
        );
        let mut bytes = SEGMENT;
        bytes[12] = 0x40;
        assert_eq!(
            Segment::new(&bytes[..]).unwrap_err(),
            Malformed::HeaderLength
        );
    }

    #[test]
    fn setters_change_their_field_and_nothing_else() {
        let mut bytes = SEGMENT;
        let mut segment = Segment::new(&mut bytes[..]).unwrap();
        segment.set_seq(0xfffe_fdfc);
        segment.set_flags(SYN | RST | URG | ECE);
        segment.set_checksum(0x1122);
        let mut expected = SEGMENT;
        expected[4..8].copy_from_slice(&[0xff, 0xfe, 0xfd, 0xfc]);
        expected[12..14].copy_from_slice(&[0x60, 0x66]);
        expected[CHECKSUM_OFFSET..][..2].copy_from_slice(&[0x11, 0x22]);
        assert_eq!(bytes, expected);
    }
}
