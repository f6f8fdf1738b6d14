//! Which interface has an address that others know this host by.

use super::overlay::is_overlay;
use crate::host::netlink::{Netlink, NetlinkError};
use std::net::IpAddr;

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub addr: IpAddr,
    /// The interface that has it.
    pub name: String,
    /// What `-iface` takes to choose it: the name or, where the interface has more addresses
    /// of the family, the address.
    pub choice: String,
}

/// The first of these addresses that an interface of this host has.
pub async fn first_local(
    netlink: &Netlink,
    addrs: impl IntoIterator<Item = IpAddr>,
) -> Result<Option<Local>, NetlinkError> {
    let (links, present) = (netlink.links().await?, netlink.addresses().await?);
    let local = addrs.into_iter().find_map(|addr| {
        let index = present.iter().find(|other| other.addr == addr)?.index;
        let link = links.iter().find(|link| link.index == index)?;
        let name = Some(&link.name).filter(|_| !is_overlay(link))?;
        let mut others = present.iter().filter(|other| other.index == index);
        let alone =
            others.all(|other| other.addr == addr || other.addr.is_ipv4() != addr.is_ipv4());
        Some(Local {
            addr,
            name: name.clone(),
            choice: if alone {
                name.clone()
            } else {
                addr.to_string()
            },
        })
    });
    Ok(local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::{self, ip};

    #[test]
    fn an_address_names_its_interface_or_itself() {
        netns::run(async |netlink| {
            netns::link(&netlink, "eth0").await;
            netns::link(&netlink, "eth1").await;
            for (addr, device) in [
                ("192.0.2.1/24", "eth0"),
                ("198.51.100.1/24", "eth1"),
                ("198.51.100.2/24", "eth1"),
                ("2001:db8::1/64", "eth1"),
            ] {
                ip(&["address", "add", addr, "dev", device]);
            }
            for (addrs, found) in [
                (
                    &["203.0.113.1", "192.0.2.1"][..],
                    Some("192.0.2.1 eth0 eth0"),
                ),
                (
                    &["198.51.100.2", "192.0.2.1"],
                    Some("198.51.100.2 eth1 198.51.100.2"),
                ),
                (&["2001:db8::1"], Some("2001:db8::1 eth1 eth1")),
                (&["203.0.113.1"], None),
            ] {
                let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
                let local = first_local(&netlink, addrs).await.unwrap();
                let text =
                    local.map(|local| format!("{} {} {}", local.addr, local.name, local.choice));
                assert_eq!(text.as_deref(), found);
            }
        });
    }
}
