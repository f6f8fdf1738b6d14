//! Leases in etcd v3: the store that flannel uses outside Kubernetes.
//!
//! `<prefix>/config` holds the network config, `<prefix>/subnets/<key>` one lease each,
//! attached to an etcd lease of 24 hours. Every write is a compare-and-swap, so that no
//! node can take away what another holds. An etcd that is down is waited for, for ever.

mod acquire;
pub mod admin;
mod connection;
mod feed;
mod keep;
mod list;
mod once;
mod options;
mod plan;
mod progress;
mod refusal;
mod retry;
mod server;
mod store;
mod tls;
mod verifier;
mod watch;

use super::{LeaseEvent, SubnetError, SubnetManager};
use crate::config::NetworkConfig;
use crate::lease::{Backoff, Lease, LeaseAttrs, LeaseEnd, Previous};
pub use options::{EtcdOptions, Secret};
use std::time::Duration;
use store::Store;
pub(crate) use store::normalised;
use tokio::sync::mpsc;

/// Intervals; the defaults are flannel's where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lives without renewal, in whole seconds.
    pub lease_ttl: Duration,
    /// Pause after a renewal that failed, while the lease lives.
    pub renew_retry: Duration,
    /// How long a server that is asked may be silent; an answer may take longer.
    pub request_timeout: Duration,
    /// Silence after which a server in use is asked for a sign of life; it is given half as
    /// long to answer. etcd closes connections that ask more often than each 5 s.
    pub keep_alive: Duration,
    /// First pause before trying again.
    pub backoff_min: Duration,
    /// Longest pause before trying again; it doubles up to here.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            lease_ttl: Duration::from_secs(86_400),
            renew_retry: Duration::from_secs(60),
            request_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// The pauses while something cannot be done without.
    fn backoff(&self) -> Backoff {
        Backoff::new(self.backoff_min, self.backoff_max)
    }
}

/// The subnet manager on etcd.
pub struct EtcdSubnets {
    store: Store,
    /// How etcdctl is called for the same servers, for hints.
    etcdctl: String,
}

impl EtcdSubnets {
    /// A manager for the servers and keys of `options`. Reads the files named there, and sends
    /// nothing before the first request: the servers need not be up.
    pub fn new(options: &EtcdOptions, timing: Timing) -> Result<EtcdSubnets, SubnetError> {
        Ok(EtcdSubnets {
            store: Store::new(options, timing)?,
            etcdctl: options.etcdctl(),
        })
    }
}

impl SubnetManager for EtcdSubnets {
    async fn network_config(&self) -> Result<String, SubnetError> {
        let key = self.store.config_key();
        match self.store.config().await {
            None => {
                let etcdctl = self.etcdctl.clone();
                Err(SubnetError::NoConfig { key, etcdctl })
            }
            Some(value) => String::from_utf8(value).map_err(|_| SubnetError::ConfigNotText { key }),
        }
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
        keep::keep(&self.store, &lease, margin).await
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        tokio::select! {
            () = events.closed() => {}
            () = watch::watch(&self.store, own, &events) => {}
        }
    }
}
