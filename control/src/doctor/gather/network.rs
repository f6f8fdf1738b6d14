//! What the kernel's netlink tells, and the firewall's programs.

use crate::doctor::facts::{HostFacts, LinkFacts};
use crate::host::firewall::host_chains;
use crate::host::netlink::{Netlink, NetlinkError, Port};
use crate::ping::Target;
use crate::status::{NodeStatus, PeerStatus};
use ipnet::IpNet;
use std::collections::BTreeMap;
use weft_dataplane::fastpath::{self, FILTER_PRIORITY};

/// By which device packets to a subnet leave.
pub(super) type RouteMap = BTreeMap<IpNet, String>;

/// Look; the routes to `peers`. What cannot be asked for is left out: all checks know that.
pub(super) fn look(
    facts: &mut HostFacts,
    status: Option<&NodeStatus>,
    peers: &[PeerStatus],
    port: u16,
) -> RouteMap {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_all().build() else {
        return RouteMap::new();
    };
    runtime.block_on(async {
        facts.chains = host_chains().await;
        ask_kernel(facts, status, peers, port)
            .await
            .unwrap_or_default()
    })
}

async fn ask_kernel(
    facts: &mut HostFacts,
    status: Option<&NodeStatus>,
    peers: &[PeerStatus],
    port: u16,
) -> Result<RouteMap, NetlinkError> {
    let netlink = Netlink::connect()?;
    let links = netlink.links().await?;
    let addresses = netlink.addresses().await?;
    facts.links = links
        .iter()
        .map(|link| LinkFacts {
            name: link.name.clone(),
            kind: link.kind.clone(),
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
            addresses: addresses
                .iter()
                .filter(|address| address.index == link.index)
                .map(|address| address.addr)
                .collect(),
        })
        .collect();
    for v6 in [false, true] {
        for link in netlink.vxlan_for(Port { number: port, v6 }).await? {
            let found = (link.name, link.up);
            if !facts.vxlan.contains(&found) {
                facts.vxlan.push(found);
            }
        }
    }
    let devices = status.map_or_else(Vec::new, |status| {
        let tunnels = status.tunnels.iter().map(|tunnel| tunnel.device.as_str());
        tunnels.chain([status.underlay.name.as_str()]).collect()
    });
    let filters = netlink.bpf_filters().await?;
    for device in devices {
        // Kernels without tcx links have no programs there.
        let names = fastpath::others(device).unwrap_or_default();
        let named = names.into_iter().map(|name| (device.to_owned(), name));
        facts.programs.extend(named);
        let index = links
            .iter()
            .find(|link| link.name == device)
            .map(|link| link.index);
        let of_others = filters
            .iter()
            .filter(|filter| Some(filter.index) == index && filter.priority != FILTER_PRIORITY);
        facts.programs.extend(of_others.map(|filter| {
            let name = format!("a filter of priority {}", filter.priority);
            (device.to_owned(), name)
        }));
    }
    let mut routes = RouteMap::new();
    for peer in peers {
        let route = netlink.route_to(Target::node(peer).address).await?;
        let index = route.and_then(|route| route.index);
        let link = links.iter().find(|link| Some(link.index) == index);
        if let Some(link) = link {
            routes.insert(peer.subnet, link.name.clone());
        }
    }
    Ok(routes)
}
