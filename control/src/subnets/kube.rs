//! Leases in the Kubernetes API: what flannel goes by in a cluster.
//!
//! The cluster gives each node its subnets (`spec.podCIDRs`), and each node writes as annotations of
//! its own Node how the others reach it. So there is nothing to allocate and nothing to renew; an
//! API server that is away is waited for, for ever. The network config is a file.

mod acquire;
mod annotations;
#[cfg(feature = "fuzzing")]
pub mod check;
mod client;
mod condition;
mod config_file;
mod event;
mod feed;
mod identity;
mod keep;
mod known;
mod leave;
mod node;
mod options;
mod own;
mod pod_cidrs;
mod prefix;
mod split;
mod timing;

use super::{LeaseEvent, SubnetError, SubnetManager};
use crate::config::NetworkConfig;
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey};
use crate::status::StoreHealth;
use crate::text::shown;
use client::ApiConnection;
use feed::NodeFeed;
use identity::Awaited;
use known::KnownNodes;
pub use leave::leave;
use node::NodeState;
pub use options::{KubeOptions, NodeRef};
use own::OwnNode;
pub use prefix::AnnotationPrefix;
use std::net::IpAddr;
use std::time::Duration;
pub use timing::KubeTiming;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::warn;

/// A backend for which nobody follows the other nodes: the cloud routes their packets.
const WATCHES_NOTHING: &str = "alloc";

/// The subnet manager on the Kubernetes API.
pub struct KubeSubnets {
    connection: ApiConnection,
    options: KubeOptions,
    /// The name of the own node, once it is known.
    name: OnceCell<String>,
    own: watch::Sender<OwnNode>,
}

impl KubeSubnets {
    /// A manager for the cluster of `options`. Reads the files named there, and sends nothing before
    /// the first request: the API server need not be up. Must be called inside a tokio runtime.
    pub fn new(options: &KubeOptions, timing: KubeTiming) -> Result<KubeSubnets, SubnetError> {
        identity::check(&options.node)?;
        Ok(KubeSubnets {
            connection: ApiConnection::new(options, timing)?,
            options: options.clone(),
            name: OnceCell::new(),
            own: watch::Sender::default(),
        })
    }

    /// The name of the own node; waits for it.
    async fn node_name(&self) -> &str {
        let ask = || identity::name(&self.connection, &self.options.node);
        self.name.get_or_init(ask).await
    }

    /// The network config as it is in the file now, if it can be used.
    async fn config(&self) -> Option<NetworkConfig> {
        let text = self.network_config().await.ok()?;
        NetworkConfig::parse(&text).ok()
    }

    /// Whether the file holds another config by now. One that is gone or cannot be used does not
    /// count: the node has a good one.
    async fn is_outdated(&self, config: &NetworkConfig) -> bool {
        self.config().await.is_some_and(|now| now != *config)
    }

    /// The own node as it is now, if the cluster has it and answers.
    async fn own_node(&self) -> Option<NodeState> {
        let name = self.node_name().await;
        let answer = identity::object(&self.connection, name).await.ok()??;
        NodeState::read(&answer, &self.options.prefix).ok()
    }

    /// Wait until the own node is seen; at once if nobody looks.
    async fn wait_until_there(&self, own: &mut watch::Receiver<OwnNode>) {
        let watches_nothing = self.watches_nothing().await;
        if !watches_nothing {
            // The sender lives as long as this.
            let _ = own.wait_for(|node| matches!(node, OwnNode::There(_))).await;
        }
    }

    async fn watches_nothing(&self) -> bool {
        let config = self.config().await;
        config.is_some_and(|config| config.backend.kind == WATCHES_NOTHING)
    }
}

impl SubnetManager for KubeSubnets {
    fn store(&self) -> &'static str {
        client::STORE
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        let path = self.options.net_config.clone();
        let read = spawn_blocking(move || config_file::read(&path)).await;
        read.unwrap_or_else(|error| {
            Err(SubnetError::ConfigFile {
                path: self.options.net_config.display().to_string(),
                reason: error.to_string(),
            })
        })
    }

    async fn advertised(&self) -> PerFamily<Option<IpAddr>> {
        let name = self.node_name().await;
        let prefix = &self.options.prefix;
        let node = identity::node(&self.connection, name, prefix, &mut Awaited::default()).await;
        let (told, wrong) = node.annotations.node_public();
        for reason in wrong {
            warn!(
                code = "W1006",
                "node {}: {}{reason}; it is not used",
                shown(name),
                prefix.as_str()
            );
        }
        told
    }

    /// Any subnets inside of the network: the cluster decides.
    fn allows(&self, config: &NetworkConfig, subnets: &SubnetKey) -> bool {
        pod_cidrs::misfit(&pod_cidrs::of_key(subnets), config).is_none()
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        _previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        acquire::acquire(self, config, attrs).await
    }

    async fn known(&self, _attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let node = self.own_node().await?;
        node.annotations
            .attrs(PerFamily { v4: true, v6: true })
            .ok()?
    }

    fn knows_macs(&self) -> bool {
        true
    }

    async fn keep(&self, lease: Lease, _margin: Duration) -> LeaseEnd {
        keep::keep(self, &lease).await
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        if self.watches_nothing().await {
            let _ = events.send(LeaseEvent::Snapshot(Vec::new())).await;
            return events.closed().await;
        }
        let families = match self.config().await {
            Some(config) => config.ranges.is_some(),
            None => PerFamily { v4: true, v6: true },
        };
        let known = KnownNodes::new(own, families);
        let follow = async {
            let identity = (&self.options.prefix, self.node_name().await);
            NodeFeed::new(&self.connection, identity, &self.own, known, &events)
                .run()
                .await;
        };
        tokio::select! {
            () = events.closed() => {}
            () = follow => {}
        }
    }

    fn health(&self) -> Option<StoreHealth> {
        Some(self.connection.health())
    }
}

#[cfg(test)]
mod tests;
