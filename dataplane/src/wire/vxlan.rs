//! VXLAN (RFC 7348).

use super::{Malformed, between, take, take_u32};
use std::fmt;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;

/// The flags byte of a header with a VNI.
const FLAG_VNI: u8 = 0x08;

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// extension explains, and so do we.
    #[inline]
    pub fn is_valid(&self) -> bool {
        let bytes: [u8; HEADER_LEN] = take(self.bytes.as_ref(), 0);
        u64::from_be_bytes(bytes) & 0xffff_ffff_0000_00ff == u64::from(FLAG_VNI) << 56
    }

    /// The VXLAN network identifier, 24 bits.
    #[inline]
    pub fn vni(&self) -> u32 {
        take_u32(self.bytes.as_ref(), 4) >> 8
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

/// Write a header with the low 24 bits of `vni`.
#[inline]
pub fn write(header: &mut [u8; HEADER_LEN], vni: u32) {
    let word = u64::from(FLAG_VNI) << 56 | u64::from(vni & Vni::MAX.0) << 8;
    *header = word.to_be_bytes();
}
