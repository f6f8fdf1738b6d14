//! What the choice is made from.

use super::error::Unfit;
use super::options::InterfaceOptions;
use super::overlay::is_overlay;
use super::underlay::Underlay;
use crate::family::{Family, PerFamily};
use crate::host::netlink::{Address, Link, Route};
use std::net::IpAddr;

/// All interfaces, what the user wants of them, and what the network needs.
pub(super) struct Candidates<'a> {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
    pub(super) options: &'a InterfaceOptions,
    /// The families that the network has.
    pub(super) wanted: PerFamily<bool>,
}

impl Candidates<'_> {
    /// Whether an address is of a family that the network has.
    pub(super) fn wants(&self, addr: IpAddr) -> bool {
        *self.wanted.of(Family::of(addr))
    }

    /// The link of an index.
    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The link that has an address.
    pub(super) fn link_with(&self, addr: IpAddr) -> Option<&Link> {
        let address = self.addresses.iter().find(|address| address.addr == addr)?;
        self.link(address.index)
    }

    /// The overlay device that a route leads into, if it does.
    pub(super) fn overlay_of(&self, route: &Route) -> Option<&Link> {
        self.link(route.index?).filter(|link| is_overlay(link))
    }

    /// The addresses of a link that packets may be sent from, best first: global before
    /// link-local, configured before leased, others before IPv6's temporary and IPv4's
    /// secondary ones (one flag, `IFA_F_TEMPORARY`), else the kernel's order. Deprecated and
    /// loopback addresses never.
    pub(super) fn usable(&self, link: &Link) -> Vec<IpAddr> {
        let mut usable: Vec<&Address> = self.addresses.iter().collect();
        usable.retain(|a| a.index == link.index && !a.deprecated && !a.addr.is_loopback());
        usable.sort_by_key(|a| (is_link_local(a.addr), !a.permanent, a.secondary));
        usable.iter().map(|a| a.addr).collect()
    }

    /// The link with an address of each family: the advertised one if it is one of this host,
    /// as other nodes take packets from no other, else one of `named`, else the best.
    pub(super) fn underlay(&self, link: &Link, named: &[IpAddr]) -> Result<Underlay, Unfit> {
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
        let choice = |family| {
            let of_family = addrs.iter().find(|addr| Family::of(**addr) == family);
            match (self.wanted.of(family), of_family) {
                (false, _) => Ok(None),
                (true, Some(addr)) => Ok(Some(*addr)),
                (true, None) => Err(Unfit::NoAddress(link.name.clone(), family)),
            }
        };
        let local = PerFamily::try_new(choice)?;
        if link.mtu == 0 {
            return Err(Unfit::NoMtu(link.name.clone()));
        }
        let public = |family| {
            let given = self.options.public.of(family);
            local.of(family).map(|addr| given.unwrap_or(addr))
        };
        Ok(Underlay {
            name: link.name.clone(),
            index: link.index,
            mtu: link.mtu,
            local,
            public: PerFamily::new(public),
            by_default_route: false,
        })
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}
