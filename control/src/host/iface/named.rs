//! The choice among interfaces that the user named.

use super::candidates::Candidates;
use super::default::ignored;
use super::error::{IfaceError, Unfit};
use super::underlay::Underlay;
use crate::host::netlink::{Netlink, Route};
use regex::Regex;
use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;
use tracing::{info, warn};

impl Candidates<'_> {
    /// The first usable one of those that the user named.
    pub(super) async fn by_name(&self, netlink: &Netlink) -> Result<Underlay, IfaceError> {
        let mut refusals = Vec::new();
        let mut refuse = |flag: &str, value: &dyn fmt::Display, why: &dyn fmt::Display| {
            info!("-{flag} {value}: {why}");
            refusals.push(format!("-{flag} {value}: {why}"));
        };
        for value in &self.options.iface {
            match self.by_value(value, Self::by_iface) {
                Ok(underlay) => return Ok(underlay),
                Err(why) => refuse("iface", value, &why),
            }
        }
        for pattern in &self.options.iface_regex {
            match self.by_value(pattern, Self::by_regex) {
                Ok(underlay) => return Ok(underlay),
                Err(why) => refuse("iface-regex", pattern, &why),
            }
        }
        if let Some(addr) = self.options.can_reach {
            match self.by_route(addr, netlink.route_to(addr).await?) {
                Ok(underlay) => return Ok(underlay),
                Err(unfit) => refuse("iface-can-reach", &addr, &unfit),
            }
        }
        Err(IfaceError::NoneNamed(refusals.join("; ")))
    }

    /// An empty value stands for the choice without any, as in flannel (LookupExtIface in
    /// pkg/ipmatch/match.go): units have `-iface=$IFACE` with a variable that may be unset.
    fn by_value(
        &self,
        value: &str,
        find: impl Fn(&Self, &str) -> Result<Underlay, Unfit>,
    ) -> Result<Underlay, String> {
        match value {
            "" => self.by_default().map_err(|error| error.to_string()),
            _ => find(self, value).map_err(|unfit| unfit.to_string()),
        }
    }

    fn by_iface(&self, value: &str) -> Result<Underlay, Unfit> {
        if let Ok(addr) = value.parse::<IpAddr>() {
            let link = self.link_with(addr).ok_or(Unfit::NoMatch)?;
            return self.underlay(link, &[addr]);
        }
        let link = self.links.iter().find(|link| link.name == value);
        self.underlay(link.ok_or(Unfit::NoMatch)?, &[])
    }

    fn by_regex(&self, pattern: &str) -> Result<Underlay, Unfit> {
        let regex = Regex::new(pattern).map_err(|_| Unfit::Pattern)?;
        let by_address = self.links.iter().filter_map(|link| {
            let mut matching = self.usable(link);
            matching.retain(|addr| self.wants(*addr) && regex.is_match(&addr.to_string()));
            (!matching.is_empty()).then_some((link, matching))
        });
        let by_name = self.links.iter();
        let by_name = by_name.filter(|link| regex.is_match(&link.name));
        let candidates = by_address.chain(by_name.map(|link| (link, Vec::new())));
        let mut first = Unfit::NoMatch;
        for (link, addrs) in candidates {
            match self.underlay(link, &addrs) {
                Ok(underlay) => return Ok(underlay),
                Err(unfit) if first == Unfit::NoMatch => first = unfit,
                Err(_) => {}
            }
        }
        Err(first)
    }

    fn by_route(&self, addr: IpAddr, route: Option<Route>) -> Result<Underlay, Unfit> {
        // The kernel would name the loopback interface.
        if let Some(link) = self.link_with(addr) {
            return self.underlay(link, &[addr]);
        }
        let route = route.ok_or(Unfit::NoRoute)?;
        let route = match self.overlay_of(&route) {
            Some(overlay) => {
                warn!(code = "W0408", "{addr} is reached {}", ignored(overlay));
                self.route_beside_overlays(addr).ok_or(Unfit::NoRoute)?
            }
            None => &route,
        };
        let link = route.index.and_then(|index| self.link(index));
        let source: Vec<IpAddr> = route.source.into_iter().collect();
        self.underlay(link.ok_or(Unfit::NoRoute)?, &source)
    }

    /// The route to `addr` that the main table has if no overlay counts.
    fn route_beside_overlays(&self, addr: IpAddr) -> Option<&Route> {
        let routes = self.routes.iter().filter(|route| {
            route.destination.contains(&addr)
                && !route.blackhole
                && self.overlay_of(route).is_none()
        });
        routes.min_by_key(|route| (Reverse(route.destination.prefix_len()), route.metric))
    }
}
