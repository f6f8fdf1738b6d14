//! Keeping the own lease: renewal by the clock, and an eye on its key. A lease that was deleted,
//! or that expired while etcd was out of reach, is taken again if nobody else has it.

use super::client::{Failure, Retry};
use super::lease_plan::rival;
use super::store::{Entry, RESERVATION, Store};
use crate::family::Family;
use crate::lease::{Keeper, Lease, LeaseAttrs, LeaseEnd, Seen};
use crate::subnets::remote::until;
use crate::suspend::SuspendClock;
use crate::text::shown;
use etcd_client::{Event, EventType};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// Pause between two looks whether the machine was suspended.
const SUSPEND_CHECK: Duration = Duration::from_secs(60);

/// How many nodes that take this one's address for their own are named.
const TWINS_MAX: usize = 10;

/// Renew the lease until it is no longer this node's; tell `ends` what its end is by now.
pub(super) async fn keep(
    store: &Store,
    lease: &Lease,
    margin: Duration,
    ends: &watch::Sender<Option<Instant>>,
) -> LeaseEnd {
    let (sender, mut seen) = mpsc::channel(1);
    tokio::select! {
        never = observe(store, lease, sender) => match never {},
        end = renew_when_due(store, lease, margin, (&mut seen, ends)) => end,
    }
}

/// Renew on schedule, taking in what the watch sees; tell what comes of it.
async fn renew_when_due(
    store: &Store,
    lease: &Lease,
    margin: Duration,
    (watched, ends): (&mut mpsc::Receiver<Seen>, &watch::Sender<Option<Instant>>),
) -> LeaseEnd {
    let timing = store.timing();
    let (pause, backoff) = (timing.renew_retry, timing.backoff());
    let mut keeper = Keeper::new(lease.expires, margin, pause, backoff, Instant::now());
    let mut suspends = SuspendClock::start();
    // Not a sleep in each round, which events on the key would put off.
    let mut suspend_check = tokio::time::interval(SUSPEND_CHECK);
    suspend_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retry = timing.retry();
    loop {
        let outcome = tokio::select! {
            Some(seen) = watched.recv() => Ok(seen),
            () = until(keeper.due()) => renew(store, lease, &mut keeper).await,
            _ = suspend_check.tick() => {
                keeper.slept(suspends.slept(), Instant::now());
                continue;
            }
        };
        let outcome = match outcome {
            Ok(Seen::Absent) => {
                keeper.absent();
                take_again(store, lease, &mut keeper).await
            }
            outcome => outcome,
        };
        match outcome {
            Ok(Seen::Own { expires, intact }) => {
                retry.reset();
                ends.send_replace(expires);
                // Said here, since the answer to the write may have got lost.
                if let Some(loss) = keeper.observe(expires, intact, Instant::now()) {
                    let key = lease.key();
                    warn!(
                        code = "W0309",
                        "the lease {key} {loss}; it was still free and is this node's again"
                    );
                }
            }
            Ok(Seen::Taken { by }) => return LeaseEnd::Taken { by },
            Ok(Seen::Overlapped { by }) => return LeaseEnd::Overlapped { by },
            // Gone once more: what the watch tells next, or the time, leads back to here.
            Ok(Seen::Absent) => keeper.failed(Instant::now(), rand::random()),
            Err(failure) => {
                retry.note(failure);
                keeper.failed(Instant::now(), rand::random());
            }
        }
    }
}

/// Write the lease anew under a fresh etcd lease, if its key is still this node's, and give
/// the old one back.
///
/// etcd's own way, to keep the etcd lease alive, would not notice a key that hangs on it no
/// longer. The write is the proof that the key is this node's, and mends its value.
async fn renew(store: &Store, lease: &Lease, keeper: &mut Keeper) -> Result<Seen, Failure> {
    loop {
        let (_, entry) = store.get(&lease.key()).await?;
        let Some(entry) = entry else {
            return Ok(Seen::Absent);
        };
        if let Some(taken) = taken(lease, &entry) {
            return Ok(taken);
        }
        let grant = match entry.is_reservation() {
            true if is_intact(lease, &entry) => {
                return Ok(Seen::Own {
                    expires: None,
                    intact: true,
                });
            }
            true => RESERVATION,
            false => store.grant().await?,
        };
        let written = store.put_if(&entry.key, entry.mod_revision, &lease.attrs, grant);
        if written.await?.is_some() {
            keeper.written(Instant::now());
            info!("lease {} renewed", lease.key());
            store.give_back(entry.lease_id).await;
            return Ok(Seen::Own {
                expires: grant.expires,
                intact: true,
            });
        }
        // Written by someone between our reading and writing: look again.
    }
}

/// Take a lease whose key is gone again, unless another node has any of its addresses by now.
async fn take_again(store: &Store, lease: &Lease, keeper: &mut Keeper) -> Result<Seen, Failure> {
    let key = lease.key();
    let entries = store.list().await?;
    if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
        return seen_in(store, lease, entry).await;
    }
    keeper.lost(Instant::now());
    let mut overlapping = entries.iter().filter(|entry| entry.key.overlaps(&key));
    if let Some(blocked) = overlapping.find_map(|entry| blocked(lease, entry)) {
        return Ok(blocked);
    }
    let grant = store.grant().await?;
    let written = store.put_if(&key, 0, &lease.attrs, grant);
    if written.await?.is_none() {
        return Ok(Seen::Absent);
    }
    keeper.written(Instant::now());
    // As when a lease is taken for the first time: see `acquire`.
    let entries = store.list().await?;
    let own = entries.iter().find(|entry| entry.key == key);
    let rival = own.and_then(|own| rival(own, &entries));
    if let Some(blocked) = rival.and_then(|rival| blocked(lease, rival)) {
        return Ok(blocked);
    }
    Ok(Seen::Own {
        expires: grant.expires,
        intact: true,
    })
}

/// `Some` if a lease under another key keeps this node from its addresses. One that cannot be
/// read does, as when a lease is taken for the first time: somebody may have them.
fn blocked(lease: &Lease, entry: &Entry) -> Option<Seen> {
    match entry.attrs {
        Ok(_) => taken(lease, entry),
        Err(_) => Some(Seen::Overlapped { by: entry.key }),
    }
}

/// `Some` if a key holds another node's lease. A value that cannot be read is nobody's.
fn taken(lease: &Lease, entry: &Entry) -> Option<Seen> {
    let other = entry.attrs.as_ref().ok()?;
    (!other.same_node(&lease.attrs)).then(|| Seen::Taken {
        by: other.identity(),
    })
}

fn is_intact(lease: &Lease, entry: &Entry) -> bool {
    entry.attrs.as_ref() == Ok(&lease.attrs)
}

/// What the own key holds.
async fn seen_in(store: &Store, lease: &Lease, entry: &Entry) -> Result<Seen, Failure> {
    match taken(lease, entry) {
        Some(taken) => Ok(taken),
        None => Ok(Seen::Own {
            expires: store.expiry(entry.lease_id).await?,
            intact: is_intact(lease, entry),
        }),
    }
}

enum Never {}

/// Tell `seen` what the own key holds, now and at every change. After each interruption
/// the key is read again, so neither an outage nor a compaction can hide its deletion.
async fn observe(store: &Store, lease: &Lease, seen: mpsc::Sender<Seen>) -> Never {
    let mut retry = store.timing().retry();
    let mut observer = Observer {
        store,
        lease,
        seen,
        twins: BTreeSet::new(),
    };
    loop {
        match observer.follow(&mut retry).await {
            Ok(()) => retry.pause(Failure::Unreachable).await,
            Err(failure) => retry.pause(failure).await,
        }
    }
}

struct Observer<'a> {
    store: &'a Store,
    lease: &'a Lease,
    seen: mpsc::Sender<Seen>,
    /// The nodes that have been named because they take this one's address for their own.
    twins: BTreeSet<String>,
}

impl Observer<'_> {
    /// Read the key, then tell its changes until the watch ends. The watch stands before the
    /// key is read: a store that is put back from a backup in between ends it.
    async fn follow(&mut self, retry: &mut Retry) -> Result<(), Failure> {
        let key = self.lease.key();
        let mut stream = self.store.watch(&key).await?;
        let (position, entry) = self.store.get(&key).await?;
        self.report(entry.as_ref()).await?;
        retry.reset();
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) if !response.canceled() => response,
                Ok(_) | Err(_) => return Ok(()),
            };
            let revision = |event: &Event| event.kv().map_or(0, |kv| kv.mod_revision());
            let events = response.events().iter();
            for event in events.filter(|event| revision(event) > position.revision) {
                self.report_event(event).await?;
            }
        }
    }

    async fn report_event(&mut self, event: &Event) -> Result<(), Failure> {
        let entry = match event.event_type() {
            EventType::Put => event.kv().and_then(|kv| self.store.entry(kv)),
            EventType::Delete => None,
        };
        self.report(entry.as_ref()).await
    }

    /// Tell what the key holds.
    async fn report(&mut self, entry: Option<&Entry>) -> Result<(), Failure> {
        let seen = match entry {
            None => Seen::Absent,
            Some(entry) => {
                self.warn_of_twin(entry);
                seen_in(self.store, self.lease, entry).await?
            }
        };
        // The receiver lives as long as this future: see `keep`.
        let _ = self.seen.send(seen).await;
        Ok(())
    }

    /// Nodes that advertise one address take turns to write one lease, each in the belief
    /// that it is its own. Each such node is named once, not at each turn.
    fn warn_of_twin(&mut self, entry: &Entry) {
        let own = &self.lease.attrs;
        let Ok(attrs) = &entry.attrs else { return };
        let Some(twin) = carrier(attrs).filter(|_| attrs.same_node(own)) else {
            return;
        };
        if carrier(own).as_ref() == Some(&twin)
            || self.twins.len() == TWINS_MAX
            || !self.twins.insert(twin.clone())
        {
            return;
        }
        warn!(
            code = "W0310",
            "somebody else writes the lease {} ({twin}): do two nodes advertise {}?",
            entry.key,
            own.identity()
        );
    }
}

/// What peers are to reach a node by, for people; `None` if the value does not say, as one
/// written by hand.
fn carrier(attrs: &LeaseAttrs) -> Option<String> {
    let data = attrs
        .vxlan_data(Family::V4)
        .or_else(|_| attrs.vxlan_data(Family::V6));
    match data {
        Ok(data) => Some(format!("MAC {}", data.vtep_mac)),
        Err(_) if ["", "vxlan"].contains(&attrs.backend_type.as_str()) => None,
        Err(_) => Some(format!("backend {}", shown(&attrs.backend_type))),
    }
}
