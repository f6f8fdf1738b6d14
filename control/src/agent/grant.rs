//! Taking a lease for a backend that is ready, and giving it back if the backend cannot start.

use crate::backend::Prepared;
use crate::config::NetworkConfig;
use crate::host::subnet_env::Previous;
use crate::lease::Lease;
use crate::subnets::{SubnetError, SubnetManager};
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
    if let Some(error) = prepared.unkept_mac() {
        let known = manager.known(prepared.attrs()).await;
        let which = match known {
            Some(_) => "that of its lease",
            None => "a new one",
        };
        warn!("{error}; in this run the node has {which}");
        if let Some(known) = known {
            prepared.take_macs(&known);
        }
    }
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
        match prepared.replace_mac(mac) {
            Some(line) => warn!("{error}, as if one disk were a copy of the other's: {line}"),
            None => return Err(error),
        }
    }
}

/// Give back a lease whose node cannot start. One that this start has not made stays, and so
/// does one of the subnet that the node had before: its pods still have the addresses.
pub(super) async fn give_back(manager: &impl SubnetManager, lease: &Lease, previous: &Previous) {
    let is_former = (lease.subnet.is_some() && lease.subnet == previous.subnet)
        || (lease.subnet_v6.is_some() && lease.subnet_v6 == previous.ipv6_subnet);
    if !is_former {
        let _ = timeout(RELEASE_PATIENCE, manager.release(lease)).await;
    }
}
