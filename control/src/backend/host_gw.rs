//! The host-gw backend: kernel routes to the nodes on the same link, no tunnel and nothing
//! added to packets.

use super::direct::RoutedPeers;
use super::peers::PeerKind;
use super::{BackendError, Host, Prepared, PreparedCarrier};
use crate::config::NetworkConfig;
use crate::lease::LeaseAttrs;

/// The `BackendType` of host-gw leases.
const BACKEND: &str = "host-gw";

/// Nothing has to be there beforehand but the addresses.
pub(super) fn prepare(host: Host, config: &NetworkConfig) -> Result<Prepared, BackendError> {
    let (v4, v6) = host.underlay.public.typed();
    let carrier = |family| PreparedCarrier {
        peers: PeerKind {
            family,
            backend: BACKEND,
            has_mac: false,
        },
        tunnel: None,
        direct: RoutedPeers::All,
    };
    Ok(Prepared {
        attrs: LeaseAttrs::host_gw(v4, v6),
        mtu: host.underlay.mtu,
        carriers: config.families().map(carrier).collect(),
        host,
    })
}
