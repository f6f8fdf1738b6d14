//! What becomes of the underlay interface while the node runs.

use super::host::Host;
use crate::family::{Family, PerFamily};
use crate::host::iface;
use crate::host::netlink::{Link, NetlinkError};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracing::{debug, info, warn};

/// Addresses for documentation, so that nobody has a route to them but the default one.
const SOMEWHERE: PerFamily<IpAddr> = PerFamily {
    v4: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    v6: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
};

/// What was found at the last look.
#[derive(Debug, Default)]
pub(super) struct UnderlayCheck {
    /// Addresses that packets leave from and that no interface has any more.
    lost: BTreeSet<IpAddr>,
    /// The MTU, where it is another than at the start.
    mtu: Option<u32>,
    /// Why nothing can leave through it.
    closed: Option<&'static str>,
    /// Where default routes lead by now, if it was chosen for them.
    astray: PerFamily<Option<String>>,
}

impl UnderlayCheck {
    /// Whether all addresses are there.
    pub(super) fn is_there(&self) -> bool {
        self.lost.is_empty()
    }

    /// Look at the interface, the kernel's addresses and the default routes, and say what has changed.
    /// Other addresses are not taken: peers know this node by the one in its lease.
    pub(super) async fn look(&mut self, host: &mut Host) {
        if let Err(error) = self.compare(host).await {
            debug!("{error}; looking at the underlay again");
        }
    }

    async fn compare(&mut self, host: &mut Host) -> Result<(), NetlinkError> {
        let link = find(host).await?;
        self.note_state(&host.underlay.name, link.as_ref());
        self.note_addresses(host).await?;
        if let Some(link) = link {
            self.note_mtu(host, link.mtu);
        }
        self.note_default_routes(host).await
    }

    fn note_state(&mut self, name: &str, link: Option<&Link>) {
        let closed = match link {
            None => Some("gone"),
            Some(link) if !link.up => Some("down"),
            Some(link) if !link.carrier => Some("without a carrier"),
            Some(_) => None,
        };
        match closed {
            _ if closed == self.closed => {}
            Some(why) => warn!(
                code = "W0414",
                "{name} is {why}: no packets to other nodes leave through it"
            ),
            None => info!("{name} is up again"),
        }
        self.closed = closed;
    }

    async fn note_addresses(&mut self, host: &Host) -> Result<(), NetlinkError> {
        let name = &host.underlay.name;
        let addresses = host.netlink.addresses().await?;
        for addr in host.underlay.local.present() {
            if addresses.iter().any(|address| address.addr == addr) {
                if self.lost.remove(&addr) {
                    info!("{addr} of {name} is there again");
                }
            } else if self.lost.insert(addr) {
                warn!(
                    code = "W0415",
                    "{name} has lost {addr}: no packets leave from it, and the node is not ready until it is back; start again to take another address"
                );
            }
        }
        Ok(())
    }

    fn note_mtu(&mut self, host: &Host, mtu: u32) {
        let underlay = &host.underlay;
        let mtu = (mtu != underlay.mtu).then_some(mtu);
        if mtu == self.mtu {
            return;
        }
        match mtu {
            Some(mtu) => warn!(
                code = "W0416",
                "the MTU of {} is {mtu} and was {} at the start, which the tunnel and subnet.env go by; start again to take the new one",
                underlay.name,
                underlay.mtu
            ),
            None => info!("the MTU of {} is {} again", underlay.name, underlay.mtu),
        }
        self.mtu = mtu;
    }

    /// The way of packets to other nodes is the kernel's business; their source is not.
    async fn note_default_routes(&mut self, host: &Host) -> Result<(), NetlinkError> {
        let name = &host.underlay.name;
        for (family, local) in host.underlay.local.iter() {
            let Some(local) = local.filter(|_| host.underlay.by_default_route) else {
                continue;
            };
            let other = default_elsewhere(host, family).await?;
            match &other {
                _ if other == *self.astray.of(family) => {}
                Some(other) => warn!(
                    code = "W0417",
                    "the {family} default route leads through {other}, and led through {name} at the start: packets to other nodes still have the source {local}; start again to take {other}"
                ),
                None => info!(
                    "the {family} default route leads through no other interface than {name} again"
                ),
            }
            match family {
                Family::V4 => self.astray.v4 = other,
                Family::V6 => self.astray.v6 = other,
            }
        }
        Ok(())
    }
}

/// Know the interface by its name if it was made anew, as a bond or a VLAN may be, and otherwise by
/// whatever name it has.
pub(super) async fn follow(host: &mut Host) {
    if let Err(error) = find(host).await {
        debug!("{error}; looking at the underlay again");
    }
}

/// The interface as it is now, whose name and index are the host's from here on.
async fn find(host: &mut Host) -> Result<Option<Link>, NetlinkError> {
    let underlay = &mut host.underlay;
    let mut found = host.netlink.link_at(underlay.index).await?;
    if found.is_none() {
        found = host.netlink.link(&underlay.name).await?;
    }
    let Some(link) = &found else {
        return Ok(None);
    };
    if link.name != underlay.name {
        warn!(
            code = "W0418",
            "{} was renamed to {}: the node goes on with it; a flag that names it needs the new name at the next start",
            underlay.name,
            link.name
        );
    }
    (underlay.name, underlay.index) = (link.name.clone(), link.index);
    Ok(found)
}

/// The interface of the default route of a family, if there is one and it is another one, and no
/// tunnel: such a route is never chosen.
async fn default_elsewhere(host: &Host, family: Family) -> Result<Option<String>, NetlinkError> {
    let route = host.netlink.entry_for(*SOMEWHERE.of(family)).await?;
    let route = route.filter(|route| route.destination.prefix_len() == 0);
    let Some(index) = route.and_then(|route| route.index) else {
        return Ok(None);
    };
    let link = host.netlink.link_at(index).await?;
    let other = link.filter(|link| link.index != host.underlay.index && !iface::is_tunnel(link));
    Ok(other.map(|link| link.name))
}

#[cfg(test)]
mod tests;
