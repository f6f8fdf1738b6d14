//! The choice where the user named no interface.

use super::candidates::Candidates;
use super::error::IfaceError;
use super::overlay::is_overlay;
use super::underlay::Underlay;
use crate::family::{Family, PerFamily};
use crate::host::netlink::{Link, Route};
use std::net::IpAddr;
use tracing::warn;

impl Candidates<'_> {
    /// The interface of the address to advertise, if there is one, else of the default routes.
    pub(super) fn by_default(&self) -> Result<Underlay, IfaceError> {
        let public = self.options.advertised();
        let mut public = public.filter(|(_, addr)| self.wants(*addr));
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
            let names = [
                format!("{flag} {addr}"),
                format!("{other_flag} {other_addr}"),
            ];
            same(names, link, other)?;
        }
        self.underlay(link, &[addr]).map_err(IfaceError::Unfit)
    }

    fn by_default_routes(&self) -> Result<Underlay, IfaceError> {
        let wanted = |family| self.wanted.of(family).then(|| self.default_links(family));
        let links = PerFamily::try_new(|family| wanted(family).transpose())?;
        let link = match (links.v4.as_deref(), links.v6.as_deref()) {
            (Some([link, ..]), Some(others @ [other, ..])) => {
                let names = ["the IPv4 default route", "the IPv6 one"].map(str::to_owned);
                let shared = others.iter().any(|other| other.index == link.index);
                same(names, link, if shared { link } else { other })?;
                link
            }
            (Some([link, ..]), _) | (_, Some([link, ..])) => link,
            _ => return Err(self.no_default_route(Family::V4)),
        };
        let underlay = self.underlay(link, &[]).map_err(IfaceError::Unfit)?;
        Ok(Underlay {
            by_default_route: true,
            ..underlay
        })
    }

    /// The interfaces of the default routes of a family, the most preferred first; not empty.
    fn default_links(&self, family: Family) -> Result<Vec<&Link>, IfaceError> {
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        routes.retain(|route| {
            let to = route.destination;
            to.prefix_len() == 0 && Family::of(to.addr()) == family && !route.blackhole
        });
        routes.sort_by_key(|route| route.metric);
        routes.retain(|route| match self.overlay_of(route) {
            Some(overlay) => {
                warn!(
                    code = "W0408",
                    "an {family} default route leads {}",
                    ignored(overlay)
                );
                false
            }
            None => true,
        });
        if routes.is_empty() {
            return Err(self.no_default_route(family));
        }
        let links = routes.iter().filter_map(|route| self.link(route.index?));
        let links: Vec<&Link> = links.collect();
        match links.is_empty() {
            true => Err(IfaceError::DefaultRouteWithoutInterface(family)),
            false => Ok(links),
        }
    }

    fn no_default_route(&self, family: Family) -> IfaceError {
        let is_of = |addr: &IpAddr| Family::of(*addr) == family;
        let has = |link: &&Link| self.usable(link).iter().any(is_of);
        let links = self.links.iter().filter(|link| !is_overlay(link));
        let names: Vec<&str> = links.filter(has).map(|link| link.name.as_str()).collect();
        let names = match names.is_empty() {
            true => "there is none".to_owned(),
            false => names.join(", "),
        };
        IfaceError::NoDefaultRoute(family, names)
    }
}

/// Two families, or two addresses, need one interface.
fn same(names: [String; 2], link: &Link, other: &Link) -> Result<(), IfaceError> {
    if link.index == other.index {
        return Ok(());
    }
    let [one, two] = names;
    let (link, other) = (link.name.clone(), other.name.clone());
    Err(IfaceError::TwoInterfaces(one, link, two, other))
}

/// That a route into an overlay device does not count.
pub(super) fn ignored(overlay: &Link) -> String {
    format!(
        "through {}, which is of the pods' network: looking for another interface; does something ask for addresses there, such as a DHCP client?",
        overlay.name
    )
}
