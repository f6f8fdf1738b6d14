//! The route that does not depend on peers: the whole Network through the tunnel device.

use super::netlink::{
    Link, METRIC_V6, Netlink, NetlinkError, PROTOCOL_BOOT, PROTOCOL_KERNEL, Route, RouteFilter,
};
use ipnet::IpNet;
use std::net::IpAddr;

/// Route `network` through `link` with this `metric` and `source` as the host's own source
/// address.
///
/// Other routes through `link` whose destination lies in `network` (of an earlier lease or
/// of flanneld's per-peer kind) are removed; those through other devices, such as the
/// local bridge's longer prefix, and those that the kernel made stay. Only one to `network`
/// itself that comes before ours gives way if it is of weft's or flanneld's kind.
pub async fn ensure(
    netlink: &Netlink,
    link: &Link,
    network: IpNet,
    metric: u32,
    source: IpAddr,
) -> Result<(), NetlinkError> {
    let wanted = Route {
        destination: network.trunc(),
        index: Some(link.index),
        gateway: None,
        source: Some(source),
        metric,
        universe: true,
        protocol: PROTOCOL_BOOT,
        blackhole: false,
    };
    let through = RouteFilter {
        index: wanted.index,
        ..RouteFilter::default()
    };
    let present = netlink.routes_like(through).await?;
    let missing = !present.contains(&wanted);
    // All routes of the host may be many.
    let present = match may_be_beaten(netlink, &wanted).await? {
        true => netlink.routes().await?,
        false => present,
    };
    let elsewhere =
        |route: &Route| route.destination == wanted.destination && route.index != wanted.index;
    let before: Vec<&Route> = present
        .iter()
        .filter(|r| elsewhere(r) && r.metric < wanted.metric && r.protocol == PROTOCOL_BOOT)
        .collect();
    let mut others = present.iter();
    let replaced = missing && others.any(|r| elsewhere(r) && r.metric == wanted.metric);
    if replaced || !before.is_empty() {
        tracing::warn!(
            code = "W0707",
            "the route to {network} went through another device; it goes through {} from here on",
            link.name
        );
    }
    if missing {
        netlink.replace_route(&wanted).await?;
    }
    for route in before {
        netlink.delete_route(route).await?;
    }
    let stale = |route: &&Route| {
        route.index == wanted.index
            && route.protocol != PROTOCOL_KERNEL
            && network.contains(&route.destination)
            && (route.destination, route.metric) != (wanted.destination, wanted.metric)
    };
    for route in present.iter().filter(stale) {
        tracing::info!(
            "removing stale route to {} from {}",
            route.destination,
            link.name
        );
        netlink.delete_route(route).await?;
    }
    Ok(())
}

/// Whether there may be another route to the same network that comes before `ours`, by what
/// becomes of a few addresses of it. Longer routes may hide the answer.
async fn may_be_beaten(netlink: &Netlink, ours: &Route) -> Result<bool, NetlinkError> {
    let network = ours.destination;
    let mut addresses = vec![network.addr()];
    let halves = network.subnets(network.prefix_len() + 1);
    addresses.extend(halves.into_iter().flatten().map(|half| half.broadcast()));
    for addr in addresses {
        match netlink.entry_for(addr).await? {
            Some(entry) if entry.destination == network => return Ok(entry.index != ours.index),
            // The longest prefix wins: there is no route to the network at all.
            Some(entry) if entry.destination.contains(&network) => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}

/// The metric of a route to `network` that is added without one.
pub fn default_metric(network: IpNet) -> u32 {
    match network {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => METRIC_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{link, netns};
    use super::*;

    async fn device(netlink: &Netlink, network: IpNet, addr: IpAddr) -> Link {
        let device = netns::link(netlink, "flannel.1").await;
        link::ensure_up(netlink, &device, 1450).await.unwrap();
        link::ensure_address(netlink, &device, addr, &[network])
            .await
            .unwrap();
        device
    }

    #[test]
    fn one_route_for_the_network() {
        netns::run(async |netlink| {
            let (network, addr) = ("10.5.0.0/16".parse().unwrap(), [10, 5, 72, 0].into());
            let device = device(&netlink, network, addr).await;
            for _ in 0..2 {
                ensure(&netlink, &device, network, default_metric(network), addr)
                    .await
                    .unwrap();
                let shown = netns::ip(&["route", "show"]);
                assert_eq!(shown.trim(), "10.5.0.0/16 dev flannel.1 src 10.5.72.0");
            }
            let to_pod = netns::ip(&["route", "get", "10.5.9.3"]);
            assert!(to_pod.contains("dev flannel.1 src 10.5.72.0"), "{to_pod}");
        });
    }

    #[test]
    fn stale_routes_go_and_foreign_ones_stay() {
        netns::run(async |netlink| {
            let (network, addr) = ("10.5.0.0/16".parse().unwrap(), [10, 5, 72, 0].into());
            let device = device(&netlink, network, addr).await;
            let bridge = netns::link(&netlink, "cni0").await;
            link::ensure_up(&netlink, &bridge, 1450).await.unwrap();
            netns::ip(&["route", "add", "10.5.72.0/24", "dev", "cni0"]);
            netns::ip(&["route", "add", "192.168.0.0/24", "dev", "flannel.1"]);
            netns::ip(&[
                "route",
                "add",
                "10.5.0.0/16",
                "dev",
                "flannel.1",
                "metric",
                "7",
            ]);
            let stale = "10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink";
            let add: Vec<&str> = ["route", "add"]
                .into_iter()
                .chain(stale.split(' '))
                .collect();
            netns::ip(&add);
            ensure(&netlink, &device, network, default_metric(network), addr)
                .await
                .unwrap();
            let shown = netns::ip(&["route", "show"]);
            let mut lines: Vec<&str> = shown.lines().map(str::trim).collect();
            lines.sort_unstable();
            assert_eq!(
                lines,
                [
                    "10.5.0.0/16 dev flannel.1 src 10.5.72.0",
                    "10.5.72.0/24 dev cni0 scope link",
                    "192.168.0.0/24 dev flannel.1 scope link",
                ]
            );
        });
    }

    #[test]
    fn a_better_route_through_another_device_gives_way() {
        netns::run(async |netlink| {
            let (network, addr) = ("10.5.0.0/16".parse().unwrap(), [10, 5, 72, 0].into());
            let device = device(&netlink, network, addr).await;
            let former = netns::link(&netlink, "flannel.7").await;
            link::ensure_up(&netlink, &former, 1450).await.unwrap();
            let add = |route: &str| {
                let words = ["route", "add"].into_iter().chain(route.split(' '));
                netns::ip(&words.collect::<Vec<_>>());
            };
            add("10.5.0.0/17 dev flannel.7");
            add("10.5.0.0/16 dev flannel.7 metric 1 proto static");
            add("10.5.0.0/16 dev flannel.7 metric 9");
            for _ in 0..2 {
                // The second time ours is there, and somebody has put one before it.
                add("10.5.0.0/16 dev flannel.7");
                ensure(&netlink, &device, network, 2, addr).await.unwrap();
                let shown = netns::ip(&["route", "show"]);
                let lines: Vec<&str> = shown.lines().map(str::trim).collect();
                assert_eq!(
                    lines,
                    [
                        "10.5.0.0/17 dev flannel.7 scope link",
                        "10.5.0.0/16 dev flannel.7 proto static scope link metric 1",
                        "10.5.0.0/16 dev flannel.1 src 10.5.72.0 metric 2",
                        "10.5.0.0/16 dev flannel.7 scope link metric 9",
                    ]
                );
            }
        });
    }

    #[test]
    fn a_new_lease_moves_the_source() {
        netns::run(async |netlink| {
            let (network, addr) = ("10.5.0.0/16".parse().unwrap(), [10, 5, 72, 0].into());
            let device = device(&netlink, network, addr).await;
            ensure(&netlink, &device, network, default_metric(network), addr)
                .await
                .unwrap();
            let addr: IpAddr = [10, 5, 80, 0].into();
            link::ensure_address(&netlink, &device, addr, &[network])
                .await
                .unwrap();
            ensure(&netlink, &device, network, default_metric(network), addr)
                .await
                .unwrap();
            let shown = netns::ip(&["route", "show"]);
            assert_eq!(shown.trim(), "10.5.0.0/16 dev flannel.1 src 10.5.80.0");
        });
    }

    #[test]
    fn one_route_for_the_network_of_ipv6() {
        netns::run(async |netlink| {
            let (network, addr) = (
                "fd00:5::/32".parse().unwrap(),
                "fd00:5:0:72::".parse().unwrap(),
            );
            let device = device(&netlink, network, addr).await;
            for stale in [
                "fd00:5:0:9::/64 via fd00:5:0:9:: dev flannel.1 onlink",
                "fd00:5::/32 dev flannel.1 metric 7",
            ] {
                let add = ["-6", "route", "add"].into_iter().chain(stale.split(' '));
                netns::ip(&add.collect::<Vec<_>>());
            }
            for _ in 0..2 {
                ensure(&netlink, &device, network, default_metric(network), addr)
                    .await
                    .unwrap();
                let shown = netns::ip(&["-6", "route", "show", "dev", "flannel.1"]);
                let ours = shown.lines().filter(|line| line.starts_with("fd00:"));
                let ours: Vec<&str> = ours.map(str::trim).collect();
                assert_eq!(ours.len(), 2, "{shown}");
                assert!(ours[0].starts_with("fd00:5:0:72:: proto kernel"), "{shown}");
                assert!(
                    ours[1].starts_with("fd00:5::/32 src fd00:5:0:72::"),
                    "{shown}"
                );
            }
            let wanted = netlink.routes().await.unwrap();
            assert!(
                wanted
                    .iter()
                    .any(|r| r.destination == network && r.metric == METRIC_V6)
            );
        });
    }

    #[test]
    fn look_ups_tell_gateways_and_own_addresses() {
        netns::run(async |netlink| {
            let eth0 = netns::link(&netlink, "eth0").await;
            netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
            link::ensure_up(&netlink, &eth0, 1500).await.unwrap();
            let none = netlink.route_to([198, 51, 100, 1].into()).await.unwrap();
            assert_eq!(none, None);
            netns::ip(&["route", "add", "default", "via", "192.0.2.254"]);
            let far = netlink.route_to([198, 51, 100, 1].into()).await.unwrap();
            let far = far.unwrap();
            assert_eq!(far.gateway, Some([192, 0, 2, 254].into()));
            let near = netlink.route_to([192, 0, 2, 9].into()).await.unwrap();
            let near = near.unwrap();
            assert_eq!((near.gateway, near.index), (None, Some(eth0.index)));
            assert_eq!(netlink.route_to([192, 0, 2, 1].into()).await.unwrap(), None);
        });
    }
}
