//! Setting a link aside for a while, so that another can have its name and what it holds.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed};
use super::types::{Address, Link};
use super::vxlan::Port;
use crate::wire::Vni;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The kernel puts the lowest free number in the place of `%d`.
const NAME: &str = "flannel-old%d";

/// What all names that it makes of it begin with.
const NAMES: &str = "flannel-old";

/// A link that is set down and has another name, and what it had when it was up.
#[derive(Debug)]
pub struct Aside {
    link: Link,
    lost: Lost,
}

/// What a link loses when it is set down, as far as the kernel does not make it again by itself.
#[derive(Debug, Default)]
struct Lost {
    /// Those of IPv6; IPv4's stay.
    addresses: Vec<Address>,
    neighbours: Vec<NeighbourMessage>,
    /// Those without a gateway first, as the others may need them.
    routes: Vec<RouteMessage>,
}

impl Netlink {
    /// Set `link` down, so that it lets go of its port, and give it another name. If that
    /// fails, it is as it was.
    pub async fn set_aside(&self, link: &Link) -> Result<Aside, NetlinkError> {
        let lost = match link.up {
            true => self.lost_with(link).await?,
            false => Lost::default(),
        };
        let link = link.clone();
        let aside = Aside { link, lost };
        self.set_link_down(&aside.link).await?;
        match self.rename(&aside.link, NAME).await {
            Ok(()) => Ok(aside),
            Err(error) => {
                self.revive(&aside).await?;
                Err(error)
            }
        }
    }

    /// Delete a link that was set aside.
    pub async fn delete_aside(&self, aside: &Aside) -> Result<(), NetlinkError> {
        self.delete_link(&aside.link).await
    }

    /// Kernel VXLAN devices with this VNI and port that were set aside and then forgotten.
    pub async fn left_aside(&self, port: Port, vni: Vni) -> Result<Vec<Link>, NetlinkError> {
        let mut links = self.vxlan_with(port, vni).await?;
        links.retain(is_aside);
        Ok(links)
    }

    /// All kernel VXLAN devices that were set aside.
    pub async fn aside(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = self.links().await?;
        links.retain(|link| link.kind.as_deref() == Some("vxlan") && is_aside(link));
        Ok(links)
    }

    /// Give a link that was set aside its name back and, if it was up, all that it had. What
    /// cannot be had costs the rest nothing.
    pub async fn put_back(&self, aside: &Aside) -> Result<(), NetlinkError> {
        self.rename(&aside.link, &aside.link.name).await?;
        self.revive(aside).await
    }

    async fn lost_with(&self, link: &Link) -> Result<Lost, NetlinkError> {
        let mut addresses = self.addresses().await?;
        addresses.retain(|a| a.index == link.index && a.addr.is_ipv6() && a.permanent);
        let action = |what| format!("list the {what} of {}", link.name);
        let neighbours = collect(self.handle.neighbours().get().execute()).await;
        let mut neighbours = neighbours.map_err(|e| failed(action("neighbours"), e))?;
        neighbours.retain(|message| {
            let header = &message.header;
            header.ifindex == link.index && header.state == NeighbourState::Permanent
        });
        let mut routes = Vec::new();
        for filter in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let dump = collect(self.handle.route().get(filter).execute()).await;
            routes.extend(dump.map_err(|e| failed(action("routes"), e))?);
        }
        routes.retain(|route| is_configured(route, link.index));
        // The rest says how the route is, which the kernel takes from nobody.
        for route in &mut routes {
            route.header.flags &= RouteFlags::Onlink;
        }
        routes.sort_by_key(has_gateway);
        Ok(Lost {
            addresses,
            neighbours,
            routes,
        })
    }

    async fn revive(&self, aside: &Aside) -> Result<(), NetlinkError> {
        let Aside { link, lost } = aside;
        if !link.up {
            return Ok(());
        }
        self.set_link_up(link).await?;
        let mut outcome = Ok(());
        for address in &lost.addresses {
            let added = self
                .add_address(link, address.addr, address.prefix_len)
                .await;
            outcome = outcome.and(added);
        }
        for neighbour in &lost.neighbours {
            // The address is of no meaning: the message is replaced as a whole.
            let request = self.handle.neighbours();
            let mut request = request.add(link.index, Ipv4Addr::UNSPECIFIED.into());
            request.message_mut().clone_from(neighbour);
            let added = request.replace().execute().await;
            let action = || format!("restore a neighbour of {}", link.name);
            outcome = outcome.and(added.map_err(|e| failed(action(), e)));
        }
        for route in &lost.routes {
            let request = self.handle.route().add(route.clone()).replace();
            let action = || format!("restore a route of {}", link.name);
            let added = request.execute().await.map_err(|e| failed(action(), e));
            outcome = outcome.and(added);
        }
        outcome
    }
}

fn is_aside(link: &Link) -> bool {
    !link.up && link.name.starts_with(NAMES)
}

/// Whether a route through the link `index` was made by somebody else than the kernel.
fn is_configured(route: &RouteMessage, index: u32) -> bool {
    route.header.protocol != RouteProtocol::Kernel
        && route.header.kind == RouteType::Unicast
        && route.attributes.contains(&RouteAttribute::Oif(index))
}

fn has_gateway(route: &RouteMessage) -> bool {
    let mut attributes = route.attributes.iter();
    attributes.any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
}

#[cfg(test)]
mod tests {
    use crate::host::netns;

    /// A kernel VXLAN device as flannel leaves it, for IPv4 and for IPv6.
    fn flannels() {
        for (device, local, base, prefix) in [
            ("flannel.1", "192.0.2.1", "10.5.72.0/32", "10.5.9"),
            (
                "flannel-v6.1",
                "2001:db8::1",
                "fd00:5:72::/128",
                "fd00:5:9:",
            ),
        ] {
            let v6 = base.contains(':');
            let (gateway, len) = match v6 {
                true => (format!("{prefix}:"), 64),
                false => (format!("{prefix}.0"), 24),
            };
            for line in [
                format!("link add {device} type vxlan id 1 local {local} dstport 8472 nolearning"),
                format!("address add {base} dev {device} nodad"),
                format!("link set {device} up"),
                format!("neigh add {gateway} lladdr 0e:00:00:00:00:09 dev {device} nud permanent"),
                format!("route add {gateway}/{len} via {gateway} dev {device} onlink"),
            ] {
                netns::ip(&line.split(' ').collect::<Vec<_>>());
            }
            let fdb = [
                "fdb",
                "add",
                "0e:00:00:00:00:09",
                "dev",
                device,
                "dst",
                local,
                "self",
                "permanent",
            ];
            let status = std::process::Command::new("bridge").args(fdb).status();
            assert!(status.unwrap().success());
        }
    }

    /// All that packets through a device depend on.
    fn shown(device: &str) -> [String; 6] {
        let fdb = std::process::Command::new("bridge")
            .args(["fdb", "show", "dev", device])
            .output()
            .unwrap();
        let mut addresses = netns::ip(&["-o", "address", "show", "dev", device]);
        // Link-local ones come and go by themselves.
        addresses = addresses
            .lines()
            .filter(|line| !line.contains("fe80:"))
            .collect();
        [
            netns::ip(&["-o", "link", "show", "dev", device]),
            addresses,
            netns::ip(&["neigh", "show", "dev", device, "nud", "permanent"]),
            netns::ip(&["-4", "route", "show", "dev", device]),
            netns::ip(&["-6", "route", "show", "dev", device, "proto", "boot"]),
            String::from_utf8(fdb.stdout).unwrap(),
        ]
    }

    #[test]
    fn a_link_that_was_set_aside_comes_back_with_all_it_had() {
        netns::run(async |netlink| {
            netns::ip(&["link", "set", "lo", "up"]);
            flannels();
            for device in ["flannel.1", "flannel-v6.1"] {
                let link = netlink.link(device).await.unwrap().unwrap();
                let before = shown(device);
                assert!(
                    before[3].contains("onlink") || before[4].contains("onlink"),
                    "{before:?}"
                );
                let aside = netlink.set_aside(&link).await.unwrap();
                assert_eq!(netlink.link(device).await.unwrap(), None);
                // The name and the port are free for others.
                netns::ip(&["link", "add", device, "type", "bridge"]);
                let any = match device.contains("v6") {
                    true => "[::]:8472",
                    false => "0.0.0.0:8472",
                };
                drop(std::net::UdpSocket::bind(any).unwrap());
                netns::ip(&["link", "del", device]);
                netlink.put_back(&aside).await.unwrap();
                assert_eq!(shown(device), before);

                let aside = netlink.set_aside(&link).await.unwrap();
                netlink.delete_aside(&aside).await.unwrap();
                let names = netns::ip(&["-br", "link"]);
                assert!(!names.contains("flannel-old"), "{names}");
            }
        });
    }

    #[test]
    fn a_link_that_was_down_stays_down() {
        netns::run(async |netlink| {
            let link = netns::link(&netlink, "flannel.1").await;
            let aside = netlink.set_aside(&link).await.unwrap();
            assert_eq!(netlink.link("flannel.1").await.unwrap(), None);
            netlink.put_back(&aside).await.unwrap();
            assert_eq!(netlink.link("flannel.1").await.unwrap(), Some(link));
        });
    }
}
