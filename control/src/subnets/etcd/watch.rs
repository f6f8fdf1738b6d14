//! Following all other nodes' leases.
//!
//! A list that follows an interruption may be of a store that was put back from a snapshot, or
//! that has lost everything: it does not name nodes that live. They see that, and write their
//! leases again. So who is missing there is let go a while later only.

use super::client::Failure;
use super::store::{Entry, Feed, Store, Update};
use crate::lease::{Lease, SubnetKey};
use crate::subnets::LeaseEvent;
use crate::subnets::remote::until;
use etcd_client::{Event, EventType, KeyValue};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Sender, error::SendError};
use tracing::info;

/// Send all leases, then the changes, until nobody listens.
pub(super) async fn watch(store: &Store, own: &Lease, events: &Sender<LeaseEvent>) {
    let mut known = KnownLeases::new(own, store.timing().absence);
    let mut feed = store.feed();
    while let Ok(update) = next(&mut feed, &mut known, events).await {
        let changes = match update {
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

/// What the feed tells next. Who is due meanwhile is let go.
async fn next(
    feed: &mut Feed<'_>,
    known: &mut KnownLeases,
    events: &Sender<LeaseEvent>,
) -> Result<Result<Update, Failure>, SendError<LeaseEvent>> {
    let mut update = pin!(feed.next());
    loop {
        tokio::select! {
            update = &mut update => return Ok(update),
            () = until(known.due()) => send(events, known.let_go(Instant::now())).await?,
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
    /// Which of them the last list did not name, and when they are let go.
    missing: BTreeMap<SubnetKey, Instant>,
    /// How long after the first list that does not name them.
    absence: Duration,
}

impl KnownLeases {
    fn new(own: &Lease, absence: Duration) -> KnownLeases {
        KnownLeases {
            own: own.clone(),
            leases: None,
            missing: BTreeMap::new(),
            absence,
        }
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
        self.keep_missing(&mut leases, Instant::now());
        if self.leases.as_ref() == Some(&leases) {
            return None;
        }
        let all = leases.values().cloned().collect();
        self.leases = Some(leases);
        Some(LeaseEvent::Snapshot(all))
    }

    /// Have those stay for a while that are known and not in a new list, unless somebody else has
    /// any of their addresses there.
    fn keep_missing(&mut self, listed: &mut BTreeMap<SubnetKey, Lease>, now: Instant) {
        let is_free = |key: &SubnetKey| !listed.keys().any(|other| other.overlaps(key));
        let known = self.leases.iter().flatten();
        let missing = known.filter(|(key, _)| is_free(key));
        let missing: Vec<Lease> = missing.map(|(_, lease)| lease.clone()).collect();
        let before = std::mem::take(&mut self.missing);
        for lease in missing {
            let key = lease.key();
            let end = before.get(&key).copied().unwrap_or(now + self.absence);
            if end > now {
                self.missing.insert(key, end);
                listed.insert(key, lease);
            }
        }
        let new = self.missing.keys().filter(|key| !before.contains_key(key));
        let (new, time) = (new.count(), self.absence.as_secs());
        if new > 0 {
            info!(
                code = "W0311",
                "leases no longer in etcd's list: {new}; their nodes have {time} s to write them again before they are let go"
            );
        }
    }

    /// When somebody is to be let go.
    fn due(&self) -> Option<Instant> {
        self.missing.values().min().copied()
    }

    /// Let go who has stayed away.
    fn let_go(&mut self, now: Instant) -> Vec<LeaseEvent> {
        let missing = self.missing.iter().filter(|(_, end)| **end <= now);
        let over: Vec<SubnetKey> = missing.map(|(key, _)| *key).collect();
        over.into_iter()
            .filter_map(|key| self.remove(key))
            .collect()
    }

    /// Take in changes.
    fn change(&mut self, store: &Store, changes: &[Event]) -> Vec<LeaseEvent> {
        let mut told = Vec::new();
        for event in changes {
            let Some(kv) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => {
                    if let Some(entry) = store.entry(kv) {
                        self.put(store, entry, &mut told);
                    }
                }
                EventType::Delete => {
                    let key = store.key(kv);
                    told.extend(key.and_then(|key| self.remove(key)));
                }
            }
        }
        told
    }

    /// Take in what somebody has written. Who is missing and had any of its addresses is let go.
    fn put(&mut self, store: &Store, entry: Entry, told: &mut Vec<LeaseEvent>) {
        let key = entry.key;
        if is_own(&self.own, &entry) {
            told.extend(self.remove(key));
            return;
        }
        let Some(lease) = lease(store, entry) else {
            return;
        };
        self.missing.remove(&key);
        let missing = self.missing.keys().filter(|other| other.overlaps(&key));
        for other in missing.copied().collect::<Vec<_>>() {
            told.extend(self.remove(other));
        }
        let leases = self.leases.get_or_insert_default();
        leases.insert(key, lease.clone());
        told.push(LeaseEvent::Put(lease));
    }

    /// Forget a peer; `None` if there was none.
    fn remove(&mut self, key: SubnetKey) -> Option<LeaseEvent> {
        self.missing.remove(&key);
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
