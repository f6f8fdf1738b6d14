//! Taking a lease.

use super::client::{Failure, insist};
use super::lease_plan::{self, LeasePlan, Wanted, mac_taken, plan, rival};
use super::store::{Entry, Grant, RESERVATION, Store};
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs, Previous, SubnetKey, choose};
use crate::subnets::SubnetError;
use rand::RngExt;
use std::time::Duration;
use tracing::info;

/// How often other nodes may be faster before this one gives up.
const RACES_MAX: usize = 30;

/// What one try came to.
enum Try {
    Done(Lease),
    /// Another node changed a key between our reading and writing it, or took part of the same
    /// addresses at the same moment.
    LostRace(SubnetKey),
    Refused(SubnetError),
}

/// Take a lease, if the network config is still the one in hand. A lost race is tried again with
/// a fresh list; after each the choice is made from more subnets, so that a cluster that starts
/// as a whole spreads out.
pub(super) async fn acquire(
    store: &Store,
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
    previous: &Previous,
) -> Result<Lease, SubnetError> {
    let mut retry = store.timing().retry();
    let mut races = 0;
    loop {
        let wanted = Wanted {
            config,
            attrs,
            previous,
            candidates: choose::CANDIDATES_MAX * (races + 1),
        };
        match try_acquire(store, &wanted).await {
            Ok(Try::Done(lease)) => return Ok(lease),
            Ok(Try::Refused(error)) => return Err(error),
            Ok(Try::LostRace(_)) if races == RACES_MAX => {
                return Err(SubnetError::LostRaces(races + 1));
            }
            Ok(Try::LostRace(key)) => {
                races += 1;
                info!("another node was faster to write {key}; trying again");
                let scatter = Duration::from_millis(rand::rng().random_range(0..50));
                tokio::time::sleep(scatter).await;
            }
            Err(failure) => retry.pause(failure).await,
        }
    }
}

async fn try_acquire(store: &Store, wanted: &Wanted<'_>) -> Result<Try, Failure> {
    if is_outdated(wanted.config, store.config().await?) {
        return Ok(Try::Refused(SubnetError::ConfigChanged));
    }
    let entries = store.list().await?;
    if let Some(error) = mac_taken(wanted.attrs, &entries, i64::MAX) {
        return Ok(Try::Refused(error));
    }
    let plan = plan(wanted, &entries, &mut rand::rng());
    match plan {
        Err(error) => Ok(Try::Refused(error)),
        Ok(LeasePlan::Reuse(entry)) => reuse(store, wanted, entry).await,
        Ok(LeasePlan::Take { key, instead_of }) => take(store, wanted, key, &instead_of).await,
    }
}

/// Whether another config has been stored since this one was read, which may be long ago if etcd
/// was away. One that is gone or cannot be used does not count: the node has a good one.
fn is_outdated(config: &NetworkConfig, stored: Option<Vec<u8>>) -> bool {
    let text = stored.and_then(|value| String::from_utf8(value).ok());
    let stored = text.and_then(|text| NetworkConfig::parse(&text).ok());
    stored.is_some_and(|stored| stored != *config)
}

/// Write an own lease anew unless its key has changed. If the answer is lost the write may
/// have happened; the next try then finds this node's lease and uses it again.
async fn reuse(store: &Store, wanted: &Wanted<'_>, entry: &Entry) -> Result<Try, Failure> {
    let key = entry.key;
    let what = match entry.is_reservation() {
        true => "reservation",
        false => "lease",
    };
    info!("using the {what} {key} again");
    let grant = grant(store, entry.is_reservation()).await?;
    let written = store.put_if(&key, entry.mod_revision, wanted.attrs, grant);
    let Some(revision) = written.await? else {
        return Ok(Try::LostRace(key));
    };
    store.give_back(entry.lease_id).await;
    let same_macs = |stored: &LeaseAttrs| stored.macs() == wanted.attrs.macs();
    if !entry.attrs.as_ref().is_ok_and(same_macs) {
        let entries = store.list().await?;
        if let Some(error) = mac_taken(wanted.attrs, &entries, revision) {
            return Ok(Try::Refused(error));
        }
    }
    Ok(Try::Done(lease(wanted, key, grant, revision)))
}

/// Write a new lease in place of `old` ones. What takes the place of a reservation is one.
async fn take(
    store: &Store,
    wanted: &Wanted<'_>,
    key: SubnetKey,
    old: &[&Entry],
) -> Result<Try, Failure> {
    let reserved = old.iter().any(|entry| entry.is_reservation());
    let grant = grant(store, reserved).await?;
    let written = store.replace(old, &key, wanted.attrs, grant).await?;
    let Some(revision) = written else {
        return Ok(Try::LostRace(key));
    };
    for entry in old {
        store.give_back(entry.lease_id).await;
    }
    // Whoever wrote before us is in this list; whoever wrote after us finds us in theirs.
    let entries = store.list().await?;
    let own = entries.iter().find(|entry| entry.key == key);
    if own.and_then(|own| rival(own, &entries)).is_some() {
        return Ok(Try::LostRace(key));
    }
    Ok(match mac_taken(wanted.attrs, &entries, revision) {
        Some(error) => Try::Refused(error),
        None => Try::Done(lease(wanted, key, grant, revision)),
    })
}

/// What this node's lease says of it; waits for etcd.
pub(super) async fn known(store: &Store, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
    let entries = insist(store.timing().retry(), || store.list()).await;
    lease_plan::known(attrs, &entries).cloned()
}

/// Delete a lease if it is as it was written when its key was new.
pub(super) async fn release(store: &Store, lease: &Lease) -> Result<(), Failure> {
    let (_, entry) = store.get(&lease.key()).await?;
    let is_new = |entry: &Entry| {
        let revisions = [entry.create_revision, entry.mod_revision];
        revisions == [lease.revision; 2] && !entry.is_reservation()
    };
    if let Some(entry) = entry.filter(is_new)
        && store.remove(&entry).await?
    {
        info!("the lease {} is given back", entry.key);
        store.give_back(entry.lease_id).await;
    }
    Ok(())
}

async fn grant(store: &Store, reservation: bool) -> Result<Grant, Failure> {
    match reservation {
        true => Ok(RESERVATION),
        false => store.grant().await,
    }
}

fn lease(wanted: &Wanted<'_>, key: SubnetKey, grant: Grant, revision: i64) -> Lease {
    Lease {
        subnet: key.v4,
        subnet_v6: key.v6,
        attrs: wanted.attrs.clone(),
        expires: grant.expires,
        revision,
    }
}
