//! Taking a lease.

use super::SubnetError;
use super::connection::{Failure, Retry};
use super::store::{Entry, Grant, RESERVATION, Store};
use crate::config::NetworkConfig;
use crate::host::subnet_env::Previous;
use crate::lease::{Lease, LeaseAttrs, SubnetKey, choose};
use ipnet::Ipv4Net;
use rand::RngExt;
use std::time::Duration;
use tracing::{info, warn};

/// How often another node may be faster before this one gives up.
const RACES_MAX: usize = 10;

/// What one try came to.
enum Try {
    Done(Lease),
    /// Another node changed the key between our reading and writing it.
    LostRace(SubnetKey),
    OutOfSubnets,
}

/// Take a lease. A lost race is tried again with a fresh list; after each the choice is made
/// from more subnets, so that a cluster that starts as a whole spreads out.
pub(super) async fn acquire(
    store: &Store,
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
    previous: &Previous,
) -> Result<Lease, SubnetError> {
    let mut retry = Retry::new(store.timing());
    let mut races = 0;
    loop {
        let wanted = Wanted {
            config,
            attrs,
            previous: previous.subnet,
            candidates: choose::CANDIDATES_MAX * (races + 1),
        };
        match try_acquire(store, &wanted).await {
            Ok(Try::Done(lease)) => return Ok(lease),
            Ok(Try::OutOfSubnets) => {
                return Err(SubnetError::OutOfSubnets {
                    min: config.subnet_min,
                    max: config.subnet_max,
                    len: config.subnet_len,
                });
            }
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

struct Wanted<'a> {
    config: &'a NetworkConfig,
    attrs: &'a LeaseAttrs,
    previous: Option<Ipv4Net>,
    /// How many free subnets to choose from.
    candidates: usize,
}

impl Wanted<'_> {
    fn is_own(&self, entry: &Entry) -> bool {
        let attrs = entry.attrs.as_ref();
        attrs.is_ok_and(|attrs| attrs.same_node(self.attrs))
    }
}

/// The own lease if there is one that still fits, else the previous subnet, else a free one.
async fn try_acquire(store: &Store, wanted: &Wanted<'_>) -> Result<Try, Failure> {
    let (_, entries) = store.list().await?;
    let (own, others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| wanted.is_own(entry));
    let (fitting, stale): (Vec<&Entry>, Vec<&Entry>) = own
        .iter()
        .partition(|entry| choose::compatible(wanted.config, &entry.key));
    if let Some(entry) = fitting.first() {
        let grant = match entry.lease_id {
            0 => RESERVATION,
            _ => store.grant().await?,
        };
        info!("using the lease {} again", entry.key);
        return write(store, wanted, entry.key, entry.mod_revision, grant).await;
    }
    for entry in &stale {
        warn!(
            "deleting the own lease {}: the network config does not allow it",
            entry.key
        );
        if store
            .delete_if(&entry.key, entry.mod_revision)
            .await?
            .is_none()
        {
            return Ok(Try::LostRace(entry.key));
        }
    }
    let taken: Vec<Ipv4Net> = others.iter().filter_map(|entry| entry.key.v4).collect();
    // A lease deleted above may have had a subnet that is fine without its IPv6 half.
    let former = stale.iter().filter_map(|entry| entry.key.v4);
    let usable = |subnet: &Ipv4Net| {
        choose::compatible(wanted.config, &SubnetKey::from(*subnet))
            && choose::is_free(*subnet, &taken)
    };
    let subnet = wanted.previous.into_iter().chain(former).find(usable);
    let subnet = subnet.or_else(|| {
        let free = choose::candidates(wanted.config, &taken, wanted.candidates);
        choose::pick(&free, &mut rand::rng())
    });
    match subnet {
        None => Ok(Try::OutOfSubnets),
        Some(subnet) => {
            let grant = store.grant().await?;
            write(store, wanted, SubnetKey::from(subnet), 0, grant).await
        }
    }
}

/// Write the lease unless its key has changed since `mod_revision`. If the answer is lost the
/// write may have happened; the next try then finds this node's lease and uses it again.
async fn write(
    store: &Store,
    wanted: &Wanted<'_>,
    key: SubnetKey,
    mod_revision: i64,
    grant: Grant,
) -> Result<Try, Failure> {
    match store
        .put_if(&key, mod_revision, wanted.attrs, grant)
        .await?
    {
        Some(revision) => Ok(Try::Done(Lease {
            subnet: key.v4,
            subnet_v6: key.v6,
            attrs: wanted.attrs.clone(),
            expires: grant.expires,
            revision,
        })),
        None => Ok(Try::LostRace(key)),
    }
}
