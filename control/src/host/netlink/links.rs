//! Looking links up and changing them.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed, to_io, unless_gone};
use super::message::link_from;
use super::types::Link;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::LinkAttribute;
use rustix::io::Errno;

impl Netlink {
    /// Every link.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages = collect(self.handle.link().get().execute()).await;
        let messages = messages.map_err(|e| failed("list the network interfaces", e))?;
        Ok(messages.iter().map(link_from).collect())
    }

    /// The link called `name`, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name);
        match collect(request.execute()).await {
            Ok(messages) => Ok(messages.first().map(link_from)),
            Err(error) => match to_io(error) {
                error if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
                source => Err(NetlinkError {
                    action: format!("look up interface {name}"),
                    source,
                }),
            },
        }
    }

    /// The link of this index, if there is one.
    pub async fn link_at(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_index(index);
        match collect(request.execute()).await {
            Ok(messages) => Ok(messages.first().map(link_from)),
            Err(error) => match to_io(error) {
                error if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
                source => Err(NetlinkError {
                    action: format!("look up interface number {index}"),
                    source,
                }),
            },
        }
    }

    /// Set MTU and transmit queue length of a link.
    pub async fn set_link(&self, link: &Link, mtu: u32, queue: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index)
            .mtu(mtu)
            .txqueuelen(queue);
        let result = self.handle.link().change(message.build()).execute().await;
        result.map_err(|e| failed(format!("set the MTU of {} to {mtu}", link.name), e))
    }

    /// Give a link an alias in place of the one it has.
    pub async fn set_alias(&self, link: &Link, alias: &str) -> Result<(), NetlinkError> {
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        let message = LinkUnspec::new_with_index(link.index).append_extra_attribute(alias);
        let result = self.handle.link().change(message.build()).execute().await;
        result.map_err(|e| failed(format!("set the alias of {}", link.name), e))
    }

    /// Bring a link up.
    pub async fn set_link_up(&self, link: &Link) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(|e| failed(format!("bring {} up", link.name), e))
    }

    /// Set a link down.
    pub async fn set_link_down(&self, link: &Link) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).down().build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(|e| failed(format!("set {} down", link.name), e))
    }

    /// Give a link another name. Before Linux 6.2 it must be down.
    pub async fn rename(&self, link: &Link, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).name(name).build();
        let result = self.handle.link().change(message).execute().await;
        result.map_err(|e| failed(format!("rename {} to {name}", link.name), e))
    }

    /// Delete a link; one that is gone already counts as deleted.
    pub async fn delete_link(&self, link: &Link) -> Result<(), NetlinkError> {
        let result = self.handle.link().del(link.index).execute().await;
        unless_gone(result).map_err(|e| failed(format!("delete {}", link.name), e))
    }
}
