//! The route that drops what goes to the own subnet and to no pod, so that it does not leave
//! the node by its default route (`-ip-blackhole-route`).

use super::netlink::{Netlink, NetlinkError, PROTOCOL_BOOT, PROTOCOL_WEFT, Route, RouteFilter};
use super::route::default_metric;
use ipnet::IpNet;
use tracing::{info, warn};

/// The least preferred metric: the local bridge's route to the same prefix must win.
const METRIC_LAST: u32 = u32::MAX;

const BLACKHOLES: RouteFilter = RouteFilter {
    index: None,
    protocol: None,
    blackhole: Some(true),
};

/// Drop what goes to `subnet` and has no longer or better route. Returns whether the route
/// was missing. One that somebody else has set is left as it is.
pub async fn ensure(netlink: &Netlink, subnet: IpNet) -> Result<bool, NetlinkError> {
    let destination = subnet.trunc();
    let present = netlink.routes_like(BLACKHOLES).await?;
    let there = |route: &Route| route.blackhole && route.destination == destination;
    if present.iter().any(there) {
        return Ok(false);
    }
    let route = Route {
        destination,
        index: None,
        gateway: None,
        source: None,
        metric: METRIC_LAST,
        universe: true,
        protocol: PROTOCOL_WEFT,
        blackhole: true,
    };
    netlink.replace_route(&route).await?;
    Ok(true)
}

/// Remove what earlier runs, or flanneld, have left inside a network whose subnets have a
/// prefix of `subnet_len`. For subnets other than the `own`: another node may have them by
/// now, and would be cut off from this one. For `own` ones all but the last in order: flanneld's,
/// which hides the bridge's route when the bridge is made anew. What cannot be removed is only
/// logged.
pub async fn remove_stale(netlink: &Netlink, (network, subnet_len): (IpNet, u8), own: &[IpNet]) {
    let present = netlink.routes_like(BLACKHOLES).await;
    let present = present.unwrap_or_else(|error| {
        warn!(
            code = "W0709",
            "{error}; blackhole routes of an earlier lease may be left"
        );
        Vec::new()
    });
    let is_stale = |route: &&Route| {
        let keeps = own.contains(&route.destination) && route.metric == METRIC_LAST;
        network.contains(&route.destination) && is_agents(route, subnet_len) && !keeps
    };
    for route in present.iter().filter(is_stale) {
        let subnet = route.destination;
        let (of, harm) = match own.contains(&subnet) {
            true => ("flanneld", "it drops what goes to the node's own pods"),
            false => ("an earlier lease", "it drops what goes to that node"),
        };
        match netlink.delete_route(route).await {
            Ok(()) => info!("removed the blackhole route to {subnet}, left by {of}"),
            Err(error) => warn!(code = "W0709", "{error}: {harm}"),
        }
    }
}

/// Whether an earlier run or flanneld made the blackhole; flanneld's are known by their form.
fn is_agents(route: &Route, subnet_len: u8) -> bool {
    let flannels = route.protocol == PROTOCOL_BOOT
        && route.metric == default_metric(route.destination)
        && route.destination.prefix_len() == subnet_len;
    route.blackhole && (route.protocol == PROTOCOL_WEFT || flannels)
}

#[cfg(test)]
mod tests {
    use super::super::{link, netns};
    use super::*;

    #[test]
    fn the_blackhole_gives_way_to_the_bridge() {
        netns::run(async |netlink| {
            netns::ip(&["link", "set", "lo", "up"]);
            for subnet in ["10.5.72.0/24", "fd00:5:0:72::/64"] {
                let subnet = subnet.parse().unwrap();
                assert!(ensure(&netlink, subnet).await.unwrap());
                assert!(!ensure(&netlink, subnet).await.unwrap());
            }
            assert!(netns::ip(&["route", "show"]).starts_with("blackhole 10.5.72.0/24"));
            let v6 = netns::ip(&["-6", "route", "show"]);
            assert!(v6.contains("blackhole fd00:5:0:72::/64"), "{v6}");
            let nowhere = netlink.route_to([10, 5, 72, 9].into()).await.unwrap();
            assert_eq!(nowhere, None);

            let bridge = netns::link(&netlink, "cni0").await;
            link::ensure_up(&netlink, &bridge, 1450).await.unwrap();
            netns::ip(&["address", "add", "10.5.72.1/24", "dev", "cni0"]);
            let pod = netlink.route_to([10, 5, 72, 9].into()).await.unwrap();
            assert_eq!(pod.unwrap().index, Some(bridge.index));
        });
    }

    #[test]
    fn flannelds_blackhole_of_the_own_subnet_goes() {
        netns::run(async |netlink| {
            netns::ip(&["link", "set", "lo", "up"]);
            let own: [IpNet; 2] =
                ["10.5.72.0/24", "fd00:5:0:72::/64"].map(|subnet| subnet.parse().unwrap());
            for subnet in &own {
                netns::ip(&["route", "add", "blackhole", &subnet.to_string()]);
            }
            // Made anew, the bridge gets its route behind flanneld's.
            let bridge = netns::link(&netlink, "cni0").await;
            link::ensure_up(&netlink, &bridge, 1450).await.unwrap();
            netns::ip(&["address", "add", "10.5.72.1/24", "dev", "cni0"]);
            let pod = [10, 5, 72, 9].into();
            assert_eq!(netlink.route_to(pod).await.unwrap(), None);

            for (network, subnet_len) in [("10.5.0.0/16", 24), ("fd00:5::/48", 64)] {
                let within = (network.parse().unwrap(), subnet_len);
                remove_stale(&netlink, within, &own).await;
            }
            assert_eq!(blackholes(&netlink).await, [] as [&str; 0]);
            for &subnet in &own {
                assert!(ensure(&netlink, subnet).await.unwrap());
            }
            let found = netlink.route_to(pod).await.unwrap();
            assert_eq!(found.unwrap().index, Some(bridge.index));
        });
    }

    async fn blackholes(netlink: &Netlink) -> Vec<String> {
        let mut routes = netlink.routes().await.unwrap();
        routes.retain(|route| route.blackhole);
        let routes = routes.iter();
        routes.map(|route| route.destination.to_string()).collect()
    }

    #[test]
    fn stale_blackholes_go_and_foreign_ones_stay() {
        netns::run(async |netlink| {
            netns::ip(&["link", "set", "lo", "up"]);
            let own: Vec<IpNet> = ["10.5.72.0/24", "fd00:5:0:72::/64"]
                .map(|subnet| subnet.parse().unwrap())
                .into();
            let stale = ["10.5.2.0/24", "10.5.3.0/25", "fd00:5:0:2::/64"];
            for &subnet in own
                .iter()
                .chain(&stale.map(|subnet| subnet.parse().unwrap()))
            {
                ensure(&netlink, subnet).await.unwrap();
            }
            let flannels = ["10.5.8.0/24", "fd00:5:0:8::/64"];
            let foreign = [
                "10.5.9.0/25",
                "10.5.10.0/24 metric 7",
                "10.5.11.0/24 proto static",
                "10.6.2.0/24",
                "fd00:6:0:2::/64",
            ];
            for blackhole in flannels.iter().chain(&foreign) {
                let words = ["route", "add", "blackhole"].into_iter();
                netns::ip(&words.chain(blackhole.split(' ')).collect::<Vec<_>>());
            }
            for (network, subnet_len) in [("10.5.0.0/16", 24), ("fd00:5::/48", 64)] {
                let within = (network.parse().unwrap(), subnet_len);
                remove_stale(&netlink, within, &own).await;
            }
            let mut left = blackholes(&netlink).await;
            left.sort_unstable();
            let destinations = foreign.map(|blackhole| blackhole.split(' ').next().unwrap());
            let mut expected: Vec<String> = destinations.map(str::to_owned).into();
            expected.extend(own.iter().map(IpNet::to_string));
            expected.sort_unstable();
            assert_eq!(left, expected);
        });
    }
}
