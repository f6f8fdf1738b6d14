//! VXLAN (RFC 7348).

use super::{Malformed, between, take, take_u32};
use std::fmt;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// The flags byte of a header with a VNI.
const FLAG_VNI: u8 = 0x08;

/// All of a header but the VNI.
const FIXED: u64 = 0xffff_ffff_0000_00ff;

/// What the group policy extension uses of a header.
const GBP_USED: u64 = 0x80ff_ffff_0000_0000;

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest one.
    pub const MAX: Vni = Vni(0xff_ffff);

    /// `None` when `vni` does not fit into 24 bits.
    pub const fn new(vni: u32) -> Option<Vni> {
        if vni <= Vni::MAX.0 {
            Some(Vni(vni))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A VXLAN header and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Header<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Header<T> {
    /// Check that a header is there.
    #[inline]
    pub fn new(bytes: T) -> Result<Header<T>, Malformed> {
        match bytes.as_ref().len() {
            HEADER_LEN.. => Ok(Header { bytes }),
            _ => Err(Malformed::Truncated),
        }
    }

    /// Whether the flags byte says "VNI present" and nothing else, and all reserved bits
    /// are zero. RFC 7348 has receivers ignore the others; `vxlan_rcv` in Linux
    /// (drivers/net/vxlan/vxlan_core.c) drops a header with bits that no configured
    /// extension explains, and so do we. With `gbp` the group policy extension explains those
    /// of `VXLAN_GBP_USED_BITS` (include/net/vxlan.h): the G flag and all that follows in the
    /// first word.
    #[inline]
    pub fn is_valid(&self, gbp: bool) -> bool {
        let (fixed, expected) = fixed(gbp);
        let bytes: [u8; HEADER_LEN] = take(self.bytes.as_ref(), 0);
        u64::from_be_bytes(bytes) & fixed == expected
    }

    /// The VXLAN network identifier.
    #[inline]
    pub fn vni(&self) -> Vni {
        Vni(take_u32(self.bytes.as_ref(), 4) >> 8)
    }

    /// What follows the header: an Ethernet frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), HEADER_LEN, usize::MAX)
    }
}

impl<'a> Header<&'a [u8]> {
    /// As [`Header::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        between(self.bytes, HEADER_LEN, usize::MAX)
    }
}

/// The bits of a header, as a number, that are the same in all that are valid, and what they are; see
/// [`Header::is_valid`].
#[inline]
pub const fn fixed(gbp: bool) -> (u64, u64) {
    let fixed = if gbp { FIXED & !GBP_USED } else { FIXED };
    (fixed, (FLAG_VNI as u64) << 56)
}

/// Write a header.
#[inline]
pub fn write(header: &mut [u8; HEADER_LEN], vni: Vni) {
    let word = u64::from(FLAG_VNI) << 56 | u64::from(vni.0) << 8;
    *header = word.to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 10] = [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0xaa, 0xbb];

    #[test]
    fn reads_a_header() {
        let header = Header::new(&HEADER[..]).unwrap();
        assert!(header.is_valid(false) && header.is_valid(true));
        assert_eq!(header.vni(), Vni(0x12_3456));
        assert_eq!(header.payload(), [0xaa, 0xbb]);
        assert_eq!(Header::new(&HEADER[..7]).unwrap_err(), Malformed::Truncated);
    }

    #[test]
    fn writes_the_header_it_reads() {
        let mut header = [0xff; HEADER_LEN];
        write(&mut header, Vni(0x12_3456));
        assert_eq!(header, HEADER[..HEADER_LEN]);
        assert_eq!(Header::new(header).unwrap().vni(), Vni(0x12_3456));
    }

    #[test]
    fn any_other_bit_outside_the_vni_is_invalid() {
        for bit in 0..64 {
            let mut bytes = HEADER;
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let in_vni = (32..56).contains(&bit);
            let in_policy = bit == 0 || (8..32).contains(&bit);
            let header = Header::new(&bytes[..]).unwrap();
            assert_eq!(header.is_valid(false), in_vni, "bit {bit}");
            assert_eq!(header.is_valid(true), in_vni || in_policy, "bit {bit}");
        }
    }

    #[test]
    fn a_vni_has_24_bits() {
        assert_eq!(Vni::new(0xff_ffff), Some(Vni::MAX));
        assert_eq!(Vni::new(0x100_0000), None);
        assert_eq!(Vni::new(4096).map(Vni::get), Some(4096));
        assert_eq!(Vni::MAX.to_string(), "16777215");
    }
}
