//! A Network that lies around this host's own addresses. flanneld routes the subnets of its
//! peers alone; the tunnel's one route would take all of it, the way to etcd and to the
//! peers' addresses with it.

use super::error::BackendError;
use super::host::Host;
use crate::config::{NetworkConfig, NetworkRange};
use crate::host::netlink::{Netlink, PROTOCOL_KERNEL, RouteFilter};
use ipnet::IpNet;
use std::net::IpAddr;

/// Refuse a network that cannot be routed into a tunnel.
pub(super) async fn check(host: &Host, config: &NetworkConfig) -> Result<(), BackendError> {
    for NetworkRange { network, .. } in config.ranges.present() {
        let local: Vec<IpAddr> = host.underlay.local.present().collect();
        if let Some((device, connected)) = find(&host.netlink, network, &local).await? {
            return Err(BackendError::OwnNetwork {
                network,
                device,
                connected,
            });
        }
    }
    Ok(())
}

/// The connected network, and its device, that a route to `network` would hide. Of one that is
/// larger only the part around `local` is known to be in use.
async fn find(
    netlink: &Netlink,
    network: IpNet,
    local: &[IpAddr],
) -> Result<Option<(String, IpNet)>, BackendError> {
    let network = network.trunc();
    let inside = local.iter().any(|addr| network.contains(addr));
    let links = netlink.links().await?;
    let kernels = RouteFilter {
        protocol: Some(PROTOCOL_KERNEL),
        ..RouteFilter::default()
    };
    for route in netlink.routes_like(kernels).await? {
        let connected = route.destination;
        let hidden = connected == network || (inside && connected.contains(&network));
        if connected.prefix_len() == 0 || !hidden {
            continue;
        }
        let device = links.iter().find(|link| Some(link.index) == route.index);
        // The tunnel's own device, or that of the flanneld before.
        if let Some(device) = device.filter(|link| !link.name.starts_with("flannel")) {
            return Ok(Some((device.name.clone(), connected)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    #[test]
    fn the_hosts_own_network_is_found() {
        netns::run(async |netlink| {
            for (device, addr) in [("eth0", "10.0.0.5/16"), ("flannel0", "10.9.0.1/16")] {
                netns::link(&netlink, device).await;
                netns::ip(&["address", "add", addr, "dev", device]);
                netns::ip(&["link", "set", device, "up"]);
            }
            let eth0 = |net: &str| Some(("eth0".to_owned(), net.parse().unwrap()));
            let (here, elsewhere) = ([10, 0, 0, 5].into(), [192, 0, 2, 1].into());
            for (network, local, expected) in [
                ("10.0.0.0/16", here, eth0("10.0.0.0/16")),
                ("10.0.0.0/16", elsewhere, eth0("10.0.0.0/16")),
                ("10.0.0.0/20", here, eth0("10.0.0.0/16")),
                // Beside what the host itself has, and around a more specific route.
                ("10.0.32.0/20", here, None),
                ("10.0.0.0/8", here, None),
                ("10.5.0.0/16", here, None),
                // What flanneld's udp backend leaves.
                ("10.9.0.0/16", here, None),
            ] {
                let found = find(&netlink, network.parse().unwrap(), &[local]).await;
                assert_eq!(found.unwrap(), expected, "{network}");
            }
        });
    }
}
