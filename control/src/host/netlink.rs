//! The kernel's view of links, addresses and routes as plain data.
//!
//! The only file that knows the netlink crates; the rest of `host` works on the types
//! defined here.

use futures::{Stream, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

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
    /// Has a carrier: of a TUN that is up, that a process holds it.
    pub carrier: bool,
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

/// A connection to the kernel's routing netlink, in the namespace of the thread that made it.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Open the socket and drive it on the current tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| {
            let action = "open a netlink socket".to_owned();
            NetlinkError { action, source }
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
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
                error if error.raw_os_error() == Some(ENODEV) => Ok(None),
                source => Err(NetlinkError {
                    action: format!("look up interface {name}"),
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
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let filters = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        let mut routes = Vec::new();
        for filter in filters {
            let family = filter.header.address_family;
            let messages = collect(self.handle.route().get(filter).execute()).await;
            let messages = messages.map_err(|e| failed("list the routes", e))?;
            // A kernel without IPv6 answers with what it has.
            let asked = messages
                .iter()
                .filter(|m| m.header.address_family == family);
            routes.extend(asked.filter_map(route_from));
        }
        Ok(routes)
    }

    /// The route that a packet to `addr` takes, whatever the table; `None` if there is none,
    /// or if it is another kind than unicast, such as that to an address of this host.
    pub async fn route_to(&self, addr: IpAddr) -> Result<Option<Route>, NetlinkError> {
        let len = if addr.is_ipv4() { 32 } else { 128 };
        let request = match addr {
            IpAddr::V4(addr) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(addr, len)
                .build(),
            IpAddr::V6(addr) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(addr, len)
                .build(),
        };
        match collect(self.handle.route().get(request).execute()).await {
            Ok(messages) => Ok(messages
                .first()
                .filter(|message| message.header.kind == RouteType::Unicast)
                .and_then(|message| Some(parse_route(message)?.1))),
            Err(error) => match to_io(error) {
                error if UNREACHABLE.contains(&error.raw_os_error().unwrap_or(0)) => Ok(None),
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

const ESRCH: i32 = 3;
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EACCES: i32 = 13;
const EADDRNOTAVAIL: i32 = 99;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

/// Answers to a route look-up where no route, or none that leads anywhere, is found:
/// `unreachable`, `prohibit` and `blackhole` routes give the last three.
const UNREACHABLE: [i32; 4] = [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL];

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
    match message.to_io().raw_os_error() {
        Some(ESRCH | ENXIO | ENODEV | EADDRNOTAVAIL) => Ok(()),
        _ => result,
    }
}

fn link_from(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mtu: 0,
        txqueuelen: 0,
        mac: None,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::TxQueueLen(len) => link.txqueuelen = *len,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind_from),
            _ => {}
        }
    }
    link
}

fn kind_from(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(name)) => Some(name.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn address_from(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer) = (None, None);
    // The header carries the low eight flags; IFA_FLAGS, where present, all of them.
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => peer = Some(*addr),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let addr = local.or(peer)?;
    Some(Address {
        index: message.header.index,
        addr,
        prefix_len: message.header.prefix_len,
        peer: peer.unwrap_or(addr),
        permanent: flags.contains(AddressFlags::Permanent),
        secondary: flags.contains(AddressFlags::Secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

fn route_from(message: &RouteMessage) -> Option<Route> {
    let (table, route) = parse_route(message)?;
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(route)
}

/// A route and the table that it is in.
fn parse_route(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if !matches!(header.kind, RouteType::Unicast | RouteType::BlackHole) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = unspecified;
    let mut route = Route {
        destination: unspecified.into(),
        index: None,
        gateway: None,
        source: None,
        metric: 0,
        universe: header.scope == RouteScope::Universe,
        protocol: header.protocol.into(),
        blackhole: header.kind == RouteType::BlackHole,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(addr) => destination = ip(addr)?,
            RouteAttribute::Gateway(addr) => route.gateway = ip(addr),
            RouteAttribute::PrefSource(addr) => route.source = ip(addr),
            RouteAttribute::Oif(index) => route.index = Some(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(hops) => {
                route.index = hops.first().map(|hop| hop.interface_index);
            }
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some((table, route))
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination.addr());
    header.destination_prefix_length = route.destination.prefix_len();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = route.protocol.into();
    header.scope = match route.universe {
        true => RouteScope::Universe,
        false => RouteScope::Link,
    };
    header.kind = match route.blackhole {
        true => RouteType::BlackHole,
        false => RouteType::Unicast,
    };
    let destination = route.destination.addr();
    let attributes = [
        Some(RouteAttribute::Destination(destination.into())),
        route.index.map(RouteAttribute::Oif),
        route
            .gateway
            .map(|addr| RouteAttribute::Gateway(addr.into())),
        route
            .source
            .map(|addr| RouteAttribute::PrefSource(addr.into())),
        (route.metric != 0).then_some(RouteAttribute::Priority(route.metric)),
    ];
    message.attributes = attributes.into_iter().flatten().collect();
    message
}
