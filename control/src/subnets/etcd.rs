//! Leases in etcd v3: the store that flannel uses outside Kubernetes.
//!
//! `<prefix>/config` holds the network config, `<prefix>/subnets/<key>` one lease each,
//! attached to an etcd lease of 24 hours. Every write is a compare-and-swap, so that no
//! node can take away what another holds. An etcd that is down is waited for, for ever.

mod acquire;
pub mod admin;
mod client;
mod keep;
mod lease_plan;
mod options;
mod store;
mod timing;
mod watch;

use super::{LeaseEvent, SubnetError, SubnetManager};
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous};
use crate::status::StoreHealth;
use client::insist;
pub use options::{EtcdOptions, Secret};
use std::time::{Duration, Instant};
use store::Store;
pub(crate) use store::normalised;
pub use timing::Timing;
use tokio::sync::mpsc;
use tokio::sync::watch::{Receiver, Sender};

/// The subnet manager on etcd.
pub struct EtcdSubnets {
    store: Store,
    /// When the lease that is kept ends.
    ends: Sender<Option<Instant>>,
}

impl EtcdSubnets {
    /// A manager for the servers and keys of `options`. Reads the files named there, and sends
    /// nothing before the first request: the servers need not be up.
    pub fn new(options: &EtcdOptions, timing: Timing) -> Result<EtcdSubnets, SubnetError> {
        Ok(EtcdSubnets {
            store: Store::new(options, timing)?,
            ends: Sender::new(None),
        })
    }
}

impl SubnetManager for EtcdSubnets {
    fn store(&self) -> &'static str {
        "etcd"
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        let stored = insist(self.store.timing().retry(), || self.store.config()).await;
        let text = String::from_utf8(stored.ok_or_else(|| self.store.no_config())?);
        let key = self.store.config_key();
        text.map_err(|_| SubnetError::ConfigNotText { key })
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        acquire::acquire(&self.store, config, attrs, previous).await
    }

    async fn known(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        acquire::known(&self.store, attrs).await
    }

    async fn release(&self, lease: &Lease) {
        // A failure does no harm: the lease times out, and a start from the same address finds it.
        let _ = acquire::release(&self.store, lease).await;
    }

    async fn keep(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        keep::keep(&self.store, &lease, margin, &self.ends).await
    }

    fn ends(&self) -> Receiver<Option<Instant>> {
        self.ends.subscribe()
    }

    fn health(&self) -> Option<StoreHealth> {
        Some(self.store.health())
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        tokio::select! {
            () = events.closed() => {}
            () = watch::watch(&self.store, own, &events) => {}
        }
    }
}
