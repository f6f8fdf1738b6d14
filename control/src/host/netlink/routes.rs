//! Routes: looking them up and changing them.

use super::connection::Netlink;
use super::error::{NetlinkError, UNREACHABLE, collect, failed, is_one_of, to_io, unless_gone};
use super::filter::RouteFilter;
use super::message::{family, parse_route, route_from, route_message};
use super::types::Route;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use std::net::IpAddr;

impl Netlink {
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
