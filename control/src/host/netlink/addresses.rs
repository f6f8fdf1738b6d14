//! Addresses of links.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed, unless_gone};
use super::message::{address_from, family};
use super::types::{Address, Link};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use std::net::IpAddr;

impl Netlink {
    /// Addresses of all links, of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages = collect(self.handle.address().get().execute()).await;
        let messages = messages.map_err(|e| failed("list the addresses", e))?;
        Ok(messages.iter().filter_map(address_from).collect())
    }

    /// Add an address; one that is there already counts as added.
    pub async fn add_address(
        &self,
        link: &Link,
        addr: IpAddr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let request = self.handle.address();
        let mut request = request.add(link.index, addr, prefix_len).replace();
        if addr.is_ipv6() {
            // Nobody else has it, and a route cannot have it as source while the kernel looks.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        let action = || format!("add {addr}/{prefix_len} to {}", link.name);
        request.execute().await.map_err(|e| failed(action(), e))
    }

    /// Remove an address; one that is gone already counts as removed.
    pub async fn delete_address(&self, address: &Address) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr);
        message.header.prefix_len = address.prefix_len;
        message.header.index = address.index;
        message.attributes = vec![
            AddressAttribute::Local(address.addr),
            AddressAttribute::Address(address.peer),
        ];
        let result = self.handle.address().del(message).execute().await;
        let action = || format!("remove address {}/{}", address.addr, address.prefix_len);
        unless_gone(result).map_err(|e| failed(action(), e))
    }
}
