//! The internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! ```
//! use weft_dataplane::wire::checksum::{Sum, sum};
//!
//! // A checksum over two pieces, the first of even length.
//! let checksum = sum(&[0x00, 0x01, 0xf2, 0x03]).add_bytes(&[0xf4, 0xf5, 0xf6, 0xf7]).finish();
//! assert_eq!(checksum, !0xddf2);
//! ```

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod x86;

use std::net::{Ipv4Addr, Ipv6Addr};

/// From this length in bytes on [`sum_long`] measures faster than [`sum_words`], with AVX2
/// and without.
const VECTOR_LEN: usize = 96;

/// A ones-complement sum that is folded to 16 bits only at its end.
///
/// It holds the sum, modulo 2^64 - 1, of the data read as words in memory order; 2^16 - 1
/// divides that modulus, so any carry may wait. The byte order does not matter to the
/// addition (RFC 1071 section 2B) and is put right in [`Sum::fold`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Add a run of bytes that starts at an even offset of the data summed, padded with a
    /// zero byte to an even length. So only the last run may be of odd length; a run
    /// behind one of odd length goes through [`Sum::at_odd_offset`].
    #[inline]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        self.add(sum(bytes))
    }

    /// Add a 16-bit field.
    #[inline]
    #[must_use]
    pub fn add_u16(self, value: u16) -> Sum {
        self.add(Sum(u64::from(value.to_be())))
    }

    /// Add a 32-bit field.
    #[inline]
    #[must_use]
    pub fn add_u32(self, value: u32) -> Sum {
        self.add(Sum(u64::from(value.to_be())))
    }

    /// Add another sum.
    #[inline]
    #[must_use]
    #[allow(clippy::should_implement_trait)] // `+` would hide that the carry goes around.
    pub fn add(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        // Cannot overflow again: a sum that carried is at most 2^64 - 2.
        Sum(sum + u64::from(carry))
    }

    /// The sum of the same bytes when they start at an odd offset (RFC 1071 section 2B):
    /// `sum(a).add(sum(b).at_odd_offset())` is the sum of `a` and `b` in a row when `a`
    /// is of odd length.
    #[inline]
    #[must_use]
    pub fn at_odd_offset(self) -> Sum {
        Sum(self.0.rotate_left(8))
    }

    /// The 16-bit sum, not inverted: what a partial checksum field holds.
    #[inline]
    #[must_use]
    pub fn fold(self) -> u16 {
        // The upper half of a number added to itself with its halves exchanged is their sum, and
        // the carry of the lower half is the one that goes around (as `csum_fold` in Linux).
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        u16::from_be(sum)
    }

    /// The checksum: the folded sum, inverted.
    #[inline]
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum for a UDP header, where 0 would mean none and 0xffff stands for it.
    #[inline]
    #[must_use]
    pub fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether data summed with its checksum in place (and its pseudo-header) is intact.
    #[inline]
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Sum a run of bytes, padded with a zero byte to an even length.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> Sum {
    if bytes.len() < VECTOR_LEN {
        return Sum(sum_words(bytes));
    }
    Sum(sum_long(bytes))
}

/// As [`sum`], without what only some processors have: there to be measured against it.
#[inline]
#[must_use]
pub fn sum_portable(bytes: &[u8]) -> Sum {
    if bytes.len() < VECTOR_LEN {
        return Sum(sum_words(bytes));
    }
    Sum(sum_lanes(bytes))
}

/// The IPv4 pseudo-header of TCP and UDP; `len` is that of transport header and payload.
#[inline]
#[must_use]
pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u32) -> Sum {
    // Four terms below 2^32 each: no carry to take around.
    let addresses = u64::from(src.to_bits().to_be()) + u64::from(dst.to_bits().to_be());
    let rest = u64::from(u32::from(protocol).to_be()) + u64::from(len.to_be());
    Sum(addresses + rest)
}

/// The IPv6 pseudo-header (RFC 8200 section 8.1); `len` is that of the upper-layer packet.
#[inline]
#[must_use]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> Sum {
    Sum::default()
        .add_bytes(&src.octets())
        .add_bytes(&dst.octets())
        .add_u32(u32::from(protocol))
        .add_u32(len)
}

/// The checksum after a 16-bit field has changed from `old` to `new` (RFC 1624, eqn. 3).
#[inline]
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + sum) as u16
}

/// As [`update`], for a 32-bit field.
#[inline]
#[must_use]
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let sum = u64::from(!checksum) + u64::from(!old) + u64::from(new);
    let sum = (sum >> 32) + (sum >> 16 & 0xffff) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + sum) as u16
}

/// Out of line, so that the sum of a header stays small where it is inlined.
#[inline(never)]
fn sum_long(bytes: &[u8]) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    if let Some(sum) = x86::sum(bytes) {
        return sum;
    }
    sum_lanes(bytes)
}

/// The sum of `bytes` in memory order modulo 2^64 - 1, as 64-bit words in a number of 128 bits
/// that collects the carries: the least work for a header.
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, mut tail) = bytes.as_chunks::<64>();
    let mut sum = 0u128;
    for block in blocks {
        sum += sum_exactly(block);
    }
    // No loop for the rest: it would cost as much as the sum.
    sum += take_exactly::<32>(&mut tail);
    sum += take_exactly::<16>(&mut tail);
    sum += take_exactly::<8>(&mut tail);
    if !tail.is_empty() {
        sum += u128::from(last_word(tail));
    }
    let (low, carries) = (sum as u64, (sum >> 64) as u64);
    let (sum, carry) = low.overflowing_add(carries);
    // Cannot overflow again: there are fewer carries than words.
    sum + u64::from(carry)
}

/// The sum of the first `N` bytes, which are taken off, if there are as many.
#[inline(always)]
fn take_exactly<const N: usize>(bytes: &mut &[u8]) -> u128 {
    let Some((words, rest)) = bytes.split_first_chunk::<N>() else {
        return 0;
    };
    *bytes = rest;
    sum_exactly(words)
}

/// The sum of whole words.
#[inline(always)]
fn sum_exactly<const N: usize>(words: &[u8; N]) -> u128 {
    let words = words.as_chunks::<8>().0.iter();
    words
        .map(|word| u128::from(u64::from_ne_bytes(*word)))
        .sum()
}

/// 32-bit words in eight lanes of 64 bits, which need no carry below 2^32 blocks: a shape
/// that compilers turn into vector instructions.
fn sum_lanes(bytes: &[u8]) -> u64 {
    let (blocks, tail) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    // 2^32 is 1 modulo 2^16 - 1: both halves of a word have the same weight.
    let add = |total: Sum, lane: u64| total.add(Sum(lane));
    lanes.into_iter().fold(Sum(sum_words(tail)), add).0
}

/// Fewer than 8 bytes as a word, with zeros behind them.
#[inline]
fn last_word(tail: &[u8]) -> u64 {
    let mut word = 0;
    let mut shift = 0;
    let mut rest = tail;
    if let Some((low, more)) = rest.split_first_chunk::<4>() {
        word = u64::from(u32::from_le_bytes(*low));
        shift = 32;
        rest = more;
    }
    if let Some((low, more)) = rest.split_first_chunk::<2>() {
        word |= u64::from(u16::from_le_bytes(*low)) << shift;
        shift += 16;
        rest = more;
    }
    if let Some(&last) = rest.first() {
        word |= u64::from(last) << shift;
    }
    // Built in little-endian order, wanted in memory order.
    u64::from_le(word)
}

#[cfg(test)]
mod tests;
