//! Byte-level views and builders.
//!
//! A view wraps bytes (`T: AsRef<[u8]>`) and checks every length once, in `new`. After
//! that no accessor panics, whatever the bytes say: a field that a later write has moved
//! out of the buffer reads as zero, a slice is cut at the buffer's end. Setters need
//! `T: AsMut<[u8]>` too. `header_only` constructors skip the checks that concern the
//! payload, for headers that lie apart from it.
//!
//! All multi-byte values are in host order.

pub mod checksum;
pub mod ecn;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;
pub mod vxlan;

/// Why bytes are not what they were taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The buffer ends before the fixed part of the header does.
    #[error("shorter than its fixed header")]
    Truncated,
    /// The IP version field is not the expected one.
    #[error("wrong IP version")]
    Version,
    /// The header length field is below the minimum or beyond the buffer.
    #[error("header length field out of range")]
    HeaderLength,
    /// The length field is shorter than the header or longer than the buffer.
    #[error("length field out of range")]
    Length,
}

/// `N` bytes from `at`; zeros when they are not all there.
#[inline(always)]
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        Some(chunk) => *chunk,
        None => [0; N],
    }
}

#[inline(always)]
fn take_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(take(bytes, at))
}

#[inline(always)]
fn take_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(take(bytes, at))
}

/// Overwrite the `N` bytes from `at`; nothing when they are not all there.
#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(chunk) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<N>())
    {
        *chunk = value;
    }
}

#[inline(always)]
fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, value.to_be_bytes());
}

#[inline(always)]
fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, value.to_be_bytes());
}

/// `bytes[from..to]`, cut at the end of the buffer and empty when `from` lies beyond it.
#[inline(always)]
fn between(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to.min(bytes.len())).unwrap_or(&[])
}

/// As [`between`], writable.
#[inline(always)]
fn between_mut(bytes: &mut [u8], from: usize, to: usize) -> &mut [u8] {
    let to = to.min(bytes.len());
    bytes.get_mut(from..to).unwrap_or(&mut [])
}

#[cfg(test)]
mod tests;
