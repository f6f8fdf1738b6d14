//! Following all other nodes' leases.

use super::connection::{Failure, Retry};
use super::store::{Entry, Position, Store};
use crate::lease::{Lease, SubnetKey};
use crate::subnets::LeaseEvent;
use etcd_client::{EventType, WatchResponse};
use std::collections::BTreeMap;
use tokio::sync::mpsc::{Sender, error::SendError};
use tracing::{debug, info, warn};

/// Nobody listens any more.
struct Closed;

impl From<SendError<LeaseEvent>> for Closed {
    fn from(_: SendError<LeaseEvent>) -> Closed {
        Closed
    }
}

/// Why a watch ended.
enum Ended {
    /// The connection broke or the server ended it: go on where it stopped.
    Broken(Failure),
    /// The revisions since are gone: list again.
    Compacted,
}

/// List, send the list, follow the changes; from the top again when history is lost.
pub(super) async fn watch(store: &Store, own: &Lease, events: &Sender<LeaseEvent>) {
    let mut peers = Peers {
        own: own.clone(),
        leases: BTreeMap::new(),
    };
    let mut retry = Retry::new(store.timing());
    loop {
        let (position, entries) = match store.list().await {
            Ok(listing) => listing,
            Err(failure) => {
                retry.pause(failure).await;
                continue;
            }
        };
        retry.reset();
        let snapshot = LeaseEvent::Snapshot(peers.replace(entries));
        if events.send(snapshot).await.is_err() {
            return;
        }
        if let Err(Closed) = follow(store, &mut peers, position, events).await {
            return;
        }
    }
}

/// Follow the changes after `position`; `Ok` when a new list is needed.
async fn follow(
    store: &Store,
    peers: &mut Peers,
    mut position: Position,
    events: &Sender<LeaseEvent>,
) -> Result<(), Closed> {
    let mut retry = Retry::new(store.timing());
    loop {
        match stream(store, peers, &mut position, events, &mut retry).await? {
            Ended::Compacted => {
                info!("etcd has compacted its history: listing all leases again");
                return Ok(());
            }
            Ended::Broken(failure) => retry.pause(failure).await,
        }
        // A store put back from a backup or replaced by an empty one has another history.
        // Waiting for our revision to come up in it could take for ever.
        let now = store.position().await;
        if now.cluster != position.cluster || now.revision < position.revision {
            warn!("etcd's history is another than before: listing all leases again");
            return Ok(());
        }
    }
}

/// Open one watch and take in its events until it ends. `position` is kept at the last
/// change that has been passed on.
async fn stream(
    store: &Store,
    peers: &mut Peers,
    position: &mut Position,
    events: &Sender<LeaseEvent>,
    retry: &mut Retry,
) -> Result<Ended, Closed> {
    let (mut stream, mut response) = match store.watch(None, position.revision + 1).await {
        Ok(opened) => opened,
        Err(failure) => return Ok(Ended::Broken(failure)),
    };
    loop {
        if response.compact_revision() > 0 {
            return Ok(Ended::Compacted);
        }
        if response.canceled() {
            debug!("etcd cancelled the watch: {}", response.cancel_reason());
            return Ok(Ended::Broken(Failure::Unreachable));
        }
        retry.reset();
        for event in peers.changes(store, &response) {
            events.send(event).await?;
        }
        position.revision = last_revision(&response).max(position.revision);
        response = match stream.message().await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Ended::Broken(Failure::Unreachable)),
            Err(error) => {
                debug!("the watch broke: {}", super::refusal::describe(&error));
                return Ok(Ended::Broken(Failure::Unreachable));
            }
        };
    }
}

/// The revision of the last event. The header's may be ahead of it.
fn last_revision(response: &WatchResponse) -> i64 {
    let revisions = response.events().iter().filter_map(|event| event.kv());
    revisions.map(|kv| kv.mod_revision()).max().unwrap_or(0)
}

/// The leases that the receiver knows, without the own one. Remembered so that a value that
/// has become unreadable does not remove its node.
struct Peers {
    own: Lease,
    leases: BTreeMap<SubnetKey, Lease>,
}

impl Peers {
    /// Take a new list in place of everything before.
    fn replace(&mut self, entries: Vec<Entry>) -> Vec<Lease> {
        let mut before = std::mem::take(&mut self.leases);
        for entry in entries
            .into_iter()
            .filter(|entry| !is_own(&self.own, entry))
        {
            let key = entry.key;
            if let Some(lease) = lease(entry).or_else(|| before.remove(&key)) {
                self.leases.insert(key, lease);
            }
        }
        self.leases.values().cloned().collect()
    }

    /// Take in the changes of one response.
    fn changes(&mut self, store: &Store, response: &WatchResponse) -> Vec<LeaseEvent> {
        let change = |event: &etcd_client::Event| {
            let kv = event.kv()?;
            match event.event_type() {
                EventType::Put => {
                    let entry = store.entry(kv)?;
                    if is_own(&self.own, &entry) {
                        return self.remove(entry.key);
                    }
                    let lease = lease(entry)?;
                    self.leases.insert(lease.key(), lease.clone());
                    Some(LeaseEvent::Put(lease))
                }
                EventType::Delete => self.remove(store.key(kv)?),
            }
        };
        response.events().iter().filter_map(change).collect()
    }

    /// Forget a peer; `None` if there was none.
    fn remove(&mut self, key: SubnetKey) -> Option<LeaseEvent> {
        self.leases.remove(&key)?;
        Some(LeaseEvent::Delete(key))
    }
}

/// Whether an entry is about this node: its subnets in all families that it has, or its
/// address. A second lease of this node, such as a reservation that it cannot use, would make
/// it send packets to itself.
fn is_own(own: &Lease, entry: &Entry) -> bool {
    let v4 = own.subnet.is_none() || own.subnet == entry.key.v4;
    let v6 = own.subnet_v6.is_none() || own.subnet_v6 == entry.key.v6;
    (v4 && v6) || entry.is_of(&own.attrs)
}

/// A peer's lease; `None`, with a warning, for an unreadable value.
fn lease(entry: Entry) -> Option<Lease> {
    match entry.attrs {
        Ok(attrs) => Some(Lease {
            subnet: entry.key.v4,
            subnet_v6: entry.key.v6,
            attrs,
            expires: None,
            revision: entry.mod_revision,
        }),
        Err(reason) => {
            let key = entry.key;
            warn!("ignoring the value of lease {key} in etcd: {reason}");
            None
        }
    }
}
