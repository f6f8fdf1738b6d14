//! What the workers of a tunnel know of the node's networks.

use super::options::Admit;
use super::spec::TunnelSpec;
use crate::config::NetworkConfig;
use crate::family::{Family, PerFamily};
use crate::lease::Lease;
use crate::wire::MacAddr;
use weft_dataplane::route::table::{Admission, Overlay};

/// The overlay of one tunnel. Each knows the networks of both families: a frame of the one that
/// came through the tunnel of the other is held against them, too.
pub(super) fn overlay(
    spec: &TunnelSpec,
    local_mac: MacAddr,
    config: &NetworkConfig,
    lease: &Lease,
    admit: Admit,
) -> Overlay {
    let networks = PerFamily::new(|family| config.network(family));
    let (network_v4, network_v6) = networks.typed();
    Overlay {
        wire: spec.wire,
        vni: spec.vni,
        gbp: spec.gbp,
        local_mac,
        network_v4,
        subnet_len_v4: config.subnet_len(Family::V4),
        network_v6,
        subnet_len_v6: config.subnet_len(Family::V6),
        own_v4: lease.subnet,
        own_v6: lease.subnet_v6,
        admission: match admit {
            Admit::Strict => Admission::Strict,
            Admit::Loose => Admission::Loose,
        },
    }
}
