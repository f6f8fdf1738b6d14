//! Following all other nodes' leases.

use super::store::{Entry, Store, Update};
use crate::lease::{Lease, SubnetKey};
use crate::subnets::LeaseEvent;
use etcd_client::{Event, EventType, KeyValue};
use std::collections::BTreeMap;
use tokio::sync::mpsc::{Sender, error::SendError};

/// Send all leases, then the changes, until nobody listens.
pub(super) async fn watch(store: &Store, own: &Lease, events: &Sender<LeaseEvent>) {
    let mut known = KnownLeases::new(own);
    let mut feed = store.feed();
    loop {
        let changes = match feed.next().await {
            Ok(update) => known.take_in(store, &update),
            Err(failure) => {
                feed.note(failure);
                continue;
            }
        };
        if send(events, changes).await.is_err() {
            return;
        }
    }
}

async fn send(
    events: &Sender<LeaseEvent>,
    changes: Vec<LeaseEvent>,
) -> Result<(), SendError<LeaseEvent>> {
    for event in changes {
        events.send(event).await?;
    }
    Ok(())
}

/// The leases that the receiver knows, without the own one. Remembered so that a value that
/// has become unreadable does not remove its node.
struct KnownLeases {
    own: Lease,
    /// `None` before the first list.
    leases: Option<BTreeMap<SubnetKey, Lease>>,
}

impl KnownLeases {
    fn new(own: &Lease) -> KnownLeases {
        let own = own.clone();
        KnownLeases { own, leases: None }
    }

    /// What an update changes.
    fn take_in(&mut self, store: &Store, update: &Update) -> Vec<LeaseEvent> {
        match update {
            Update::All(keys) => self.replace(store, keys).into_iter().collect(),
            Update::Changes(events) => self.change(store, events),
        }
    }

    /// Take a new list in place of everything before; `None` if it says the same.
    fn replace(&mut self, store: &Store, keys: &[KeyValue]) -> Option<LeaseEvent> {
        let mut leases = BTreeMap::new();
        let entries = keys.iter().filter_map(|kv| store.entry(kv));
        for entry in entries.filter(|entry| !is_own(&self.own, entry)) {
            let key = entry.key;
            let before = || self.leases.as_ref()?.get(&key).cloned();
            if let Some(lease) = lease(store, entry).or_else(before) {
                leases.insert(key, lease);
            }
        }
        if self.leases.as_ref() == Some(&leases) {
            return None;
        }
        let all = leases.values().cloned().collect();
        self.leases = Some(leases);
        Some(LeaseEvent::Snapshot(all))
    }

    /// Take in changes.
    fn change(&mut self, store: &Store, changes: &[Event]) -> Vec<LeaseEvent> {
        let change = |event: &Event| {
            let kv = event.kv()?;
            match event.event_type() {
                EventType::Put => {
                    let entry = store.entry(kv)?;
                    if is_own(&self.own, &entry) {
                        return self.remove(entry.key);
                    }
                    let lease = lease(store, entry)?;
                    self.leases
                        .get_or_insert_default()
                        .insert(lease.key(), lease.clone());
                    Some(LeaseEvent::Put(lease))
                }
                EventType::Delete => self.remove(store.key(kv)?),
            }
        };
        changes.iter().filter_map(change).collect()
    }

    /// Forget a peer; `None` if there was none.
    fn remove(&mut self, key: SubnetKey) -> Option<LeaseEvent> {
        self.leases.as_mut()?.remove(&key)?;
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
fn lease(store: &Store, entry: Entry) -> Option<Lease> {
    match entry.attrs {
        Ok(attrs) => Some(Lease {
            subnet: entry.key.v4,
            subnet_v6: entry.key.v6,
            attrs,
            expires: None,
            revision: entry.mod_revision,
        }),
        Err(reason) => {
            store.warn_of_value(&entry.key, &reason);
            None
        }
    }
}
