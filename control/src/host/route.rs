//! The one route: the whole Network through the tunnel device.

use super::netlink::{Link, Netlink, NetlinkError, Route};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Route `network` through `link` with `source` as the host's own source address.
///
/// Other routes through `link` whose destination lies in `network` (of an earlier lease or
/// of flanneld's per-peer kind) are removed; those through other devices, such as the
/// local bridge's longer prefix, stay.
pub async fn ensure(
    netlink: &Netlink,
    link: &Link,
    network: Ipv4Net,
    source: Ipv4Addr,
) -> Result<(), NetlinkError> {
    let wanted = Route {
        destination: network.trunc(),
        index: Some(link.index),
        gateway: None,
        source: Some(source),
        metric: 0,
        universe: true,
    };
    let present = netlink.routes().await?;
    if !present.contains(&wanted) {
        let key = |route: &Route| (route.destination, route.metric);
        let mut others = present.iter();
        if others.any(|r| key(r) == key(&wanted) && r.index != wanted.index) {
            tracing::warn!(
                "the route to {network} went through another device; it goes through {} from here on",
                link.name
            );
        }
        netlink.replace_route(&wanted).await?;
    }
    let stale = |route: &&Route| {
        route.index == wanted.index
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

#[cfg(test)]
mod tests {
    use super::super::{link, netns};
    use super::*;

    async fn device(netlink: &Netlink, network: Ipv4Net, addr: Ipv4Addr) -> Link {
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
                ensure(&netlink, &device, network, addr).await.unwrap();
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
            ensure(&netlink, &device, network, addr).await.unwrap();
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
    fn a_new_lease_moves_the_source() {
        netns::run(async |netlink| {
            let (network, addr) = ("10.5.0.0/16".parse().unwrap(), [10, 5, 72, 0].into());
            let device = device(&netlink, network, addr).await;
            ensure(&netlink, &device, network, addr).await.unwrap();
            let addr = [10, 5, 80, 0].into();
            link::ensure_address(&netlink, &device, addr, &[network])
                .await
                .unwrap();
            ensure(&netlink, &device, network, addr).await.unwrap();
            let shown = netns::ip(&["route", "show"]);
            assert_eq!(shown.trim(), "10.5.0.0/16 dev flannel.1 src 10.5.80.0");
        });
    }
}
