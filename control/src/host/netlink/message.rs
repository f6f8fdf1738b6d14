//! Netlink messages from and to plain data.

use super::types::{Address, Link, Route};
use crate::wire::MacAddr;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The family of an address, as the kernel numbers it.
pub(super) fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn link_from(message: &LinkMessage) -> Link {
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
        alias: None,
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::TxQueueLen(len) => link.txqueuelen = *len,
            LinkAttribute::Address(bytes) => {
                link.mac = bytes.as_slice().try_into().ok().map(MacAddr)
            }
            // Unlike the flag, it is also right for a link that is down.
            LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
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

pub(super) fn address_from(message: &AddressMessage) -> Option<Address> {
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

pub(super) fn route_from(message: &RouteMessage) -> Option<Route> {
    let (table, route) = parse_route(message)?;
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(route)
}

/// A route and the table that it is in.
pub(super) fn parse_route(message: &RouteMessage) -> Option<(u32, Route)> {
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

pub(super) fn route_message(route: &Route) -> RouteMessage {
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
