//! Kernel routes straight to the nodes on the same link: all of host-gw, and the
//! `DirectRouting` of vxlan.
//!
//! They are held against the kernel's when peers change and from time to time, so that what
//! others removed or changed is mended and what is left of nodes that are gone is removed,
//! also if that happened while no agent ran. flannel's routes look the same but for the
//! protocol number and are taken over.

use super::Host;
use super::peers::Peer;
use crate::host::netlink::{NetlinkError, PROTOCOL_BOOT, Route};
use crate::host::route::default_metric;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tracing::{info, warn};

/// The routing protocol number of our routes (rtnetlink(7)), by which a later run knows them.
/// None of the well-known daemons has it.
pub(super) const PROTOCOL: u8 = 119;

/// Which peers get a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// None; routes of an earlier run go.
    None,
    /// Those on the same link; others are reached in another way.
    OnLink,
    /// All; those that are not on the same link cannot be reached.
    All,
}

/// The routes to all peers of one address family.
pub(super) struct DirectRoutes {
    which: Which,
    network: IpNet,
    subnet_len: u8,
    /// What was last said about a subnet whose route cannot be had.
    complaints: BTreeMap<IpNet, String>,
}

impl DirectRoutes {
    /// Routes to subnets of `network`, which have `subnet_len` bits.
    pub(super) fn new(which: Which, network: IpNet, subnet_len: u8) -> DirectRoutes {
        DirectRoutes {
            which,
            network: network.trunc(),
            subnet_len,
            complaints: BTreeMap::new(),
        }
    }

    /// Make the kernel's routes those that `peers` need; returns how many these are.
    ///
    /// A route that the kernel refuses costs the others nothing; the next call tries again.
    pub(super) async fn reconcile(
        &mut self,
        host: &Host,
        peers: impl Iterator<Item = &Peer>,
    ) -> Result<usize, NetlinkError> {
        let wanted = self.wanted(host, peers).await?;
        let present = host.netlink.routes().await?;
        for route in wanted.values() {
            if present.iter().any(|there| same(there, route)) {
                self.complaints.remove(&route.destination);
                continue;
            }
            match host.netlink.replace_route(route).await {
                Ok(()) => {
                    self.complaints.remove(&route.destination);
                    tracing::debug!("routing {}", describe(route));
                }
                Err(error) => self.complain(route.destination, error.to_string()),
            }
        }
        let is_wanted = |route: &Route| {
            let wanted = wanted.get(&route.destination);
            wanted.is_some_and(|wanted| same(route, wanted))
        };
        for route in &present {
            if self.is_ours(host, route) && !is_wanted(route) {
                info!("removing the route {}", describe(route));
                host.netlink.delete_route(route).await?;
            }
        }
        Ok(wanted.len())
    }

    async fn wanted(
        &mut self,
        host: &Host,
        peers: impl Iterator<Item = &Peer>,
    ) -> Result<BTreeMap<IpNet, Route>, NetlinkError> {
        let mut wanted = BTreeMap::new();
        if self.which == Which::None {
            return Ok(wanted);
        }
        let mut listed = Vec::new();
        for peer in peers {
            listed.push(peer.subnet);
            if is_on_link(host, peer.addr).await? {
                wanted.insert(peer.subnet, route_to(host, peer));
            } else if self.which == Which::All {
                let reason = format!(
                    "{} is not on the link of {}: host-gw has no way to it; use vxlan between networks",
                    peer.addr, host.underlay.name
                );
                self.complain(peer.subnet, reason);
            }
        }
        self.complaints.retain(|subnet, _| listed.contains(subnet));
        Ok(wanted)
    }

    fn complain(&mut self, subnet: IpNet, reason: String) {
        if self.complaints.get(&subnet) != Some(&reason) {
            warn!("no route to {subnet}: {reason}");
            self.complaints.insert(subnet, reason);
        }
    }

    /// Whether we, an earlier run or flanneld made the route.
    fn is_ours(&self, host: &Host, route: &Route) -> bool {
        let destination = route.destination;
        let form = route.gateway.is_some()
            && route.index == Some(host.underlay.index)
            && self.network.contains(&destination)
            && destination != self.network;
        let flannels = || {
            self.which != Which::None
                && route.protocol == PROTOCOL_BOOT
                && route.metric == default_metric(destination)
                && destination.prefix_len() == self.subnet_len
        };
        form && (route.protocol == PROTOCOL || flannels())
    }
}

fn route_to(host: &Host, peer: &Peer) -> Route {
    Route {
        destination: peer.subnet,
        index: Some(host.underlay.index),
        gateway: Some(peer.addr),
        source: None,
        metric: default_metric(peer.subnet),
        universe: true,
        protocol: PROTOCOL,
        blackhole: false,
    }
}

/// Whether packets to `addr` leave by the underlay interface without a gateway.
async fn is_on_link(host: &Host, addr: IpAddr) -> Result<bool, NetlinkError> {
    let route = host.netlink.route_to(addr).await?;
    Ok(route.is_some_and(|r| r.gateway.is_none() && r.index == Some(host.underlay.index)))
}

/// Whether both lead the same way.
fn same(a: &Route, b: &Route) -> bool {
    let key = |route: &Route| (route.destination, route.gateway, route.index, route.metric);
    key(a) == key(b)
}

fn describe(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    }
}

#[cfg(test)]
mod tests;
