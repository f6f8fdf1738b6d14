//! What is done about sends that the kernel refuses; docs/packet.md has it as a table.

use super::clock::Clock;
use super::path::PathProbe;
use crate::caps::Caps;
use crate::offload::plan::{Send, SendPlan, Via};
use crate::stats::losses::PeerLosses;
use crate::stats::{Count, DropReason, WorkerStats};
use std::sync::Arc;

/// Most frames of a train before Linux 6.9, whoever it is for.
pub(super) const OLD_MAX_FRAMES: u16 = 64;

/// How often one send is tried again. An error that ICMP left at the socket is gone once it has
/// been told, but another may have come.
const TRIES: u8 = 3;

/// What to do next about a refused send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: its frames are lost, and counted.
    Dropped,
    /// Send its frames one by one.
    Singly,
    /// Send it again as it is.
    Again,
}

/// What an encap worker does about refusals, and where it counts them.
pub struct Refusals {
    paths: PathProbe,
    losses: Arc<PeerLosses>,
    /// What all workers know of them.
    caps: Arc<Caps>,
    clock: Clock,
    pub(super) stats: Arc<WorkerStats>,
}

impl Refusals {
    /// `paths` learns MTUs, and `caps` which trains the kernel takes; what is lost is counted in
    /// `stats`, and in `losses` for each peer.
    pub fn new(
        paths: PathProbe,
        losses: Arc<PeerLosses>,
        caps: Arc<Caps>,
        clock: Clock,
        stats: Arc<WorkerStats>,
    ) -> Refusals {
        Refusals {
            paths,
            losses,
            caps,
            clock,
            stats,
        }
    }

    /// Whether the frames of this train must go one by one.
    pub(super) fn goes_singly(&self, send: &Send) -> bool {
        debug_assert_eq!(send.via, Via::Socket);
        let trains = &self.caps.trains;
        send.frames > 1 && trains.are_refused_by(send.to.ip(), || self.clock.now_ms())
    }

    /// Have later plans hold no longer trains than the kernel takes.
    pub(super) fn limit(&self, plan: &mut SendPlan) {
        plan.limit_frames(self.caps.trains.max_frames());
    }

    /// What to do about a send that the kernel refused with `errno` after `tries` other refusals
    /// of it.
    pub(super) fn verdict(&mut self, send: &Send, errno: i32, tries: u8) -> Verdict {
        if send.frames == 1 {
            return self.verdict_of_frame(send, errno, tries);
        }
        if passes(errno, tries) {
            return Verdict::Again;
        }
        if matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE) {
            return Verdict::Singly;
        }
        self.lost(send, send.frames, errno);
        Verdict::Dropped
    }

    /// The same for a frame that is sent alone.
    pub(super) fn verdict_of_frame(&mut self, send: &Send, errno: i32, tries: u8) -> Verdict {
        // ICMP leaves this at a socket, too: then it is about another peer.
        let of_another = errno == libc::EMSGSIZE && !self.is_too_long(send) && tries < TRIES;
        if of_another || passes(errno, tries) {
            return Verdict::Again;
        }
        self.lost(send, 1, errno);
        Verdict::Dropped
    }

    fn is_too_long(&mut self, send: &Send) -> bool {
        let longest = usize::from(send.stride);
        self.paths.is_too_long(send.to, longest, &self.stats)
    }

    /// Draw the lesson from a train that the kernel refused with `errno`, while it took its frames
    /// one by one.
    pub(super) fn note_train(&mut self, send: &Send, errno: i32) {
        let may_be_long = matches!(errno, libc::EMSGSIZE | libc::EINVAL);
        if may_be_long && self.is_too_long(send) || errno == libc::EMSGSIZE {
            return;
        }
        let trains = &self.caps.trains;
        let is_new = match errno == libc::EINVAL && send.frames > OLD_MAX_FRAMES {
            true => trains.limit(OLD_MAX_FRAMES),
            false => trains.note(send.to.ip(), self.clock.now_ms()),
        };
        self.stats.add(Count::Downgrades, u64::from(is_new));
    }

    /// Count `frames` frames of a send that are lost.
    pub(super) fn lost(&self, send: &Send, frames: u16, errno: i32) {
        let reason = match errno {
            libc::EAGAIN | libc::ENOBUFS => DropReason::QueueFull,
            _ => DropReason::SendFailed,
        };
        self.stats.count_drops(reason, u64::from(frames));
        self.losses.count(send.to.ip(), u64::from(frames));
    }
}

/// Whether a send that was refused with `errno`, and `tries` times before, may fare better at
/// once.
fn passes(errno: i32, tries: u8) -> bool {
    tries < TRIES && (errno == libc::EINTR || is_of_icmp(errno))
}

/// Whether a socket fails with this because of an ICMP message about an earlier datagram,
/// perhaps to another peer (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in
/// net/ipv6/icmp.c), though some of them may be meant for the send itself.
pub(super) fn is_of_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
            | libc::ECONNREFUSED
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
            | libc::EACCES
    )
}

#[cfg(test)]
pub(super) mod tests;
