//! What the workers tell of themselves.

use super::TunnelWorkers;
use crate::status::{PeerLoss, QueueStatus, TunnelGsoStatus, WorkersStatus};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use weft_dataplane::caps::Cap;
use weft_dataplane::stats::{Count, DropReason, WorkerStats};
use weft_dataplane::sys::port::ReceiveQueue;
use weft_dataplane::worker::tunnel_gso::PeerState;

impl TunnelWorkers {
    /// What they are doing, with what the `fast_path` has counted; of the peers that lost frames so
    /// many are named.
    pub(in crate::backend::tunnel) fn status(
        &self,
        fast_path: &WorkerStats,
        named: usize,
    ) -> WorkersStatus {
        let sums = WorkerStats::default();
        self.workers.stats().for_each(|worker| sums.absorb(worker));
        sums.absorb(fast_path);
        sums.absorb(&self.workers.unseen());
        let counters = Count::ALL.iter();
        let drops = DropReason::ALL.iter();
        let (lost_frames, lost_to) = self.lost(named);
        WorkersStatus {
            engine: self.dataplane.common.engine().name().to_owned(),
            cpus: self.workers.cpus().map(|cpus| cpus.to_string()),
            capabilities: self.grants(),
            tunnel_gso: self.gso(),
            counters: counters
                .map(|&count| (count.name().to_owned(), sums.get(count)))
                .collect(),
            drops: drops
                .map(|&reason| (reason.name().to_owned(), sums.drops(reason)))
                .collect(),
            lost_frames,
            lost_to,
            queues: self.queues(),
        }
    }

    fn grants(&self) -> BTreeMap<String, String> {
        let common = &self.dataplane.common;
        let grant = |cap: Cap| (cap.name().to_owned(), common.grant(cap).name().to_owned());
        Cap::ALL.into_iter().map(grant).collect()
    }

    fn gso(&self) -> TunnelGsoStatus {
        let (mut open, mut blocked) = (0, 0);
        for (_, state) in self.tunnel_gso_peers() {
            open += usize::from(state == PeerState::Open);
            blocked += usize::from(state == PeerState::Blocked);
        }
        TunnelGsoStatus {
            state: self.tunnel_gso().name().to_owned(),
            open,
            blocked,
        }
    }

    /// How many frames could not leave, and the peers that lost most of them.
    fn lost(&self, named: usize) -> (u64, Vec<PeerLoss>) {
        let mut losses: Vec<(IpAddr, u64)> = self.losses();
        let told: u64 = losses.iter().map(|(_, frames)| frames).sum();
        losses.sort_by_key(|&(peer, frames)| (Reverse(frames), peer));
        losses.truncate(named);
        let loss = |(peer, frames)| PeerLoss { peer, frames };
        let lost_to = losses.into_iter().map(loss).collect();
        (told + self.workers.losses().of_others(), lost_to)
    }

    fn queues(&self) -> Vec<QueueStatus> {
        let queues = self.workers.receive_queues();
        let queue = |queue: ReceiveQueue| QueueStatus {
            waiting_bytes: queue.waiting,
            room_bytes: queue.room,
        };
        queues.map(queue).collect()
    }
}
