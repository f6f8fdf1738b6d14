//! ICMP errors to those whose packets can go no further, at a limited rate.
//!
//! They are written to the TUN and come from the address that the packet was for, as those of
//! a kernel tunnel do: the kernel takes no packet from a device that claims to come from an
//! address of the node, such as the tunnel's own.

use crate::offload::segment::Segmenter;
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::clock::Clock;
use crate::sys::engine::{EncapIo, HEADROOM, TunPacket};
use crate::wire::icmp::{self, Refused};
use crate::wire::{ipv4, ipv6};

/// Milliseconds between two ICMP errors of one worker, after a burst.
const INTERVAL_MS: u64 = 10;

/// ICMP errors that one worker may send at once: some for each of the flows that meet a
/// smaller path at the same time.
const BURST: u64 = 50;

/// What one encap worker may still send.
pub(super) struct Replies {
    clock: Clock,
    tokens: Tokens,
}

impl Replies {
    pub(super) fn new(clock: Clock) -> Replies {
        Replies {
            clock,
            tokens: Tokens::default(),
        }
    }

    /// The time in milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Send what `build` makes of the IP packet, unless too many were sent of late.
    ///
    /// `build` gets [`icmp::v6::MAX_LEN`] bytes to write to and the offender, and returns the
    /// length of the error.
    pub(super) fn send(
        &mut self,
        io: &mut impl EncapIo,
        packet: TunPacket,
        stats: &WorkerStats,
        build: impl FnOnce(&mut [u8], &[u8]) -> Result<usize, Refused>,
    ) {
        let now = self.now();
        if !self.tokens.has_one(now) {
            stats.add(Count::IcmpLimited, 1);
            return;
        }
        let end = HEADROOM + packet.len;
        let ip = io.parts().1.bytes(packet.buffer).get(HEADROOM..end);
        let mut out = [0; icmp::v6::MAX_LEN];
        // Refused where the RFCs forbid an answer, as to an ICMP error.
        let Ok(len) = build(&mut out, ip.unwrap_or(&[])) else {
            return;
        };
        self.tokens.take_one(now);
        match io.reply(out.get(..len).unwrap_or(&[])) {
            Ok(()) => stats.add(Count::IcmpSent, 1),
            Err(_) => stats.count_drop(DropReason::WriteFailed),
        }
    }
}

/// Write to `out` the ICMP error that tells the sender of the IPv4 packet `ip` that no peer has
/// its destination. Returns the error's length.
pub(super) fn no_route(out: &mut [u8], ip: &[u8]) -> Result<usize, Refused> {
    let offender = ipv4::Packet::header_only(ip).map_err(|_| Refused::NoRoom)?;
    icmp::v4::unreachable(out, offender.dst(), icmp::v4::NET_UNREACHABLE, 0, &offender)
}

/// Write to `out` the ICMP error that tells the sender of `ip` that packets on this path may
/// be `limit` bytes long. Of a super-packet the first segment is quoted, as `segmenter` cuts
/// it. Returns the error's length.
pub(super) fn too_big(
    out: &mut [u8],
    ip: &[u8],
    segmenter: Option<Segmenter>,
    limit: usize,
) -> Result<usize, Refused> {
    let mut first = [0; icmp::v6::MAX_LEN];
    let offender = match segmenter {
        None => ip,
        Some(mut segmenter) => {
            let payload = segmenter.segment(ip, &mut first).ok_or(Refused::NoRoom)?;
            let header_len = segmenter.header_len();
            let room = first.get_mut(header_len..).ok_or(Refused::NoRoom)?;
            let payload = ip.get(payload).ok_or(Refused::NoRoom)?;
            let len = payload.len().min(room.len());
            room[..len].copy_from_slice(&payload[..len]);
            &first[..header_len + len]
        }
    };
    // The header alone is checked: what is quoted may end before the packet does.
    if let Ok(offender) = ipv4::Packet::header_only(offender) {
        let (code, mtu) = (icmp::v4::FRAGMENTATION_NEEDED, limit as u16);
        return icmp::v4::unreachable(out, offender.dst(), code, mtu, &offender);
    }
    let offender = ipv6::Packet::header_only(offender).map_err(|_| Refused::NoRoom)?;
    icmp::v6::packet_too_big(out, offender.dst(), limit as u32, &offender)
}

/// A bucket of tokens that fills at one every [`INTERVAL_MS`] up to [`BURST`].
#[derive(Default)]
struct Tokens {
    /// When it will be full.
    full: u64,
}

impl Tokens {
    fn has_one(&self, now: u64) -> bool {
        self.full <= now + (BURST - 1) * INTERVAL_MS
    }

    fn take_one(&mut self, now: u64) {
        self.full = self.full.max(now) + INTERVAL_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_token_every_interval() {
        let mut tokens = Tokens::default();
        let mut take = |now: u64| {
            let mut taken = 0;
            while tokens.has_one(now) {
                tokens.take_one(now);
                taken += 1;
            }
            taken
        };
        assert_eq!(take(0), BURST);
        let taken = [9, 10, 39, 40, 100_000].map(take);
        assert_eq!(taken, [0, 1, 2, 1, BURST]);
    }
}
