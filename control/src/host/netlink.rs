//! The kernel's view of links, addresses and routes as plain data.
//!
//! Only this file and those below it know the netlink crates; the rest of `host` works on the types
//! defined here.

mod aside;
mod filter;
mod message;
mod tap;
mod vxlan;

pub use aside::Aside;
pub use filter::RouteFilter;
use futures::{Stream, TryStreamExt};
use ipnet::IpNet;
use message::{address_from, link_from, parse_route, route_from, route_message};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec};
use rustix::io::Errno;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
pub use vxlan::Port;

/// A netlink request that failed, as one line: what was asked, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}{}", hint(source))]
pub struct NetlinkError {
    action: String,
    source: io::Error,
}

impl NetlinkError {
    /// The kernel's answer.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

fn hint(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::PermissionDenied {
        " (run as root or with CAP_NET_ADMIN)"
    } else {
        ""
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND` (`tun`, `vxlan`, `veth`, ...); hardware has none.
    pub kind: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Hardware address of Ethernet links.
    pub mac: Option<[u8; 6]>,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier: of a TUN, that a process holds it.
    pub carrier: bool,
    /// `ifAlias`, a text for people and programs to know it by.
    pub alias: Option<String>,
    /// A loopback interface.
    pub loopback: bool,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub index: u32,
    /// The local address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// The other end of a point-to-point address, else `addr` itself.
    pub peer: IpAddr,
    /// Configured rather than leased (DHCP).
    pub permanent: bool,
    /// A secondary address of its subnet.
    pub secondary: bool,
    /// Past its preferred lifetime.
    pub deprecated: bool,
}

/// A unicast or blackhole route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination, `0.0.0.0/0` or `::/0` for a default route.
    pub destination: IpNet,
    /// Index of the outgoing interface, of the first next hop if there are several.
    pub index: Option<u32>,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric; the lowest is the most preferred. Adding an IPv6 route with 0 gives it
    /// [`METRIC_V6`].
    pub metric: u32,
    /// Scope universe, as flannel's routes have.
    pub universe: bool,
    /// Who made it: [`PROTOCOL_KERNEL`], [`PROTOCOL_BOOT`] or another (rtnetlink(7)).
    pub protocol: u8,
    /// What it leads to is dropped.
    pub blackhole: bool,
}

/// The metric of IPv6 routes that are added without one (`IP6_RT_PRIO_USER`).
pub const METRIC_V6: u32 = 1024;

/// Routes that the kernel made for an address.
pub const PROTOCOL_KERNEL: u8 = 2;

/// Routes made by nobody in particular: `ip route` and flannel.
pub const PROTOCOL_BOOT: u8 = 3;

/// Our own routes, by which a later run knows them. None of the well-known daemons has it.
pub const PROTOCOL_WEFT: u8 = 119;

/// A connection to the kernel's routing netlink, in the namespace of the thread that made it.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
    /// For listings of which the kernel leaves out what is not asked for (Linux 4.20); before,
    /// it lists everything here, too.
    strict: Handle,
    /// How many routes the kernel has listed, of whatever use they were.
    #[cfg(test)]
    pub(crate) listed: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Netlink {
    /// Open the sockets and drive them on the current tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let failed = |source| {
            let action = "open a netlink socket".to_owned();
            NetlinkError { action, source }
        };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        let strict = match rtnetlink::new_connection_with_strict_check() {
            Ok((connection, strict, _)) => {
                tokio::spawn(connection);
                strict
            }
            Err(_) => handle.clone(),
        };
        Ok(Self {
            handle,
            strict,
            #[cfg(test)]
            listed: std::sync::Arc::default(),
        })
    }

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

    /// Delete a link; one that is gone already counts as deleted.
    pub async fn delete_link(&self, link: &Link) -> Result<(), NetlinkError> {
        let result = self.handle.link().del(link.index).execute().await;
        unless_gone(result).map_err(|e| failed(format!("delete {}", link.name), e))
    }

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

    /// Routes of the main table, IPv4 before IPv6, each in the kernel's order of preference.
    /// There may be hundreds of thousands: [`Netlink::routes_like`] names those of interest.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        self.routes_like(RouteFilter::default()).await
    }

    /// The route that a packet to `addr` takes, whatever the table; `None` if there is none,
    /// or if it is another kind than unicast, such as that to an address of this host.
    pub async fn route_to(&self, addr: IpAddr) -> Result<Option<Route>, NetlinkError> {
        self.unicast_route(None, addr).await
    }

    /// As [`Netlink::route_to`], of a packet from `local`, an address of this host.
    pub async fn route_between(
        &self,
        local: IpAddr,
        addr: IpAddr,
    ) -> Result<Option<Route>, NetlinkError> {
        self.unicast_route(Some(local), addr).await
    }

    async fn unicast_route(
        &self,
        from: Option<IpAddr>,
        addr: IpAddr,
    ) -> Result<Option<Route>, NetlinkError> {
        let found = self.look_up(from, addr, RouteFlags::empty()).await?;
        let found = found.filter(|message| message.header.kind == RouteType::Unicast);
        Ok(found.and_then(|message| Some(parse_route(&message)?.1)))
    }

    /// The entry of the main table that a packet to `addr` is routed by, as [`Netlink::routes`]
    /// lists it; `None` if it is in another table.
    pub async fn entry_for(&self, addr: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let found = self.look_up(None, addr, RouteFlags::FibMatch).await?;
        Ok(found.as_ref().and_then(route_from))
    }

    async fn look_up(
        &self,
        from: Option<IpAddr>,
        addr: IpAddr,
        flags: RouteFlags,
    ) -> Result<Option<RouteMessage>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(addr);
        request.header.flags = flags;
        let len = if addr.is_ipv4() { 32 } else { 128 };
        request.header.destination_prefix_length = len;
        let to = RouteAttribute::Destination(addr.into());
        request.attributes.push(to);
        if let Some(from) = from {
            request.header.source_prefix_length = len;
            request.attributes.push(RouteAttribute::Source(from.into()));
        }
        match collect(self.handle.route().get(request).execute()).await {
            Ok(mut messages) => Ok(messages.drain(..).next()),
            Err(error) => match to_io(error) {
                error if is_one_of(&error, UNREACHABLE) => Ok(None),
                source => Err(NetlinkError {
                    action: format!("look up the route to {addr}"),
                    source,
                }),
            },
        }
    }

    /// Add a route, replacing one of the same destination and metric.
    pub async fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let request = self.handle.route().add(route_message(route)).replace();
        let action = || format!("set the route to {}", route.destination);
        request.execute().await.map_err(|e| failed(action(), e))
    }

    /// Remove a route; one that is gone already counts as removed.
    pub async fn delete_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let mut message = route_message(route);
        // RT_SCOPE_NOWHERE in a deletion means whatever scope it has.
        message.header.scope = RouteScope::NoWhere;
        message.header.protocol = RouteProtocol::Unspec;
        let result = self.handle.route().del(message).execute().await;
        unless_gone(result)
            .map_err(|e| failed(format!("remove the route to {}", route.destination), e))
    }
}

async fn collect<T>(
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, rtnetlink::Error> {
    let mut stream = pin!(stream);
    let mut items = Vec::new();
    while let Some(item) = stream.try_next().await? {
        items.push(item);
    }
    Ok(items)
}

/// Answers to a route look-up where no route, or none that leads anywhere, is found:
/// `unreachable`, `prohibit` and `blackhole` routes give the last three.
const UNREACHABLE: [Errno; 4] = [
    Errno::NETUNREACH,
    Errno::HOSTUNREACH,
    Errno::ACCESS,
    Errno::INVAL,
];

/// Answers that say that a thing to be removed is not there, nor the device that it was on.
const GONE: [Errno; 4] = [Errno::SRCH, Errno::NXIO, Errno::NODEV, Errno::ADDRNOTAVAIL];

fn is_one_of(error: &io::Error, answers: [Errno; 4]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| answers.contains(&errno))
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = &error {
        return message.to_io();
    }
    io::Error::other(error.to_string())
}

fn failed(action: impl Into<String>, error: rtnetlink::Error) -> NetlinkError {
    NetlinkError {
        action: action.into(),
        source: to_io(error),
    }
}

fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn unless_gone(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    let Err(rtnetlink::Error::NetlinkError(message)) = &result else {
        return result;
    };
    match is_one_of(&message.to_io(), GONE) {
        true => Ok(()),
        false => result,
    }
}
