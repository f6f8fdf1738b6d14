//! The host-gw backend: kernel routes to the nodes on the same link, no tunnel and nothing
//! added to packets.

use super::carrier::{Carriers, PreparedCarrier};
use super::direct::RoutedPeers;
use super::host::Host;
use super::peers::PeerKind;

use crate::config::NetworkConfig;
use crate::lease::LeaseAttrs;

/// The `BackendType` of host-gw leases.
const BACKEND: &str = "host-gw";

/// Nothing has to be there beforehand but the addresses.
pub(super) fn prepare(host: &Host, config: &NetworkConfig) -> Carriers {
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
    Carriers {
        attrs: LeaseAttrs::host_gw(v4, v6),
        mtu: host.underlay.mtu,
        list: config.families().map(carrier).collect(),
    }
}
