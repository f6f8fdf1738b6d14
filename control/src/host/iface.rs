//! The underlay interface: where encapsulated packets leave the host.
//!
//! Choice and order are flannel's (pkg/ipmatch/match.go, main.go). Where flannel breaks off
//! at the first interface that a pattern names, the choice goes on here until one can be
//! used.

mod error;
mod local;
mod options;
mod overlay;
mod underlay;

use super::netlink::{Address, Link, Netlink, Route};
pub use error::{IfaceError, Unfit};
pub use local::{Local, first_local};
pub use options::InterfaceOptions;
use overlay::is_overlay;
pub use overlay::is_tunnel;
use regex::Regex;
use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracing::{info, warn};
pub use underlay::{Families, Underlay};

/// Choose the underlay that has an address of each wanted family.
///
/// The first usable match wins: of `-iface` (interface names or local addresses), then of
/// `-iface-regex` (each against the addresses of all interfaces, then against their names),
/// then the interface and source address that `-iface-can-reach` is reached by. Without any
/// of them `-public-ip` or `-public-ipv6` names the interface that has it, unless that is the
/// loopback interface; without those, the default routes of the main table do.
pub async fn choose(
    netlink: &Netlink,
    options: &InterfaceOptions,
    wanted: Families,
) -> Result<Underlay, IfaceError> {
    let host = Host {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: netlink.routes().await?,
        options,
        wanted,
    };
    host.check_public()?;
    let chosen = match options.names_none() {
        true => host.by_default()?,
        false => host.by_name(netlink).await?,
    };
    host.warn_of(&chosen);
    Ok(chosen)
}

/// What the choice is made from.
struct Host<'a> {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    options: &'a InterfaceOptions,
    wanted: Families,
}

impl Host<'_> {
    /// Refuse to advertise an address of an overlay device: packets to it would need the tunnel.
    fn check_public(&self) -> Result<(), IfaceError> {
        for (flag, addr) in self.options.advertised() {
            let link = self.link_with(addr).filter(|_| self.wanted.contain(addr));
            if let Some(overlay) = link.filter(|link| is_overlay(link)) {
                let name = overlay.name.clone();
                return Err(IfaceError::PublicIpOfOverlay(flag, addr, name));
            }
        }
        Ok(())
    }

    /// The first usable one of those that the user named.
    async fn by_name(&self, netlink: &Netlink) -> Result<Underlay, IfaceError> {
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
            matching.retain(|addr| self.wanted.contain(*addr) && regex.is_match(&addr.to_string()));
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
                warn!("{addr} is reached {}", ignored(overlay));
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

    /// The overlay device that a route leads into, if it does.
    fn overlay_of(&self, route: &Route) -> Option<&Link> {
        self.link(route.index?).filter(|link| is_overlay(link))
    }

    fn by_default(&self) -> Result<Underlay, IfaceError> {
        let public = self.options.advertised();
        let mut public = public.filter(|(_, addr)| self.wanted.contain(*addr));
        let Some((flag, addr)) = public.next() else {
            return self.by_default_routes();
        };
        let link = self.link_with(addr);
        let link = link.ok_or(IfaceError::PublicIpNotLocal(flag, addr))?;
        if link.loopback {
            // Routers lead to it; it leads nowhere itself.
            return self.by_default_routes();
        }
        if let Some((other_flag, other_addr)) = public.next()
            && let Some(other) = self.link_with(other_addr)
        {
            let told = [
                format!("{flag} {addr}"),
                format!("{other_flag} {other_addr}"),
            ];
            same(told, link, other)?;
        }
        self.underlay(link, &[addr]).map_err(IfaceError::Unfit)
    }

    fn by_default_routes(&self) -> Result<Underlay, IfaceError> {
        let v4 = self
            .wanted
            .v4
            .then(|| self.default_links(false))
            .transpose()?;
        let v6 = self
            .wanted
            .v6
            .then(|| self.default_links(true))
            .transpose()?;
        let link = match (v4.as_deref(), v6.as_deref()) {
            (Some([link, ..]), Some([other, ..])) => {
                let told = ["the IPv4 default route", "the IPv6 one"].map(str::to_owned);
                let shared = v6.iter().flatten().any(|other| other.index == link.index);
                same(told, link, if shared { link } else { other })?;
                link
            }
            (Some([link, ..]), _) | (_, Some([link, ..])) => link,
            _ => return Err(self.no_default_route(false)),
        };
        self.underlay(link, &[]).map_err(IfaceError::Unfit)
    }

    /// The interfaces of the default routes of a family, the most preferred first; not empty.
    fn default_links(&self, v6: bool) -> Result<Vec<&Link>, IfaceError> {
        let family = family(v6);
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        routes.retain(|route| {
            let to = route.destination;
            to.prefix_len() == 0 && to.addr().is_ipv6() == v6 && !route.blackhole
        });
        routes.sort_by_key(|route| route.metric);
        routes.retain(|route| match self.overlay_of(route) {
            Some(overlay) => {
                warn!("an {family} default route leads {}", ignored(overlay));
                false
            }
            None => true,
        });
        if routes.is_empty() {
            return Err(self.no_default_route(v6));
        }
        let links = routes.iter().filter_map(|route| self.link(route.index?));
        let links: Vec<&Link> = links.collect();
        match links.is_empty() {
            true => Err(IfaceError::DefaultRouteWithoutInterface(family)),
            false => Ok(links),
        }
    }

    fn no_default_route(&self, v6: bool) -> IfaceError {
        let has = |link: &&Link| self.usable(link).iter().any(|addr| addr.is_ipv6() == v6);
        let links = self.links.iter().filter(|link| !is_overlay(link));
        let names: Vec<&str> = links.filter(has).map(|link| link.name.as_str()).collect();
        let names = match names.is_empty() {
            true => "there is none".to_owned(),
            false => names.join(", "),
        };
        IfaceError::NoDefaultRoute(family(v6), names)
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn link_with(&self, addr: IpAddr) -> Option<&Link> {
        let address = self.addresses.iter().find(|address| address.addr == addr)?;
        self.link(address.index)
    }

    /// The addresses of a link that packets may be sent from, best first: global before
    /// link-local, configured before leased, others before IPv6's temporary and IPv4's
    /// secondary ones (one flag, `IFA_F_TEMPORARY`), else the kernel's order. Deprecated and
    /// loopback addresses never.
    fn usable(&self, link: &Link) -> Vec<IpAddr> {
        let mut usable: Vec<&Address> = self.addresses.iter().collect();
        usable.retain(|a| a.index == link.index && !a.deprecated && !a.addr.is_loopback());
        usable.sort_by_key(|a| (is_link_local(a.addr), !a.permanent, a.secondary));
        usable.iter().map(|a| a.addr).collect()
    }

    /// The link with an address of each family: the advertised one if it is one of this host,
    /// as other nodes take packets from no other, else one of `named`, else the best.
    fn underlay(&self, link: &Link, named: &[IpAddr]) -> Result<Underlay, Unfit> {
        if is_overlay(link) {
            return Err(Unfit::Overlay(link.name.clone()));
        }
        let usable = self.usable(link);
        let public = self.options.advertised().map(|(_, addr)| addr);
        let local = public.filter(|addr| match is_link_local(*addr) {
            true => usable.contains(addr),
            false => self.link_with(*addr).is_some(),
        });
        let addrs: Vec<IpAddr> = local
            .chain(named.iter().copied())
            .chain(usable.iter().copied())
            .collect();
        let none = |v6| Unfit::NoAddress(link.name.clone(), family(v6));
        let v4 = addrs.iter().find_map(as_v4).filter(|_| self.wanted.v4);
        let v6 = addrs.iter().find_map(as_v6).filter(|_| self.wanted.v6);
        if self.wanted.v4 && v4.is_none() {
            return Err(none(false));
        }
        if self.wanted.v6 && v6.is_none() {
            return Err(none(true));
        }
        if link.mtu == 0 {
            return Err(Unfit::NoMtu(link.name.clone()));
        }
        Ok(Underlay {
            name: link.name.clone(),
            index: link.index,
            mtu: link.mtu,
            v4,
            v6,
            ext_v4: v4.map(|addr| self.options.public_ip.unwrap_or(addr)),
            ext_v6: v6.map(|addr| self.options.public_ipv6.unwrap_or(addr)),
        })
    }

    /// What was asked for and has no effect, and what other nodes may not reach.
    fn warn_of(&self, chosen: &Underlay) {
        let options = self.options;
        for (flag, given, wanted, family) in [
            (
                "-public-ip",
                options.public_ip.is_some(),
                self.wanted.v4,
                "IPv4",
            ),
            (
                "-public-ipv6",
                options.public_ipv6.is_some(),
                self.wanted.v6,
                "IPv6",
            ),
        ] {
            if given && !wanted {
                warn!("{flag} has no effect: the network config does not enable {family}");
            }
        }
        if let Some(addr) = chosen.ext_v6.filter(|addr| addr.is_unicast_link_local()) {
            warn!(
                "{} has only the link-local IPv6 address {addr}, which nodes on other links cannot send to",
                chosen.name
            );
        }
    }
}

/// Two families, or two addresses, need one interface.
fn same(told: [String; 2], link: &Link, other: &Link) -> Result<(), IfaceError> {
    if link.index == other.index {
        return Ok(());
    }
    let [one, two] = told;
    let (link, other) = (link.name.clone(), other.name.clone());
    Err(IfaceError::TwoInterfaces(one, link, two, other))
}

/// That a route into an overlay device does not count.
fn ignored(overlay: &Link) -> String {
    format!(
        "through {}, which is of the pods' network: looking for another interface; does something ask for addresses there, such as a DHCP client?",
        overlay.name
    )
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

fn as_v4(addr: &IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(addr) => Some(*addr),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(addr: &IpAddr) -> Option<Ipv6Addr> {
    match addr {
        IpAddr::V6(addr) => Some(*addr),
        IpAddr::V4(_) => None,
    }
}

fn family(v6: bool) -> &'static str {
    match v6 {
        true => "IPv6",
        false => "IPv4",
    }
}

#[cfg(test)]
mod tests;
