//! What only weft's own devices beside the TUN need of links and addresses.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed};
use super::types::Link;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::{LinkUnspec, LinkVeth};
use std::net::Ipv4Addr;

impl Netlink {
    /// Bring a link up on which the kernel says nothing by itself: no ARP, no multicast groups.
    pub async fn set_link_up_silently(&self, link: &Link) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index);
        let message = message.arp(false).multicast(false).up();
        let result = self.handle.link().change(message.build()).execute().await;
        result.map_err(|e| failed(format!("bring {} up", link.name), e))
    }

    /// Make two links, each of which receives what the other sends.
    pub async fn add_veth(&self, one: &str, other: &str) -> Result<(), NetlinkError> {
        let request = self.handle.link().add(LinkVeth::new(one, other).build());
        let result = request.execute().await;
        result.map_err(|e| failed(format!("make {one} and {other}"), e))
    }

    /// Whether a link has an IPv4 address. Asked for each second, so of this link alone.
    pub async fn has_ipv4(&self, link: &Link) -> Result<bool, NetlinkError> {
        let mut request = self.strict.address().get();
        let header = &mut request.message_mut().header;
        (header.family, header.index) = (AddressFamily::Inet, link.index);
        // A kernel that does not know the strict check lists all.
        let request = request.set_link_index_filter(link.index);
        let found = collect(request.execute()).await;
        let found = found.map_err(|e| failed(format!("list the addresses of {}", link.name), e))?;
        Ok(found.iter().any(|a| a.header.family == AddressFamily::Inet))
    }

    /// Add an address of host scope, with all of it as prefix: nobody takes it for a source.
    pub async fn add_host_address(&self, link: &Link, addr: Ipv4Addr) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(link.index, addr.into(), 32);
        request.message_mut().header.scope = AddressScope::Host;
        let action = || format!("add {addr}/32 to {}", link.name);
        let result = request.replace().execute().await;
        result.map_err(|e| failed(action(), e))
    }
}
