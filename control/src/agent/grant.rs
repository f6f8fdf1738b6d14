//! Taking a lease for a backend that is ready, and giving it back if the backend cannot start.

use crate::backend::Prepared;
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::lease::{Lease, Previous};
use crate::subnets::{SubnetError, SubnetManager};
use crate::wire::MacAddr;
use std::time::Duration;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the end of a start that failed may be held up by a store that does not answer.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Take a lease. If another node has this one's MAC, which then was copied with its disk, this
/// one takes a new MAC first.
pub(super) async fn take(
    manager: &impl SubnetManager,
    config: &NetworkConfig,
    prepared: &mut Prepared,
    previous: &Previous,
) -> Result<Lease, SubnetError> {
    if let Some(error) = prepared.unkept_mac().and_then(|mac| mac.unkept.as_ref()) {
        let error = error.to_string();
        let is_known = take_known(manager, prepared, &[]).await;
        let which = match prepared.unkept_mac() {
            _ if is_known => "that of its lease",
            Some(mac) if mac.is_new => "a new one",
            _ => "that of the kernel's device",
        };
        warn!(code = "W0316", "{error}; in this run the node has {which}");
    }
    if manager.knows_macs() && prepared.has_new_mac() {
        // A container may have a new disk at each start.
        if let Some(known) = manager.known(prepared.attrs()).await {
            prepared.take_macs(&known, &[]);
        }
    }
    let mut shared = Vec::new();
    loop {
        let error = match manager.acquire(config, prepared.attrs(), previous).await {
            Ok(lease) => {
                info!("this node's subnet is {lease}");
                return Ok(lease);
            }
            Err(error) => error,
        };
        let SubnetError::MacTaken { mac, .. } = error else {
            return Err(error);
        };
        let devices = prepared.replace_mac(mac);
        if devices.is_empty() {
            return Err(error);
        }
        shared.push(mac);
        take_known(manager, prepared, &shared).await;
        let macs = prepared.describe_macs(&devices);
        warn!(
            code = "W0315",
            "{error}, as if one disk were a copy of the other's: {macs}"
        );
    }
}

/// Have the MAC of the own lease in place of one that could not be kept, unless it is one of
/// those `shared` with other nodes. Whether there is such a lease.
async fn take_known(
    manager: &impl SubnetManager,
    prepared: &mut Prepared,
    shared: &[MacAddr],
) -> bool {
    if prepared.unkept_mac().is_none() {
        return false;
    }
    let known = manager.known(prepared.attrs()).await;
    if let Some(known) = &known {
        prepared.take_macs(known, shared);
    }
    known.is_some()
}

/// Give back a lease whose node cannot start. One that this start has not made stays, and so
/// does one of the subnet that the node had before: its pods still have the addresses.
pub(super) async fn give_back(manager: &impl SubnetManager, lease: &Lease, previous: &Previous) {
    let is_same = |family| {
        lease
            .subnet(family)
            .is_some_and(|own| previous.subnet(family) == Some(own))
    };
    let is_former = Family::BOTH.into_iter().any(is_same);
    if !is_former {
        let _ = timeout(RELEASE_PATIENCE, manager.release(lease)).await;
    }
}
