//! The tunnel device's attributes and address.

use super::netlink::{Address, Link, Netlink, NetlinkError};
use super::sysctl;
use crate::wire::MacAddr;
use ipnet::IpNet;
use std::net::IpAddr;

/// Transmit queue length of the tunnel device in packets. The kernel's default for a TUN
/// (500) overflows when a few senders hand over full bursts at once.
pub const TXQUEUELEN: u32 = 1000;

/// What the aliases of all devices that agents make begin with.
pub const MARK: &str = "weft ";

/// The longest alias in bytes (`IFALIASZ`, less the end).
const ALIAS_MAX: usize = 255;

/// The alias of the devices of the agent called `name`; `None` if it would be too long.
pub fn mark(name: &str) -> Option<String> {
    let mark = format!("{MARK}{name}");
    (mark.len() <= ALIAS_MAX).then_some(mark)
}

/// Whether an agent of this host, not necessarily this one, has made `link`.
pub fn is_marked(link: &Link) -> bool {
    let alias = link.alias.as_deref();
    alias.is_some_and(|alias| alias.starts_with(MARK))
}

/// A device called like ours that is not ours to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} exists and is not a TUN device ({kind}); remove it: ip link del {name}")]
pub struct DeviceConflict {
    name: String,
    kind: String,
}

/// What a link of the tunnel device's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// A TUN, left by an earlier run.
    Tun,
    /// A kernel VXLAN device, left by flanneld, and its MAC.
    KernelVxlan(Option<MacAddr>),
}

/// What `link` is; anything else than a left-over is in the way.
pub fn existing(link: &Link) -> Result<Existing, DeviceConflict> {
    match link.kind.as_deref() {
        Some("tun") => Ok(Existing::Tun),
        Some("vxlan") => Ok(Existing::KernelVxlan(link.mac)),
        kind => Err(DeviceConflict {
            name: link.name.clone(),
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

/// Give `link` the address `addr` alone (`/32` or `/128`).
///
/// Others of it go that are of earlier leases, and with them the routes that have them as
/// source: of IPv4 those that lie in one of `networks`, which are those of the network config
/// now and before; of IPv6 all but link-local ones. Foreign IPv4 addresses stay.
pub async fn ensure_address(
    netlink: &Netlink,
    link: &Link,
    addr: IpAddr,
    networks: &[IpNet],
) -> Result<(), NetlinkError> {
    let full = IpNet::from(addr).prefix_len();
    let mut present = netlink.addresses().await?;
    present.retain(|a| a.index == link.index && a.addr.is_ipv4() == addr.is_ipv4());
    let wanted = |address: &Address| address.addr == addr && address.prefix_len == full;
    if !present.iter().any(wanted) {
        netlink.add_address(link, addr, full).await?;
    }
    let ours = |address: &Address| match address.addr {
        IpAddr::V4(_) => networks.iter().any(|n| n.contains(&address.addr)),
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
    };
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
                let addr = [10, 5, 72, 0].into();
                ensure_address(&netlink, &link, addr, &networks)
                    .await
                    .unwrap();
                let addresses = on_device(&netlink, &link).await;
                assert_eq!(addresses, ["10.5.72.0/32", "192.168.7.1/24"]);
            }
        });
    }

    #[test]
    fn u24_ensure_address_leaves_one_of_ipv6() {
        netns::run(async |netlink| {
            let link = netns::link(&netlink, "flannel-v6.1").await;
            netlink.set_link_up(&link).await.unwrap();
            for old in [
                "fd00:1:2::/128",
                "2001:db8::7/64",
                "10.5.9.0/32",
                "fe80::9/64",
            ] {
                netns::ip(&["address", "add", old, "dev", "flannel-v6.1"]);
            }
            // What the kernel generates by itself is no concern of this test.
            let own = async || {
                let mut own = on_device(&netlink, &link).await;
                own.retain(|a| !a.starts_with("fe80:") || a == "fe80::9/64");
                own
            };
            for addr in ["fd00:1:3::", "fd00:1:3::", "fd00:1:4::"] {
                let networks = ["fd00:1::/32".parse().unwrap()];
                ensure_address(&netlink, &link, addr.parse().unwrap(), &networks)
                    .await
                    .unwrap();
                let expected = ["10.5.9.0/32", &format!("{addr}/128"), "fe80::9/64"];
                assert_eq!(own().await, expected);
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
            let addr = [10, 5, 72, 0].into();
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
    fn left_over_devices_are_told_apart() {
        netns::run(async |netlink| {
            let veth = netns::link(&netlink, "flannel.1").await;
            let found = existing(&veth).unwrap_err().to_string();
            assert!(found.contains("(veth)"), "{found}");
            assert!(found.ends_with("ip link del flannel.1"), "{found}");
            netlink.delete_link(&veth).await.unwrap();

            let vxlan = ["type", "vxlan", "id", "1", "dstport", "8472"];
            netns::ip(&[&["link", "add", "flannel.1"], &vxlan[..]].concat());
            let vxlan = netlink.link("flannel.1").await.unwrap().unwrap();
            assert!(vxlan.mac.is_some());
            assert_eq!(existing(&vxlan), Ok(Existing::KernelVxlan(vxlan.mac)));
            netlink.delete_link(&vxlan).await.unwrap();

            netns::ip(&["tuntap", "add", "flannel.1", "mode", "tun"]);
            let tun = netlink.link("flannel.1").await.unwrap().unwrap();
            assert_eq!(existing(&tun), Ok(Existing::Tun));
        });
    }
}
