//! The tunnel device's attributes and address.

use super::netlink::{Address, Link, Netlink, NetlinkError};
use super::sysctl;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Transmit queue length of the tunnel device in packets. The kernel's default for a TUN
/// (500) overflows when a few senders hand over full bursts at once.
pub const TXQUEUELEN: u32 = 1000;

/// A device called like ours that is not ours to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceConflict {
    /// A kernel VXLAN device, left by flanneld.
    #[error(
        "{name} is a kernel VXLAN device left by flanneld, which also holds the VXLAN port; stop flanneld and remove it: ip link del {name}"
    )]
    KernelVxlan {
        /// Device name.
        name: String,
    },
    /// Something else.
    #[error("{name} exists and is not a TUN device ({kind}); remove it: ip link del {name}")]
    OtherKind {
        /// Device name.
        name: String,
        /// What it is.
        kind: String,
    },
}

/// Whether a link of the tunnel device's name stands in the way of creating it.
pub fn conflict(link: &Link) -> Option<DeviceConflict> {
    let name = link.name.clone();
    match link.kind.as_deref() {
        Some("tun") => None,
        Some("vxlan") => Some(DeviceConflict::KernelVxlan { name }),
        kind => Some(DeviceConflict::OtherKind {
            name,
            kind: kind.unwrap_or("hardware").to_owned(),
        }),
    }
}

/// Give `link` its MTU and queue length, keep IPv6 autoconfiguration off it, bring it up.
pub async fn ensure_up(netlink: &Netlink, link: &Link, mtu: u32) -> Result<(), NetlinkError> {
    if link.mtu != mtu || link.txqueuelen != TXQUEUELEN {
        netlink.set_link(link, mtu, TXQUEUELEN).await?;
    }
    sysctl::quiet_ipv6(&link.name);
    if !link.up {
        netlink.set_link_up(link).await?;
    }
    Ok(())
}

/// Give `link` the address `addr`/32.
///
/// Other addresses of it that lie in one of `networks`, which are those of the network
/// config now and before, are of earlier leases and go, and with them the routes that have
/// them as source. Foreign addresses stay.
pub async fn ensure_address(
    netlink: &Netlink,
    link: &Link,
    addr: Ipv4Addr,
    networks: &[Ipv4Net],
) -> Result<(), NetlinkError> {
    let mut present = netlink.addresses().await?;
    present.retain(|address| address.index == link.index);
    let wanted = |address: &Address| address.addr == addr && address.prefix_len == 32;
    if !present.iter().any(wanted) {
        netlink.add_address(link, addr, 32).await?;
    }
    let ours = |address: &Address| networks.iter().any(|n| n.contains(&address.addr));
    for address in present.iter().filter(|a| ours(a) && !wanted(a)) {
        tracing::info!(
            "removing {}/{} of an earlier lease from {}",
            address.addr,
            address.prefix_len,
            link.name
        );
        netlink.delete_address(address).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::netns;
    use super::*;

    const NETWORK: &str = "10.5.0.0/16";

    async fn on_device(netlink: &Netlink, link: &Link) -> Vec<String> {
        let all = netlink.addresses().await.unwrap();
        let own = all.iter().filter(|a| a.index == link.index);
        let mut own: Vec<String> = own
            .map(|a| format!("{}/{}", a.addr, a.prefix_len))
            .collect();
        own.sort();
        own
    }

    #[test]
    fn u24_ensure_address_keeps_foreign_ones() {
        netns::run(async |netlink| {
            let link = netns::link(&netlink, "flannel.1").await;
            netns::ip(&["address", "add", "10.5.9.0/32", "dev", "flannel.1"]);
            netns::ip(&["address", "add", "10.5.72.0/24", "dev", "flannel.1"]);
            netns::ip(&["address", "add", "192.168.7.1/24", "dev", "flannel.1"]);
            let networks = [NETWORK.parse().unwrap()];
            for _ in 0..2 {
                let addr = Ipv4Addr::new(10, 5, 72, 0);
                ensure_address(&netlink, &link, addr, &networks)
                    .await
                    .unwrap();
                let addresses = on_device(&netlink, &link).await;
                assert_eq!(addresses, ["10.5.72.0/32", "192.168.7.1/24"]);
            }
        });
    }

    #[test]
    fn addresses_of_other_devices_stay() {
        netns::run(async |netlink| {
            let link = netns::link(&netlink, "flannel.1").await;
            let bridge = netns::link(&netlink, "cni0").await;
            netns::ip(&["address", "add", "10.5.72.1/24", "dev", "cni0"]);
            let networks = [NETWORK.parse().unwrap()];
            let addr = Ipv4Addr::new(10, 5, 72, 0);
            ensure_address(&netlink, &link, addr, &networks)
                .await
                .unwrap();
            assert_eq!(on_device(&netlink, &bridge).await, ["10.5.72.1/24"]);
        });
    }

    #[test]
    fn ensure_up_sets_mtu_queue_and_state() {
        netns::run(async |netlink| {
            let link = netns::link(&netlink, "flannel.1").await;
            assert!(!link.up);
            ensure_up(&netlink, &link, 1450).await.unwrap();
            let link = netlink.link("flannel.1").await.unwrap().unwrap();
            assert!(link.up);
            assert_eq!((link.mtu, link.txqueuelen), (1450, TXQUEUELEN));
            ensure_up(&netlink, &link, 1450).await.unwrap();
            let again = netlink.link("flannel.1").await.unwrap().unwrap();
            assert_eq!(again, link);
        });
    }

    #[test]
    fn absent_links_and_deletion() {
        netns::run(async |netlink| {
            assert_eq!(netlink.link("flannel.1").await.unwrap(), None);
            let link = netns::link(&netlink, "flannel.1").await;
            netlink.delete_link(&link).await.unwrap();
            netlink.delete_link(&link).await.unwrap();
            assert_eq!(netlink.link("flannel.1").await.unwrap(), None);
        });
    }

    #[test]
    fn left_over_devices_are_named_with_the_remedy() {
        netns::run(async |netlink| {
            let veth = netns::link(&netlink, "flannel.1").await;
            let found = conflict(&veth).unwrap().to_string();
            assert!(found.contains("(veth)"), "{found}");
            netlink.delete_link(&veth).await.unwrap();

            let vxlan = ["type", "vxlan", "id", "1", "dstport", "8472"];
            netns::ip(&[&["link", "add", "flannel.1"], &vxlan[..]].concat());
            let vxlan = netlink.link("flannel.1").await.unwrap().unwrap();
            let found = conflict(&vxlan).unwrap().to_string();
            assert!(found.ends_with("ip link del flannel.1"), "{found}");
            netlink.delete_link(&vxlan).await.unwrap();

            netns::ip(&["tuntap", "add", "flannel.1", "mode", "tun"]);
            let tun = netlink.link("flannel.1").await.unwrap().unwrap();
            assert_eq!(conflict(&tun), None);
        });
    }
}
