//! UDP (RFC 768).

use super::{Malformed, between, put_u16, take_u16};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// Offset of the checksum field in the header (`csum_offset` of a `virtio_net_hdr`).
pub const CHECKSUM_OFFSET: usize = 6;

const SRC_PORT: usize = 0;
const DST_PORT: usize = 2;
const LEN: usize = 4;

/// A UDP datagram. The buffer may be longer than the datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<T> {
    bytes: T,
}

#[allow(clippy::len_without_is_empty)] // `len` is the length field, at least 8.
impl<T: AsRef<[u8]>> Datagram<T> {
    /// Check the length field. That of a super-packet covers the whole super-packet.
    #[inline]
    pub fn new(bytes: T) -> Result<Datagram<T>, Malformed> {
        let datagram = Datagram::header_only(bytes)?;
        let len = usize::from(datagram.len());
        if len < HEADER_LEN || len > datagram.bytes.as_ref().len() {
            return Err(Malformed::Length);
        }
        Ok(datagram)
    }

    /// Check only that a header is there: the length field may lie, and
    /// [`Datagram::payload`] is whatever of it the buffer holds.
    #[inline]
    pub fn header_only(bytes: T) -> Result<Datagram<T>, Malformed> {
        match bytes.as_ref().len() {
            HEADER_LEN.. => Ok(Datagram { bytes }),
            _ => Err(Malformed::Truncated),
        }
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

    /// Length of header and payload in bytes.
    #[inline]
    pub fn len(&self) -> u16 {
        take_u16(self.bytes.as_ref(), LEN)
    }

    /// Checksum as it stands; 0 means none (IPv4).
    #[inline]
    pub fn checksum(&self) -> u16 {
        take_u16(self.bytes.as_ref(), CHECKSUM_OFFSET)
    }

    /// What the length field leaves behind the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), HEADER_LEN, usize::from(self.len()))
    }
}

impl<'a> Datagram<&'a [u8]> {
    /// As [`Datagram::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        between(self.bytes, HEADER_LEN, usize::from(self.len()))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Datagram<T> {
    /// Set the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        put_u16(self.bytes.as_mut(), SRC_PORT, port);
    }

    /// Set the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        put_u16(self.bytes.as_mut(), DST_PORT, port);
    }

    /// Set the length field.
    #[inline]
    pub fn set_len(&mut self, len: u16) {
        put_u16(self.bytes.as_mut(), LEN, len);
    }

    /// Set the checksum field; see [`super::checksum::Sum::finish_udp`].
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM_OFFSET, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: [u8; 11] = [0x9c, 0x40, 0x00, 0x35, 0x00, 0x0a, 0xab, 0xcd, 1, 2, 3];

    #[test]
    fn reads_a_datagram() {
        let datagram = Datagram::new(&DATAGRAM[..]).unwrap();
        assert_eq!((datagram.src_port(), datagram.dst_port()), (40_000, 53));
        assert_eq!((datagram.len(), datagram.checksum()), (10, 0xabcd));
        assert_eq!(datagram.payload(), [1, 2]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(
            Datagram::new(&DATAGRAM[..7]).unwrap_err(),
            Malformed::Truncated
        );
        assert_eq!(
            Datagram::new(&DATAGRAM[..9]).unwrap_err(),
            Malformed::Length
        );
        let mut bytes = DATAGRAM;
        bytes[5] = 7;
        assert_eq!(Datagram::new(&bytes[..]).unwrap_err(), Malformed::Length);
        assert!(
            Datagram::header_only(&bytes[..])
                .unwrap()
                .payload()
                .is_empty()
        );
    }

    #[test]
    fn setters_change_their_field_and_nothing_else() {
        let mut bytes = DATAGRAM;
        let mut datagram = Datagram::new(&mut bytes[..]).unwrap();
        datagram.set_src_port(0x0102);
        datagram.set_dst_port(0x0304);
        datagram.set_len(0x0506);
        datagram.set_checksum(0x0708);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]);
    }
}
