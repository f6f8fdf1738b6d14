//! What is done about sends that the kernel refuses; docs/packet.md has it as a table.

use super::clock::Clock;
use super::path::PathProbe;
use crate::offload::plan::{Send, SendPlan, Via};
use crate::stats::losses::PeerLosses;
use crate::stats::{Count, DropReason, WorkerStats};
use std::net::IpAddr;
use std::sync::Arc;

/// For how long the trains of a peer go frame by frame after one was refused, at first. What
/// refused it may be gone: a route changes, a device is replaced.
const SINGLY_MS: u64 = 60_000;

/// The same in the end: it doubles with each refusal.
const SINGLY_MAX_MS: u64 = 64 * SINGLY_MS;

/// Peers that are told apart. If more of them refuse trains, it is hardly the peers' doing.
const SINGLY_PEERS: usize = 64;

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

/// Peers whose trains go frame by frame.
struct NoTrains {
    peers: [Option<NoTrain>; SINGLY_PEERS],
    /// All peers' trains do until then.
    all_until: u64,
    /// When the last peer may have trains again, in milliseconds; 0 if none was ever refused.
    until: u64,
}

#[derive(Clone, Copy)]
struct NoTrain {
    peer: IpAddr,
    until: u64,
    time: u64,
}

impl NoTrains {
    fn new() -> NoTrains {
        NoTrains {
            peers: [None; SINGLY_PEERS],
            all_until: 0,
            until: 0,
        }
    }

    fn has(&self, peer: IpAddr, now: impl FnOnce() -> u64) -> bool {
        if self.until == 0 {
            return false;
        }
        let now = now();
        let mut peers = self.peers.iter().flatten();
        let of_peer = |entry: &NoTrain| entry.peer == peer && now < entry.until;
        now < self.until && (now < self.all_until || peers.any(of_peer))
    }

    /// Note that a train to a peer was refused; whether it was allowed any.
    fn note(&mut self, peer: IpAddr, now: u64) -> bool {
        let own = |slot: &Option<NoTrain>| slot.is_some_and(|old| old.peer == peer);
        let free = |slot: &Option<NoTrain>| slot.is_none_or(|old| old.until <= now);
        let peers = &self.peers;
        let found = peers
            .iter()
            .position(own)
            .or_else(|| peers.iter().position(free));
        let Some(slot) = found.map(|index| &mut self.peers[index]) else {
            self.peers = [None; SINGLY_PEERS];
            self.all_until = now + SINGLY_MS;
            self.until = self.until.max(self.all_until);
            return true;
        };
        let (news, time) = match slot {
            Some(old) if now < old.until => (false, old.time),
            Some(old) if old.peer == peer => (true, (old.time * 2).min(SINGLY_MAX_MS)),
            _ => (true, SINGLY_MS),
        };
        let until = now + time;
        *slot = Some(NoTrain { peer, until, time });
        self.until = self.until.max(until);
        news
    }
}

/// What one encap worker knows of refusals, and where it counts them.
pub struct Refusals {
    paths: PathProbe,
    losses: Arc<PeerLosses>,
    no_trains: NoTrains,
    clock: Clock,
    pub(super) stats: Arc<WorkerStats>,
}

impl Refusals {
    /// `paths` learns MTUs; what is lost is counted in `stats`, and in `losses` for each peer.
    pub fn new(
        paths: PathProbe,
        losses: Arc<PeerLosses>,
        clock: Clock,
        stats: Arc<WorkerStats>,
    ) -> Refusals {
        Refusals {
            paths,
            losses,
            no_trains: NoTrains::new(),
            clock,
            stats,
        }
    }

    /// Whether the frames of this train must go one by one.
    pub(super) fn goes_singly(&self, send: &Send) -> bool {
        debug_assert_eq!(send.via, Via::Socket);
        send.frames > 1 && self.no_trains.has(send.to.ip(), || self.clock.now_ms())
    }

    /// What to do about a send that the kernel refused with `errno` after `tries` other refusals
    /// of it.
    pub(super) fn judge(&mut self, send: &Send, errno: i32, tries: u8) -> Verdict {
        if send.frames == 1 {
            return self.judge_frame(send, errno, tries);
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
    pub(super) fn judge_frame(&mut self, send: &Send, errno: i32, tries: u8) -> Verdict {
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

    /// Draw the lesson from train `index` of `plan`, which the kernel refused with `errno`, while
    /// it took its frames one by one.
    pub(super) fn note_train(&mut self, plan: &mut SendPlan, index: usize, errno: i32) {
        let send = &plan.sends()[index];
        let may_be_long = matches!(errno, libc::EMSGSIZE | libc::EINVAL);
        if may_be_long && self.is_too_long(send) || errno == libc::EMSGSIZE {
            return;
        }
        let (peer, too_many) = (send.to.ip(), errno == libc::EINVAL && send.frames > 64);
        // Says the kernel before Linux 6.9, whoever the train is for.
        if too_many {
            plan.limit_frames(64);
        }
        if too_many || self.no_trains.note(peer, self.clock.now_ms()) {
            self.stats.add(Count::Downgrades, 1);
        }
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
