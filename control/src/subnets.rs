//! Where leases live: subnet managers.

pub mod etcd;
pub mod fixed;
pub mod kube;
mod remote;

use crate::config::{ConfigError, NetworkConfig};
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey, choose};
use crate::status::StoreHealth;
use crate::wire::MacAddr;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// What happened to other nodes' leases.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseEvent {
    /// All leases there are; whoever is not among them is gone.
    Snapshot(Vec<Lease>),
    /// A lease is new or was written again, perhaps with other attributes.
    Put(Lease),
    /// A lease is gone.
    Delete(SubnetKey),
}

/// Why a subnet manager cannot do what it is asked. What can heal by itself, such as a
/// store that does not answer, is waited for instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// The manager's own settings are wrong.
    #[error("{0}")]
    Settings(String),
    /// Nobody has stored a network config.
    #[error(
        "no network config in etcd: key {key} not found; set -etcd-prefix if it is elsewhere, or store one with: {etcdctl} put {key} '{{\"Network\":\"10.5.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}'"
    )]
    NoConfig {
        /// Where it was looked for.
        key: String,
        /// How etcdctl is called for the same servers.
        etcdctl: String,
    },
    /// The stored network config is not text.
    #[error("the network config under {key} is not UTF-8 text")]
    ConfigNotText {
        /// Where it was found.
        key: String,
    },
    /// The subnets file cannot be used.
    #[error("{0}")]
    File(String),
    /// The file with the network config cannot be used.
    #[error("no network config: {path} (-net-config-path) {reason}")]
    ConfigFile {
        /// Where it was looked for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Kubernetes API cannot be asked.
    #[error("{0}")]
    Api(String),
    /// The store wants the node to advertise another address than a lease was asked for with.
    #[error("{by} wants this node to advertise {wanted}")]
    AddressChanged {
        /// What says so.
        by: String,
        /// The address.
        wanted: IpAddr,
    },
    /// Every subnet of the network is leased.
    #[error(
        "out of subnets: every subnet of length {len} between {min} and {max} is leased; enlarge Network or delete leases of nodes that are gone"
    )]
    OutOfSubnets {
        /// First subnet of the range.
        min: IpAddr,
        /// Last subnet of the range.
        max: IpAddr,
        /// Prefix length of a subnet.
        len: u8,
    },
    /// The network config is another than the one that a lease was asked for.
    #[error("the network config has changed meanwhile")]
    ConfigChanged,
    /// Another node has this node's MAC. With another one a lease can be had.
    #[error("MAC {mac} is in the lease {key} of {by}, too")]
    MacTaken {
        /// The MAC of both.
        mac: MacAddr,
        /// The other's public address.
        by: IpAddr,
        /// The other's lease.
        key: SubnetKey,
    },
    /// What another process has handed over is not of this node.
    #[error("what it knew is of no use here: {0}")]
    Inherited(String),
    /// Other nodes were faster each time.
    #[error("lost {0} races for a subnet to other nodes; start again")]
    LostRaces(usize),
}

impl SubnetError {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            SubnetError::Settings(_) => "W0210",
            SubnetError::NoConfig { .. } | SubnetError::ConfigNotText { .. } => "W0211",
            SubnetError::File(_) => "W0218",
            SubnetError::Api(_) => "W1003",
            SubnetError::ConfigFile { .. } => "W1004",
            SubnetError::AddressChanged { .. } => "W1012",
            SubnetError::OutOfSubnets { .. } => "W0213",
            SubnetError::ConfigChanged => "W0220",
            SubnetError::MacTaken { .. } => "W0315",
            SubnetError::Inherited(_) => "W0910",
            SubnetError::LostRaces(_) => "W0214",
        }
    }
}

/// What is known of a network, once it is called as a text that [`SubnetManager::inherit`] reads.
pub type KnowledgeText = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// A store of leases. All futures may be dropped at any time.
pub trait SubnetManager: Send + Sync {
    /// What people call the store, as in "... does not answer".
    fn store(&self) -> &'static str;

    /// The network config as stored.
    fn network_config(&self) -> impl Future<Output = Result<String, SubnetError>> + Send;

    /// The addresses that the store wants this node to advertise, whatever else would be chosen.
    fn advertised(&self) -> impl Future<Output = PerFamily<Option<IpAddr>>> + Send {
        std::future::ready(PerFamily::default())
    }

    /// Whether the store may give a node these subnets under this config.
    fn allows(&self, config: &NetworkConfig, subnets: &SubnetKey) -> bool {
        choose::compatible(config, subnets)
    }

    /// Take a lease: the one this node (its public address) already has, else the `previous`
    /// subnets, else free ones. [`SubnetError::ConfigChanged`] if the stored config differs
    /// from `config` by then, [`SubnetError::MacTaken`] if a MAC of `attrs` is another node's.
    fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> impl Future<Output = Result<Lease, SubnetError>> + Send;

    /// What the store says of the node with the addresses of `attrs`, if it says a MAC: what its
    /// peers know it by.
    fn known(&self, _attrs: &LeaseAttrs) -> impl Future<Output = Option<LeaseAttrs>> + Send {
        std::future::ready(None)
    }

    /// Whether a MAC that is new gives way to the one that the store knows.
    fn knows_macs(&self) -> bool {
        false
    }

    /// Give back a lease that was taken for the first time a moment ago and is of no use. One
    /// that this node had before stays.
    fn release(&self, _lease: &Lease) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Renew the lease `margin` before each end, and take it again if it is lost and still
    /// free, until it is no longer this node's.
    fn keep(&self, lease: Lease, margin: Duration) -> impl Future<Output = LeaseEnd> + Send;

    /// What is known of the network, for the process that takes over; `None` if that one can find
    /// it out as quickly. To be written out on a thread that may take its time.
    fn knowledge(&self) -> Option<KnowledgeText> {
        None
    }

    /// Go by what a process that is taken over from knew, in place of what was remembered, and
    /// without asking the store. The error is one line.
    fn inherit(&self, _knowledge: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// Leave what is on this host's disk to another process, or have it again.
    fn leave_disk(&self, _leave: bool) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// When the own lease ends, each time that [`SubnetManager::keep`] hears of it; `None` of a
    /// reservation. Closed if it never does.
    fn ends(&self) -> watch::Receiver<Option<Instant>> {
        watch::channel(None).1
    }

    /// Send all other nodes' leases, then every change, until the receiver is dropped.
    ///
    /// A malformed key or value is skipped with a warning and never removes a lease.
    fn watch(
        &self,
        own: &Lease,
        events: mpsc::Sender<LeaseEvent>,
    ) -> impl Future<Output = ()> + Send;

    /// When what the node goes by was written down, as long as the store has not confirmed it.
    fn remembered(&self) -> Option<SystemTime> {
        None
    }

    /// How the store has answered so far; `None` if nobody is asked.
    fn health(&self) -> Option<StoreHealth> {
        None
    }

    /// The node ends in order: what is to be known at its next start is put down.
    fn close(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Pause between two looks for a usable network config.
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// Wait for a network config that can be used. Each reason why not is logged once.
pub async fn wait_for_config(manager: &impl SubnetManager) -> NetworkConfig {
    let mut last = String::new();
    loop {
        let (code, reason) = match manager.network_config().await {
            Err(error) => (error.code(), error.to_string()),
            Ok(text) => match NetworkConfig::parse(&text) {
                Ok(config) => {
                    if !last.is_empty() {
                        info!("network config found");
                    }
                    return config;
                }
                Err(error) => (ConfigError::CODE, error.to_string()),
            },
        };
        if reason != last {
            warn!(code, "{reason}; looking again each second");
            last = reason;
        }
        tokio::time::sleep(CONFIG_RETRY).await;
    }
}
