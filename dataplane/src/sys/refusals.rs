//! What is done about sends that the kernel refuses.
//!
//! | the kernel says | why | what becomes of the send |
//! |---|---|---|
//! | `EAGAIN`, `ENOBUFS` | socket or queue of the device is full | dropped, for its peer alone |
//! | `EMSGSIZE` | longer than the path's MTU | the MTU is learned; frames of a train go singly, since IP fragments single datagrams only |
//! | `EIO` for a train | no checksum offload for it on the way | its frames go singly, and so do that peer's trains for a while |
//! | `EINVAL` for a train | UDP GSO unknown, 64 segments at most (before Linux 6.9), or `EMSGSIZE` on older kernels | the same |
//! | what ICMP makes of a socket | a router or peer complained of an earlier send | sent again |
//! | anything else | | dropped |

use super::clock::Clock;
use super::path::PathProbe;
use crate::offload::plan::{Send, SendPlan};
use crate::stats::losses::PeerLosses;
use crate::stats::{Count, Drop as Reason, WorkerStats};
use std::net::IpAddr;
use std::sync::Arc;

/// For how long the trains of a peer go frame by frame after one was refused. What refused it
/// may be gone: a route changes, a device is replaced.
const SINGLY_MS: u64 = 60_000;

/// Peers whose trains go frame by frame at a time; of more, the oldest is tried again early.
const SINGLY_PEERS: usize = 16;

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
#[derive(Default)]
struct NoTrains {
    peers: [Option<(IpAddr, u64)>; SINGLY_PEERS],
    /// When the last of them may have trains again, in milliseconds.
    until: u64,
}

impl NoTrains {
    fn has(&self, peer: IpAddr, now: impl FnOnce() -> u64) -> bool {
        if self.until == 0 {
            return false;
        }
        let now = now();
        let mut peers = self.peers.iter().flatten();
        now < self.until && peers.any(|&(other, until)| other == peer && now < until)
    }

    /// Note a peer; `false` if it was noted already.
    fn note(&mut self, peer: IpAddr, now: u64) -> bool {
        self.until = now + SINGLY_MS;
        let entry = (peer, self.until);
        let known = self.peers.iter_mut().flatten().find(|(p, _)| *p == peer);
        if let Some(known) = known {
            let news = known.1 <= now;
            *known = entry;
            return news;
        }
        let oldest = self.peers.iter_mut();
        if let Some(slot) = oldest.min_by_key(|slot| slot.map_or(0, |(_, until)| until)) {
            *slot = Some(entry);
        }
        true
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
            no_trains: NoTrains::default(),
            clock,
            stats,
        }
    }

    /// Whether the frames of this train must go one by one.
    pub(super) fn goes_singly(&self, send: &Send) -> bool {
        send.frames > 1 && self.no_trains.has(send.to.ip(), || self.clock.now_ms())
    }

    /// Draw the lesson from send `index` of `plan`, which the kernel refused with `errno` after
    /// `tries` other refusals of it.
    pub(super) fn judge(
        &mut self,
        plan: &mut SendPlan,
        index: usize,
        errno: i32,
        tries: u8,
    ) -> Verdict {
        let send = &plan.sends()[index];
        let (frames, stride) = (send.frames, usize::from(send.stride));
        let may_be_long = errno == libc::EMSGSIZE || errno == libc::EINVAL && frames > 1;
        let too_long = may_be_long && self.paths.is_too_long(send.to, stride, &self.stats);
        // With DF on outer packets ICMP leaves this, too.
        let of_another = errno == libc::EMSGSIZE && !too_long && frames == 1 && tries < TRIES;
        if of_another || self.passes(errno, tries) {
            return Verdict::Again;
        }
        if frames == 1 || !matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE) {
            self.lost(send, frames, errno);
            return Verdict::Dropped;
        }
        if errno != libc::EMSGSIZE && !too_long {
            self.refused_train(plan, index, errno);
        }
        Verdict::Singly
    }

    /// Whether a send that was refused with `errno`, and `tries` times before, may fare better
    /// at once.
    pub(super) fn passes(&self, errno: i32, tries: u8) -> bool {
        tries < TRIES && (errno == libc::EINTR || is_of_icmp(errno))
    }

    /// A train was refused for being one.
    fn refused_train(&mut self, plan: &mut SendPlan, index: usize, errno: i32) {
        let send = &plan.sends()[index];
        // Says the kernel before Linux 6.9, whoever the train is for.
        if errno == libc::EINVAL && send.frames > 64 {
            plan.limit_frames(64);
            self.stats.add(Count::Downgrades, 1);
        } else if self.no_trains.note(send.to.ip(), self.clock.now_ms()) {
            self.stats.add(Count::Downgrades, 1);
        }
    }

    /// Count `frames` frames of a send that are lost.
    pub(super) fn lost(&self, send: &Send, frames: u16, errno: i32) {
        let reason = match errno {
            libc::EAGAIN | libc::ENOBUFS => Reason::QueueFull,
            _ => Reason::SendFailed,
        };
        self.stats.count_drops(reason, u64::from(frames));
        self.losses.count(send.to.ip(), u64::from(frames));
    }
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
