//! Kernel routes straight to the nodes on the same link: all of host-gw, and the
//! `DirectRouting` of vxlan.
//!
//! They are held against the kernel's when peers change and from time to time, so that what
//! others removed or changed is mended and what is left of nodes that are gone is removed,
//! also if that happened while no agent ran, or the interface was another one then. flannel's
//! routes look the same but for the protocol number and are taken over at the start; later ones
//! like them are somebody else's.

use super::host::Host;
use super::peers::Peer;
use crate::host::netlink::{
    Link, NetlinkError, PROTOCOL_BOOT, PROTOCOL_KERNEL, PROTOCOL_WEFT, Route, RouteFilter,
};
use crate::host::route::default_metric;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tracing::{info, warn};

/// Which peers get a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoutedPeers {
    /// None; routes of an earlier run go, and those of flanneld's host-gw, which would hide
    /// the peers from the tunnel.
    None,
    /// Those on the same link; others are reached in another way.
    OnLink,
    /// All; those that are not on the same link cannot be reached.
    All,
}

/// The routes to all peers of one address family.
pub(super) struct DirectRoutes {
    routed: RoutedPeers,
    network: IpNet,
    subnet_len: u8,
    /// Whether what flanneld left is taken over already.
    taken_over: bool,
    /// Where a tunnel carries the peers, those to whom flanneld's route is known to be gone.
    freed: BTreeSet<IpNet>,
    /// What was last said about a destination whose route is not as it should be.
    complaints: Complaints,
    /// Destinations of routes that are in the kernel as far as the last look could tell.
    programmed: BTreeSet<IpNet>,
    settled: bool,
}

/// What is wrong, by destination.
type Complaints = BTreeMap<IpNet, String>;

impl DirectRoutes {
    /// Routes to subnets of `network`, which have `subnet_len` bits.
    pub(super) fn new(routed: RoutedPeers, network: IpNet, subnet_len: u8) -> DirectRoutes {
        DirectRoutes {
            routed,
            network: network.trunc(),
            subnet_len,
            taken_over: false,
            freed: BTreeSet::new(),
            complaints: Complaints::new(),
            programmed: BTreeSet::new(),
            settled: false,
        }
    }

    /// Routes that the last [`DirectRoutes::reconcile`] found or made.
    pub(super) fn programmed(&self) -> usize {
        self.programmed.len()
    }

    /// Whether one of these leads to `subnet`, so that no tunnel does.
    pub(super) fn leads_to(&self, subnet: IpNet) -> bool {
        self.programmed.contains(&subnet)
    }

    /// Whether that could do its work. A peer that has no way, or whose route alone the kernel
    /// refuses, is that peer's trouble; if it refuses all, the node's.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Make the kernel's routes those that `peers` need; returns how many of these
    /// the kernel has.
    ///
    /// A route that the kernel refuses to set or to remove costs the others nothing; the next
    /// call tries again.
    pub(super) async fn reconcile(
        &mut self,
        host: &Host,
        peers: impl Iterator<Item = &Peer> + Clone,
    ) -> Result<usize, NetlinkError> {
        let mut complaints = Complaints::new();
        self.programmed.clear();
        self.settled = false;
        // By name: a bond or VLAN that is made anew gets another index.
        let name = &host.underlay.name;
        let found = host.netlink.link(name).await?;
        let underlay = found.filter(|link| link.up);
        let mut wanted = match (self.routed, &underlay) {
            (RoutedPeers::None, _) => BTreeMap::new(),
            (_, Some(underlay)) => {
                let peers = peers.clone();
                self.wanted(host, underlay, peers, &mut complaints).await?
            }
            (_, None) => {
                // The routes went with it.
                let reason = format!("{name} is down or gone: no routes through it; trying again");
                complaints.insert(self.network, reason);
                self.complain(complaints);
                return Ok(0);
            }
        };
        let index = underlay.map(|underlay| underlay.index);
        let present = self.present(host, index, peers.clone()).await?;
        let kernels = |there: &&Route| there.protocol == PROTOCOL_KERNEL;
        for Route { destination, .. } in present.iter().filter(kernels) {
            if let Some(route) = wanted.remove(destination) {
                let reason = format!(
                    "not routing {}: that is a network of this host",
                    describe(&route)
                );
                complaints.insert(*destination, reason);
            }
        }
        self.program(host, &present, &wanted, &mut complaints).await;
        self.sweep(host, &present, &wanted, index, peers, &mut complaints)
            .await;
        self.complain(complaints);
        Ok(self.programmed.len())
    }

    /// The kernel's routes that may be ours, or in the way of ours: of all routes of the host,
    /// which may be many, few. `underlay` is the index of the device, if up.
    async fn present(
        &self,
        host: &Host,
        underlay: Option<u32>,
        mut peers: impl Iterator<Item = &Peer>,
    ) -> Result<Vec<Route>, NetlinkError> {
        let by = |protocol| RouteFilter {
            protocol: Some(protocol),
            ..RouteFilter::default()
        };
        let mut present = host.netlink.routes_like(by(PROTOCOL_WEFT)).await?;
        present.extend(host.netlink.routes_like(by(PROTOCOL_KERNEL)).await?);
        let flannels = match self.routed {
            RoutedPeers::None => peers.any(|peer| !self.freed.contains(&peer.subnet)),
            RoutedPeers::OnLink | RoutedPeers::All => !self.taken_over,
        };
        if flannels && underlay.is_some() {
            let flannels = RouteFilter {
                index: underlay,
                ..by(PROTOCOL_BOOT)
            };
            present.extend(host.netlink.routes_like(flannels).await?);
        }
        Ok(present)
    }

    /// Set what is wanted and not there yet.
    async fn program(
        &mut self,
        host: &Host,
        present: &[Route],
        wanted: &BTreeMap<IpNet, Route>,
        complaints: &mut Complaints,
    ) {
        let mut programmed: BTreeSet<IpNet> = wanted.keys().copied().collect();
        let there: BTreeSet<_> = present.iter().map(identity).collect();
        for route in wanted.values() {
            if there.contains(&identity(route)) {
                continue;
            }
            match host.netlink.replace_route(route).await {
                Ok(()) => tracing::debug!("routing {}", describe(route)),
                Err(error) => {
                    programmed.remove(&route.destination);
                    complaints.insert(route.destination, format!("{error}; trying again"));
                }
            }
        }
        self.settled = programmed.len() == wanted.len() || !programmed.is_empty();
        self.programmed = programmed;
    }

    /// Remove what is ours and no longer wanted. `underlay` is the index of the device, if up.
    async fn sweep(
        &mut self,
        host: &Host,
        present: &[Route],
        wanted: &BTreeMap<IpNet, Route>,
        underlay: Option<u32>,
        peers: impl Iterator<Item = &Peer> + Clone,
        complaints: &mut Complaints,
    ) {
        let is_flannels = |route: &Route| {
            underlay.is_some() && route.index == underlay && {
                let mut peers = peers.clone();
                match self.routed {
                    // A route that is more specific than the tunnel's hides the peer.
                    RoutedPeers::None => peers.any(|peer| {
                        peer.subnet == route.destination
                            && Some(peer.addr) == route.gateway
                            && !self.freed.contains(&peer.subnet)
                    }),
                    _ => !self.taken_over && route.destination.prefix_len() == self.subnet_len,
                }
            }
        };
        let is_stale = |route: &&Route| {
            let wanted = wanted.get(&route.destination);
            self.is_ours(route, is_flannels) && wanted.is_none_or(|wanted| !leads_as(route, wanted))
        };
        let mut taken_over = true;
        let mut freed: BTreeSet<_> = match self.routed {
            RoutedPeers::None if underlay.is_some() => {
                peers.clone().map(|peer| peer.subnet).collect()
            }
            _ => BTreeSet::new(),
        };
        for route in present.iter().filter(is_stale) {
            match host.netlink.delete_route(route).await {
                Ok(()) => info!("removed the route {}", describe(route)),
                Err(error) => {
                    taken_over = false;
                    freed.remove(&route.destination);
                    complaints.insert(route.destination, format!("{error}; trying again"));
                }
            }
        }
        self.taken_over |= taken_over;
        self.freed = freed;
    }

    async fn wanted(
        &self,
        host: &Host,
        underlay: &Link,
        peers: impl Iterator<Item = &Peer> + Clone,
        complaints: &mut Complaints,
    ) -> Result<BTreeMap<IpNet, Route>, NetlinkError> {
        let mut wanted = BTreeMap::new();
        let mut in_tunnel = Vec::new();
        for peer in peers.clone() {
            if is_on_link(host, underlay, peer.addr).await? {
                wanted.insert(peer.subnet, route_to(underlay, peer));
            } else if self.routed == RoutedPeers::All {
                let reason = format!(
                    "no route to {}: {} is not on the link of {}: host-gw has no way to it; use vxlan between networks",
                    peer.subnet, peer.addr, underlay.name
                );
                complaints.insert(peer.subnet, reason);
            } else {
                in_tunnel.push(peer.subnet);
            }
        }
        // A kernel route would hide what lies inside it from the tunnel.
        for outer in in_tunnel.into_iter().flat_map(|net| self.around(net)) {
            wanted.remove(&outer);
        }
        let nodes = peers
            .map(|peer| peer.addr)
            .chain(host.underlay.local.present());
        for node in nodes.filter(|node| self.network.contains(node)) {
            for outer in self.around(node.into()) {
                if let Some(route) = wanted.remove(&outer) {
                    let route = describe(&route);
                    let reason = format!(
                        "not routing {route}: {node} of the nodes' own network lies inside"
                    );
                    complaints.insert(outer, reason);
                }
            }
        }
        Ok(wanted)
    }

    /// All subnets of the network that `net` lies in, itself among them.
    fn around(&self, net: IpNet) -> impl Iterator<Item = IpNet> + use<> {
        let lengths = self.network.prefix_len()..=net.prefix_len();
        let cut = move |len| IpNet::new(net.addr(), len).ok();
        lengths.filter_map(cut).map(|outer| outer.trunc())
    }

    /// Say what was not said the last time.
    fn complain(&mut self, complaints: Complaints) {
        for (destination, reason) in &complaints {
            if self.complaints.get(destination) != Some(reason) {
                warn!(code = "W0706", "{reason}");
            }
        }
        self.complaints = complaints;
    }

    /// Whether we, an earlier run or flanneld made the route. One of ours may leave by the
    /// interface of an earlier run; those of other networks are another agent's of this host.
    fn is_ours(&self, route: &Route, is_flannels: impl Fn(&Route) -> bool) -> bool {
        let destination = route.destination;
        let form = route.gateway.is_some()
            && self.network.contains(&destination)
            && destination != self.network;
        let flannels = || {
            route.protocol == PROTOCOL_BOOT
                && route.metric == default_metric(destination)
                && is_flannels(route)
        };
        form && (route.protocol == PROTOCOL_WEFT || flannels())
    }
}

fn route_to(underlay: &Link, peer: &Peer) -> Route {
    Route {
        destination: peer.subnet,
        index: Some(underlay.index),
        gateway: Some(peer.addr),
        source: None,
        metric: default_metric(peer.subnet),
        universe: true,
        protocol: PROTOCOL_WEFT,
        blackhole: false,
    }
}

/// Whether packets to `addr` leave by the underlay interface without a gateway.
async fn is_on_link(host: &Host, underlay: &Link, addr: IpAddr) -> Result<bool, NetlinkError> {
    if matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local()) {
        // All interfaces have a route to it: it is ours to say which to take.
        return Ok(true);
    }
    let route = host.netlink.route_to(addr).await?;
    Ok(route.is_some_and(|r| r.gateway.is_none() && r.index == Some(underlay.index)))
}

/// Whether both lead the same way.
fn leads_as(a: &Route, b: &Route) -> bool {
    let key = |route: &Route| (route.destination, route.gateway, route.index, route.metric);
    key(a) == key(b)
}

/// Where it leads, and whose it is.
fn identity(route: &Route) -> (IpNet, Option<IpAddr>, Option<u32>, u32, u8) {
    (
        route.destination,
        route.gateway,
        route.index,
        route.metric,
        route.protocol,
    )
}

fn describe(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    }
}

#[cfg(test)]
mod tests;
