//! How far packets merge.

use super::inspect::Protocol;

/// TCP segments that one write may carry.
pub const MAX_TCP_SEGMENTS: u16 = 64;

/// UDP segments that one write may carry (`UDP_MAX_SEGMENTS`).
pub const MAX_UDP_SEGMENTS: u16 = 128;

/// The same before Linux 6.9.
pub(super) const OLD_UDP_SEGMENTS: u16 = 64;

/// Pieces of one write: a header and as many segments.
pub const MAX_WRITE_PIECES: usize = 1 + MAX_UDP_SEGMENTS as usize;

/// How far to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// MTU of the TUN in bytes. A longer packet was a super-packet already.
    pub mtu: usize,
    /// The smallest MTU behind the TUN, in bytes, which the segments of a super-packet must
    /// fit whose own size is lost.
    pub pod_mtu: usize,
    /// TCP segments a write, at most [`MAX_TCP_SEGMENTS`]; 1 turns merging off.
    pub tcp_segments: u16,
    /// UDP segments a write, at most [`MAX_UDP_SEGMENTS`]; 1 turns merging off.
    pub udp_segments: u16,
}

impl Limits {
    /// As far as Linux 6.9 and later allow on a TUN of this MTU; earlier ones refuse writes
    /// of more than 64 UDP segments.
    pub fn new(mtu: usize) -> Limits {
        Limits {
            mtu,
            pod_mtu: mtu,
            tcp_segments: MAX_TCP_SEGMENTS,
            udp_segments: MAX_UDP_SEGMENTS,
        }
    }

    pub(super) fn segments(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Tcp => self.tcp_segments.min(MAX_TCP_SEGMENTS),
            Protocol::Udp => self.udp_segments.min(MAX_UDP_SEGMENTS),
        }
    }
}
