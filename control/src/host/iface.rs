//! The underlay interface: where encapsulated packets leave the host.
//!
//! Choice and order are flannel's (pkg/ipmatch/match.go, main.go). Where flannel breaks off
//! at the first interface that a pattern names, the choice goes on here until one can be
//! used.

mod candidates;
mod default;
mod error;
mod local;
mod named;
mod options;
mod overlay;
mod underlay;

use super::netlink::Netlink;
use crate::family::{Family, PerFamily};
use candidates::Candidates;
pub use error::{IfaceError, Unfit};
pub use local::{Local, first_local};
pub use options::InterfaceOptions;
use overlay::is_overlay;
pub use overlay::is_tunnel;
use std::net::IpAddr;
use tracing::warn;
pub use underlay::Underlay;

/// Choose the underlay that has an address of each wanted family.
///
/// The first usable match wins: of `-iface` (interface names or local addresses), then of
/// `-iface-regex` (each against the addresses of all interfaces, then against their names),
/// then the interface and source address that `-iface-can-reach` is reached by. Without any
/// of them `-public-ip` or `-public-ipv6` names the interface that has it, unless that is the
/// loopback interface; without those, the default routes of the main table do.
pub async fn choose(
    netlink: &Netlink,
    options: &InterfaceOptions,
    wanted: PerFamily<bool>,
) -> Result<Underlay, IfaceError> {
    let candidates = Candidates {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: netlink.routes().await?,
        options,
        wanted,
    };
    check_public(&candidates)?;
    let chosen = match options.names_none() {
        true => candidates.by_default()?,
        false => candidates.by_name(netlink).await?,
    };
    warn_of(&candidates, &chosen);
    Ok(chosen)
}

/// Refuse to advertise an address of an overlay device: packets to it would need the tunnel.
fn check_public(candidates: &Candidates<'_>) -> Result<(), IfaceError> {
    for (flag, addr) in candidates.options.advertised() {
        let link = candidates.link_with(addr);
        let link = link.filter(|_| candidates.wants(addr));
        if let Some(overlay) = link.filter(|link| is_overlay(link)) {
            let name = overlay.name.clone();
            return Err(IfaceError::PublicIpOfOverlay(flag, addr, name));
        }
    }
    Ok(())
}

/// What was asked for and has no effect, and what other nodes may not reach.
fn warn_of(candidates: &Candidates<'_>, chosen: &Underlay) {
    for (flag, addr) in candidates.options.advertised() {
        if !candidates.wants(addr) {
            let family = Family::of(addr);
            warn!(
                code = "W0406",
                "{flag} has no effect: the network config does not enable {family}"
            );
        }
    }
    if let Some(IpAddr::V6(addr)) = chosen.public.v6
        && addr.is_unicast_link_local()
    {
        warn!(
            code = "W0407",
            "{} has only the link-local IPv6 address {addr}, which nodes on other links cannot send to",
            chosen.name
        );
    }
}

#[cfg(test)]
mod tests;
