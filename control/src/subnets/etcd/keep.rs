//! Keeping the own lease: renewal by the clock, and an eye on its key.

use super::connection::{Failure, Retry};
use super::store::{Entry, RESERVATION, Store};
use crate::lease::{Keeper, Lease, LeaseEnd, Seen};
use etcd_client::{EventType, WatchResponse};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::info;

/// Renew the lease until it is no longer this node's.
pub(super) async fn keep(store: &Store, lease: &Lease, margin: Duration) -> LeaseEnd {
    let (sender, mut seen) = mpsc::channel(1);
    tokio::select! {
        never = observe(store, lease, sender) => match never {},
        end = renew_when_due(store, lease, margin, &mut seen) => end,
    }
}

/// Renew on schedule, taking in what the watch sees.
async fn renew_when_due(
    store: &Store,
    lease: &Lease,
    margin: Duration,
    watched: &mut mpsc::Receiver<Seen>,
) -> LeaseEnd {
    let retry_pause = store.timing().renew_retry;
    let mut keeper = Keeper::new(lease.expires, margin, retry_pause, Instant::now());
    let mut retry = Retry::new(store.timing());
    loop {
        let seen = tokio::select! {
            Some(seen) = watched.recv() => seen,
            () = until(keeper.due()) => match renew(store, lease).await {
                Ok(seen) => {
                    retry.reset();
                    if let Seen::Own { .. } = seen {
                        info!("lease {} renewed", lease.key());
                    }
                    seen
                }
                Err(failure) => {
                    retry.note(failure);
                    keeper.failed(Instant::now());
                    continue;
                }
            },
        };
        if let Some(end) = keeper.observe(&seen, Instant::now()) {
            return end;
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Write the lease anew under a fresh etcd lease, if its key is still this node's.
async fn renew(store: &Store, lease: &Lease) -> Result<Seen, Failure> {
    loop {
        let (_, entry) = store.get(&lease.key()).await?;
        let Some(entry) = entry else {
            return Ok(Seen::Absent);
        };
        if let Some(taken) = taken(lease, &entry) {
            return Ok(taken);
        }
        let grant = match entry.lease_id {
            0 if entry.attrs.as_ref() == Ok(&lease.attrs) => {
                return Ok(Seen::Own { expires: None });
            }
            0 => RESERVATION,
            _ => store.grant().await?,
        };
        let written = store.put_if(&entry.key, entry.mod_revision, &lease.attrs, grant);
        if written.await?.is_some() {
            return Ok(Seen::Own {
                expires: grant.expires,
            });
        }
        // Written by someone between our reading and writing: look again.
    }
}

/// `Some` if a key holds another node's lease. A value that cannot be read is nobody's and
/// will be put right at the next renewal.
fn taken(lease: &Lease, entry: &Entry) -> Option<Seen> {
    let other = entry.attrs.as_ref().ok()?;
    (!other.same_node(&lease.attrs)).then(|| Seen::Taken {
        by: other.identity(),
    })
}

enum Never {}

/// Tell `sender` what the own key holds, now and at every change. After each interruption
/// the key is read again, so neither an outage nor a compaction can hide its deletion.
async fn observe(store: &Store, lease: &Lease, sender: mpsc::Sender<Seen>) -> Never {
    let mut retry = Retry::new(store.timing());
    loop {
        match follow(store, lease, &sender, &mut retry).await {
            Ok(()) => retry.pause(Failure::Unreachable).await,
            Err(failure) => retry.pause(failure).await,
        }
    }
}

/// Read the key, then follow it until the watch ends.
async fn follow(
    store: &Store,
    lease: &Lease,
    sender: &mpsc::Sender<Seen>,
    retry: &mut Retry,
) -> Result<(), Failure> {
    let (position, entry) = store.get(&lease.key()).await?;
    report(store, lease, entry.as_ref(), sender).await?;
    let (mut stream, first) = store
        .watch(Some(&lease.key()), position.revision + 1)
        .await?;
    let mut response = first;
    loop {
        if response.canceled() {
            return Ok(());
        }
        retry.reset();
        report_events(store, lease, &response, sender).await?;
        match stream.message().await {
            Ok(Some(next)) => response = next,
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

async fn report_events(
    store: &Store,
    lease: &Lease,
    response: &WatchResponse,
    sender: &mpsc::Sender<Seen>,
) -> Result<(), Failure> {
    for event in response.events() {
        let entry = match event.event_type() {
            EventType::Put => event.kv().and_then(|kv| store.entry(kv)),
            EventType::Delete => None,
        };
        report(store, lease, entry.as_ref(), sender).await?;
    }
    Ok(())
}

/// Tell what the key holds.
async fn report(
    store: &Store,
    lease: &Lease,
    entry: Option<&Entry>,
    sender: &mpsc::Sender<Seen>,
) -> Result<(), Failure> {
    let seen = match entry {
        None => Seen::Absent,
        Some(entry) => match taken(lease, entry) {
            Some(taken) => taken,
            None => Seen::Own {
                expires: store.expiry(entry.lease_id).await?,
            },
        },
    };
    // The receiver lives as long as this future: see `keep`.
    let _ = sender.send(seen).await;
    Ok(())
}
