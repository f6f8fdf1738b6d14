//! Leases in a file: for labs, links of two nodes and first tries, without etcd.
//!
//! The file, JSON or TOML by its name, holds the network config and one lease for each node,
//! with the keys that both have in etcd. Every node has a copy of it. A node's own lease is the
//! one with its address, leases never expire, and who edits the file is who decides:
//!
//! ```toml
//! [config]
//! Network = "10.5.0.0/16"
//! Backend = { Type = "vxlan" }
//!
//! [[leases]]
//! Subnet = "10.5.1.0/24"
//! PublicIP = "192.0.2.1"
//!
//! [[leases]]
//! Subnet = "10.5.2.0/24"
//! PublicIP = "192.0.2.2"
//! ```
//!
//! `BackendType` is that of the config where it is not given, and vxlan nodes without a
//! `BackendData` with a `VtepMAC` get a MAC that every node derives alike from `PublicIP`
//! (or, without IPv4, from `PublicIPv6`).
//!
//! A file that cannot be read, or any entry that breaks a rule, leaves everything as it was.

mod file;
mod peers;
mod poll;

use super::{LeaseEvent, SubnetError, SubnetManager};
use crate::config::NetworkConfig;
use crate::host::iface::{Local, first_local};
use crate::host::netlink::Netlink;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey};
use file::Format;
use peers::Peers;
use poll::State;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// The most changes that are told one by one: each further one may cost the receiver a new
/// table, where a snapshot costs one.
const CHANGES_MAX: usize = 256;

/// The subnet manager on a file.
pub struct FixedSubnets {
    path: PathBuf,
    state: watch::Receiver<State>,
}

impl FixedSubnets {
    /// A manager for the file at `path`, which need not be there yet. Reads it in the background
    /// and follows it until the manager is dropped; must be called inside a tokio runtime.
    pub fn new(path: PathBuf) -> Result<FixedSubnets, SubnetError> {
        let format = Format::of(&path).ok_or_else(|| {
            let path = path.display();
            let rule = "the name of a subnets file must end in .toml or .json";
            SubnetError::Settings(format!("{path}: {rule}"))
        })?;
        let (sender, state) = watch::channel(State::default());
        tokio::spawn(poll::run(path.clone(), format, sender));
        Ok(FixedSubnets { path, state })
    }
}

/// Whether the name of a subnets file says how it is written.
pub fn has_format(path: &Path) -> bool {
    Format::of(path).is_some()
}

/// What is wrong with the text of a subnets file, read as TOML and as JSON.
pub(crate) fn check(text: &str) -> [Result<(), String>; 2] {
    [Format::Toml, Format::Json].map(|format| Peers::parse(text, format).map(drop))
}

/// A view of the file that waits for changes.
struct Follow(watch::Receiver<State>);

impl Follow {
    /// The last good content; waits for the first.
    async fn peers(&mut self) -> Arc<Peers> {
        loop {
            let peers = self.0.borrow_and_update().peers.clone();
            match peers {
                Some(peers) => return peers,
                None => self.change().await,
            }
        }
    }

    async fn change(&mut self) {
        if self.0.changed().await.is_err() {
            // The runtime is going down.
            std::future::pending::<()>().await;
        }
    }
}

impl SubnetManager for FixedSubnets {
    async fn network_config(&self) -> Result<String, SubnetError> {
        let mut follow = Follow(self.state.clone());
        loop {
            let state = follow.0.borrow_and_update().clone();
            match (state.peers, state.problem) {
                (Some(peers), _) => return Ok(peers.text.clone()),
                (None, Some(problem)) => return Err(SubnetError::File(problem)),
                // The first look is not over.
                (None, None) => follow.change().await,
            }
        }
    }

    /// The lease with this node's address; waits, with one line that shows what to add, until
    /// there is one.
    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        _previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        let path = self.path.display();
        let mut follow = Follow(self.state.clone());
        let mut last = String::new();
        loop {
            let peers = follow.peers().await;
            if peers.config != *config {
                return Err(SubnetError::ConfigChanged);
            }
            if let Some(lease) = peers.lease_of(attrs) {
                return Ok(lease.clone());
            }
            let missing = match own_other(&peers).await {
                Some(local) => peers.elsewhere(attrs, &local),
                None => peers.missing(attrs),
            };
            if missing != last {
                warn!("{path} holds {missing}; waiting for it");
                last = missing;
            }
            follow.change().await;
        }
    }

    async fn known(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let peers = self.state.borrow().peers.clone()?;
        peers.lease_of(attrs).map(|lease| lease.attrs.clone())
    }

    async fn keep(&self, lease: Lease, _margin: Duration) -> LeaseEnd {
        let mut follow = Follow(self.state.clone());
        loop {
            if let Some(end) = follow.peers().await.end_of(&lease) {
                return end;
            }
            follow.change().await;
        }
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        tokio::select! {
            () = events.closed() => {}
            () = send_changes(Follow(self.state.clone()), own, &events) => {}
        }
    }
}

/// An address of this host that the file has a lease for, though it has none for the one that
/// was chosen.
async fn own_other(peers: &Peers) -> Option<Local> {
    let addrs = peers.leases().iter().map(|lease| lease.attrs.identity());
    let netlink = Netlink::connect().ok()?;
    first_local(&netlink, addrs).await.ok().flatten()
}

/// Send all other leases, then what changes about them, until nobody listens.
async fn send_changes(mut follow: Follow, own: &Lease, events: &mpsc::Sender<LeaseEvent>) {
    let others = |peers: &Peers| -> BTreeMap<SubnetKey, Lease> {
        let leases = peers.leases().iter();
        let others = leases.filter(|lease| !lease.attrs.same_node(&own.attrs));
        others.map(|lease| (lease.key(), lease.clone())).collect()
    };
    let mut known = others(&*follow.peers().await);
    let snapshot = known.values().cloned().collect();
    let mut news = vec![LeaseEvent::Snapshot(snapshot)];
    loop {
        for event in news {
            if events.send(event).await.is_err() {
                return;
            }
        }
        follow.change().await;
        let now = others(&*follow.peers().await);
        news = changes(&known, &now);
        known = now;
    }
}

/// What leads from one set of leases to another.
fn changes(
    before: &BTreeMap<SubnetKey, Lease>,
    after: &BTreeMap<SubnetKey, Lease>,
) -> Vec<LeaseEvent> {
    let gone = before.keys().filter(|key| !after.contains_key(key));
    let gone = gone.map(|key| LeaseEvent::Delete(*key));
    let new = after
        .iter()
        .filter(|(key, lease)| before.get(key) != Some(lease));
    let new = new.map(|(_, lease)| LeaseEvent::Put(lease.clone()));
    let changes: Vec<LeaseEvent> = gone.chain(new).collect();
    match changes.len() > CHANGES_MAX {
        true => vec![LeaseEvent::Snapshot(after.values().cloned().collect())],
        false => changes,
    }
}

#[cfg(test)]
mod tests;
