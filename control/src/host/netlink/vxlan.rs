//! Which kernel VXLAN devices hold which port.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed};
use super::message::link_from;
use super::types::Link;
use crate::wire::Vni;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};

/// A UDP port of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// Of IPv6, else of IPv4.
    pub v6: bool,
}

impl Netlink {
    /// The kernel VXLAN devices that hold `port`. They share it with each other, as long as
    /// they are up.
    pub async fn vxlan_on(&self, port: Port) -> Result<Vec<Link>, NetlinkError> {
        let mut links = self.vxlan_for(port).await?;
        links.retain(|link| link.up);
        Ok(links)
    }

    /// The kernel VXLAN devices, up or down, that have `port` once they are up.
    pub async fn vxlan_for(&self, port: Port) -> Result<Vec<Link>, NetlinkError> {
        self.vxlans(|data| has_port(data, port)).await
    }

    /// The kernel VXLAN devices, up or down, with this VNI and port.
    pub(super) async fn vxlan_with(&self, port: Port, vni: Vni) -> Result<Vec<Link>, NetlinkError> {
        let id = InfoVxlan::Id(vni.get());
        let is_it = |data: &[InfoVxlan]| has_port(data, port) && data.contains(&id);
        self.vxlans(is_it).await
    }

    async fn vxlans(
        &self,
        is_it: impl Fn(&[InfoVxlan]) -> bool,
    ) -> Result<Vec<Link>, NetlinkError> {
        let messages = collect(self.handle.link().get().execute()).await;
        let messages = messages.map_err(|e| failed("list the network interfaces", e))?;
        let found = messages
            .iter()
            .filter(|message| data(message).is_some_and(&is_it));
        Ok(found.map(link_from).collect())
    }
}

/// What makes a link a kernel VXLAN device.
fn data(message: &LinkMessage) -> Option<&[InfoVxlan]> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.as_slice()),
            _ => None,
        }),
        _ => None,
    })
}

fn has_port(data: &[InfoVxlan], port: Port) -> bool {
    let is_v6 = |info: &InfoVxlan| matches!(info, InfoVxlan::Group6(_) | InfoVxlan::Local6(_));
    // One that takes its tunnels from packets listens in both families.
    let is_in_family =
        data.contains(&InfoVxlan::CollectMetadata(true)) || data.iter().any(is_v6) == port.v6;
    is_in_family && data.contains(&InfoVxlan::Port(port.number))
}

#[cfg(test)]
mod tests {
    use super::Port;
    use crate::host::netns;

    #[test]
    fn devices_are_found_by_port_and_family() {
        netns::run(async |netlink| {
            netns::ip(&["link", "set", "lo", "up"]);
            for line in [
                "v4 id 1 local 192.0.2.1 dstport 8472",
                "v4-too id 2 dstport 8472",
                "elsewhere id 1 dstport 4789",
                "v6 id 1 local 2001:db8::1 dstport 8472",
                "down id 3 dstport 8472",
                "both dstport 1234 external",
            ] {
                let (name, rest) = line.split_once(' ').unwrap();
                let add = ["link", "add", name, "type", "vxlan"].into_iter();
                netns::ip(&add.chain(rest.split(' ')).collect::<Vec<_>>());
                if name != "down" {
                    netns::ip(&["link", "set", name, "up"]);
                }
            }
            netns::link(&netlink, "eth0").await;
            let found = async |number, v6| {
                let links = netlink.vxlan_on(Port { number, v6 }).await.unwrap();
                let names = links.into_iter().map(|link| link.name);
                names.collect::<Vec<_>>().join(" ")
            };
            assert_eq!(found(8472, false).await, "v4 v4-too");
            let (number, v6) = (8472, false);
            let all = netlink.vxlan_for(Port { number, v6 }).await.unwrap();
            assert_eq!(all.iter().filter(|link| !link.up).count(), 1, "{all:?}");
            assert_eq!(found(8472, true).await, "v6");
            assert_eq!(found(4789, false).await, "elsewhere");
            assert_eq!(found(4789, true).await, "");
            assert_eq!(found(1234, false).await, "both");
            assert_eq!(found(1234, true).await, "both");
        });
    }
}
