//! The workers of a device, which are started and stopped as one.

use super::cores::Taken;
use super::holdings::Holdings;
use super::threads::Threads;
use super::tunnel_gso::{PeerState, RedirectState, TunnelGsoGate, TunnelGsoState};
use super::unseen::Unseen;
use crate::mtu::paths::PathMtus;
use crate::stats::WorkerStats;
use crate::stats::losses::PeerLosses;
use crate::sys::affinity::CpuList;
use crate::sys::clock::Clock;
use crate::sys::port::ReceiveQueue;
use crate::sys::udp;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The workers of a device, parked until they may [go](Workers::go). Dropping it stops them.
pub struct Workers {
    pub(super) threads: Threads,
    /// After the threads: their cores are free when they have ended.
    pub(super) taken: Taken,
    pub(super) holdings: Holdings,
    pub(super) unseen: Unseen,
    pub(super) tunnel_gso: Option<Arc<TunnelGsoGate>>,
    pub(super) losses: Arc<PeerLosses>,
    pub(super) paths: Arc<PathMtus>,
    pub(super) clock: Clock,
}

impl Workers {
    /// Let the workers read and send. Until then they have changed nothing that a process with
    /// duplicates of their descriptors could notice.
    pub fn go(&self) {
        self.threads.go();
    }

    /// What the workers work with: its descriptors can be handed to another process while they run,
    /// and that process may begin once they are [halted](Workers::halt).
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Stop the workers, and wait until what they have read has left: others may go on where they
    /// stopped. They still have to give back their memory, which [`Workers::stop`] waits for.
    pub fn halt(&self) {
        self.threads.halt();
    }

    /// Stop the workers and wait for them. What they worked with is given back, so that others can go
    /// on with it.
    pub fn stop(self) -> Holdings {
        drop(self.threads);
        self.holdings
    }

    /// The cores that the workers are pinned to, if they are.
    pub fn cpus(&self) -> Option<CpuList> {
        Some(self.taken.pinned()).filter(|cpus| !cpus.numbers().is_empty())
    }

    /// What is known of tunnel GSO as a whole.
    pub fn tunnel_gso(&self) -> TunnelGsoState {
        let gate = self.tunnel_gso.as_deref();
        gate.map_or(TunnelGsoState::Off, TunnelGsoGate::state)
    }

    /// The peers that super-packets were for of late, and what is known of tunnel GSO to each.
    pub fn tunnel_gso_peers(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.tunnel_gso.iter().flat_map(|gate| gate.peers())
    }

    /// Whether what the TAP receives is redirected past a strict `rp_filter`.
    pub fn tunnel_gso_redirect(&self) -> RedirectState {
        let gate = self.tunnel_gso.as_deref();
        gate.map_or(RedirectState::Unneeded, TunnelGsoGate::redirect)
    }

    /// Name of the TAP for tunnel GSO, if there is one.
    pub fn tap(&self) -> Option<&str> {
        self.tunnel_gso.as_deref().map(TunnelGsoGate::device)
    }

    /// The counters of every worker.
    pub fn stats(&self) -> impl Iterator<Item = &WorkerStats> + Clone {
        self.threads.stats.iter().map(|stats| &**stats)
    }

    /// Have room for datagrams that come while nobody reads them, or as much as ever.
    pub fn make_room(&self, more: bool) {
        self.holdings.port.make_room(more);
    }

    /// Look at the counters of what the kernel drops before the workers: at least once an hour, as they
    /// are short.
    pub fn note_unseen(&self) {
        drop(self.unseen.note());
    }

    /// What the kernel has dropped in the queues before the workers, as counters of another worker.
    pub fn unseen(&self) -> WorkerStats {
        self.unseen.as_stats()
    }

    /// How full the sockets of each worker are.
    pub fn receive_queues(&self) -> impl Iterator<Item = ReceiveQueue> {
        self.holdings.port.queues()
    }

    /// Size in bytes of the send buffers, if they are so small that a peer behind a full queue
    /// can cost others frames.
    pub fn short_send_buffer(&self) -> Option<usize> {
        self.holdings
            .senders
            .iter()
            .find_map(udp::short_send_buffer)
    }

    /// Frames that could not leave, for each peer.
    pub fn losses(&self) -> &PeerLosses {
        &self.losses
    }

    /// What is known of the paths to peers, and the time to ask it by.
    pub fn paths(&self) -> (&PathMtus, u64) {
        (&self.paths, self.clock.now_ms())
    }

    /// Why a worker ended, if one did.
    pub fn failure(&self) -> Option<String> {
        self.threads.failure()
    }
}
