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

mod content;
mod format;
mod local;
mod poll;

use super::{LeaseEvent, SubnetError, SubnetManager};
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey};
use content::FileContent;
use format::Format;
pub use local::LocalAddress;
use local::LocalLookup;
use poll::FileState;
use std::collections::BTreeMap;
use std::net::IpAddr;
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
    state: watch::Receiver<FileState>,
    local: LocalLookup,
}

impl FixedSubnets {
    /// A manager for the file at `path`, which need not be there yet. Reads it in the background
    /// and follows it until the manager is dropped; must be called inside a tokio runtime.
    ///
    /// `local` finds the first of some addresses that this host has.
    pub fn new<F>(
        path: PathBuf,
        local: impl Fn(Vec<IpAddr>) -> F + Send + Sync + 'static,
    ) -> Result<FixedSubnets, SubnetError>
    where
        F: Future<Output = Option<LocalAddress>> + Send + 'static,
    {
        let format = Format::of(&path).ok_or_else(|| {
            let path = path.display();
            let rule = "the name of a subnets file must end in .toml or .json";
            SubnetError::Settings(format!("{path}: {rule}"))
        })?;
        let (sender, state) = watch::channel(FileState::default());
        tokio::spawn(poll::run(path.clone(), format, sender));
        Ok(FixedSubnets {
            path,
            state,
            local: Box::new(move |addrs| Box::pin(local(addrs))),
        })
    }

    /// An address of this host that the file has a lease for, though it has none for the one that
    /// was chosen.
    async fn own_other(&self, content: &FileContent) -> Option<LocalAddress> {
        let leases = content.leases().iter();
        let addrs = leases.map(|lease| lease.attrs.identity()).collect();
        (self.local)(addrs).await
    }
}

/// Whether the name of a subnets file says how it is written.
pub fn has_format(path: &Path) -> bool {
    Format::of(path).is_some()
}

/// What is wrong with the text of a subnets file, read as TOML and as JSON.
#[cfg(feature = "fuzzing")]
pub fn check(text: &str) -> [Result<(), String>; 2] {
    [Format::Toml, Format::Json].map(|format| FileContent::parse(text, format).map(drop))
}

/// A view of the file that waits for changes.
struct Follow(watch::Receiver<FileState>);

impl Follow {
    /// The last good content; waits for the first.
    async fn content(&mut self) -> Arc<FileContent> {
        loop {
            let content = self.0.borrow_and_update().content.clone();
            match content {
                Some(content) => return content,
                None => self.change().await,
            }
        }
    }

    /// The next content with this network config. What leases are under another one, which counts
    /// from the next start on, does as well.
    async fn next_under(&mut self, config: &NetworkConfig) -> Arc<FileContent> {
        loop {
            self.change().await;
            let content = self.content().await;
            if content.config == *config {
                return content;
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
    fn store(&self) -> &'static str {
        "the subnets file"
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        let mut follow = Follow(self.state.clone());
        loop {
            let state = follow.0.borrow_and_update().clone();
            match (state.content, state.problem) {
                (Some(content), _) => return Ok(content.text.clone()),
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
            let content = follow.content().await;
            if content.config != *config {
                return Err(SubnetError::ConfigChanged);
            }
            if let Some(lease) = content.lease_of(attrs) {
                return Ok(lease.clone());
            }
            let missing = match self.own_other(&content).await {
                Some(local) => content.elsewhere(attrs, &local),
                None => content.missing(attrs),
            };
            if missing != last {
                warn!(code = "W0215", "{path} holds {missing}; waiting for it");
                last = missing;
            }
            follow.change().await;
        }
    }

    async fn known(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let content = self.state.borrow().content.clone()?;
        content.lease_of(attrs).map(|lease| lease.attrs.clone())
    }

    async fn keep(&self, lease: Lease, _margin: Duration) -> LeaseEnd {
        let mut follow = Follow(self.state.clone());
        let mut content = follow.content().await;
        loop {
            if let Some(end) = content.end_of(&lease) {
                return end;
            }
            content = follow.next_under(&content.config).await;
        }
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        tokio::select! {
            () = events.closed() => {}
            () = send_changes(Follow(self.state.clone()), own, &events) => {}
        }
    }
}

/// Send all other leases, then what changes about them, until nobody listens.
async fn send_changes(mut follow: Follow, own: &Lease, events: &mpsc::Sender<LeaseEvent>) {
    let others = |content: &FileContent| -> BTreeMap<SubnetKey, Lease> {
        let leases = content.leases().iter();
        let others = leases.filter(|lease| !lease.attrs.same_node(&own.attrs));
        others.map(|lease| (lease.key(), lease.clone())).collect()
    };
    let content = follow.content().await;
    let mut known = others(&content);
    let snapshot = known.values().cloned().collect();
    let mut events_due = vec![LeaseEvent::Snapshot(snapshot)];
    loop {
        for event in events_due {
            if events.send(event).await.is_err() {
                return;
            }
        }
        let now = others(&*follow.next_under(&content.config).await);
        events_due = changes(&known, &now);
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
