//! What the node tells of itself to who asks.

use crate::backend::Backend;
use crate::hand_over::Tally;
use crate::http::Readiness;
use crate::lease::Lease;
use crate::status::{HandOverStatus, LeaseStatus, NodeStatus, StoreStatus};
use crate::subnets::SubnetManager;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What of it only the store's keeper knows.
pub(super) struct Reporter {
    /// Peers that are named of those that lose frames.
    named: usize,
    /// When the lease ends as far as is known, and where that is told.
    expires: Option<Instant>,
    ends: watch::Receiver<Option<Instant>>,
}

impl Reporter {
    /// For a node that begins with a lease that ends then.
    pub(super) fn new(
        named: usize,
        expires: Option<Instant>,
        manager: &impl SubnetManager,
    ) -> Reporter {
        Reporter {
            named,
            expires,
            ends: manager.ends(),
        }
    }

    /// What the node with this lease and backend is doing.
    pub(super) fn status(
        &mut self,
        (lease, backend): (&Lease, &Backend),
        manager: &impl SubnetManager,
        readiness: &Readiness,
        tally: &Tally,
    ) -> NodeStatus {
        if let Ok(true) = self.ends.has_changed() {
            self.expires = *self.ends.borrow_and_update();
        }
        let started = readiness.since();
        let seconds = |time: SystemTime| time.elapsed().unwrap_or_default().as_secs();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: started
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            uptime_seconds: seconds(started),
            ready: readiness.get(),
            lease: LeaseStatus {
                subnets: lease.subnets().collect(),
                public: backend.host().underlay.public.present().collect(),
                seconds_left: self.expires.map(|end| {
                    let left = end.saturating_duration_since(Instant::now());
                    left.as_secs()
                }),
            },
            underlay: backend.underlay(),
            backend: lease.attrs.backend_type.clone(),
            mtu: backend.mtu(),
            networks: backend.networks().collect(),
            peers: backend.peers(),
            store: StoreStatus {
                name: manager.store().to_owned(),
                remembered_seconds: manager.remembered().map(seconds),
                health: manager.health(),
            },
            hand_overs: HandOverStatus {
                from_agents: tally.from_agents,
                from_store: tally.from_store,
                refused: tally.refused,
                waited_seconds: tally.waited.map(|waited| waited as f64 / 1e9),
            },
            tunnels: backend.tunnel_status(self.named),
        }
    }
}
