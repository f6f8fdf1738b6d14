//! The underlay interface: where encapsulated packets leave the host.

use super::netlink::{Address, Link, Netlink, NetlinkError, Route};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// The interface and local address that carry the outer packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// Local address; outer packets leave from it.
    pub addr: Ipv4Addr,
    /// MTU in bytes.
    pub mtu: u32,
}

/// Why no underlay could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum IfaceError {
    /// None of the names and addresses given by the user exists here.
    #[error("no interface matches -iface {0}; `ip -brief address` lists those of this host")]
    NoMatch(String),
    /// The advertised address is on no interface and no `-iface` says which to use.
    #[error(
        "-public-ip {0} is on no interface of this host; if it is translated by a NAT, say with -iface which interface to use"
    )]
    PublicIpNotLocal(Ipv4Addr),
    /// Nothing was given and there is no default route.
    #[error("there is no default route to take the interface from; name one with -iface")]
    NoDefaultRoute,
    /// The default route names an interface that is gone or names none.
    #[error("the default route names no interface; name one with -iface")]
    DefaultRouteWithoutInterface,
    /// The interface has no usable IPv4 address.
    #[error("interface {0} has no usable IPv4 address; add one or name another with -iface")]
    NoAddress(String),
    /// The kernel reports no MTU.
    #[error("interface {0} has MTU 0")]
    NoMtu(String),
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// What the choice is made from.
#[derive(Clone, Debug, Default)]
struct Inventory {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

/// Choose the underlay.
///
/// The first of `ifaces` (interface names or local addresses) that exists wins. Without
/// any, `public_ip` names the interface that has it; without that, the default route of
/// the main table does.
pub async fn choose(
    netlink: &Netlink,
    ifaces: &[String],
    public_ip: Option<Ipv4Addr>,
) -> Result<Underlay, IfaceError> {
    let inventory = Inventory {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: netlink.routes().await?,
    };
    inventory.choose(ifaces, public_ip)
}

impl Inventory {
    fn choose(
        &self,
        ifaces: &[String],
        public_ip: Option<Ipv4Addr>,
    ) -> Result<Underlay, IfaceError> {
        if !ifaces.is_empty() {
            let found = ifaces.iter().find_map(|value| self.matching(value));
            let (link, addr) = found.ok_or_else(|| IfaceError::NoMatch(ifaces.join(", ")))?;
            return self.underlay(link, addr);
        }
        if let Some(addr) = public_ip {
            let link = self.link_with(addr);
            let link = link.ok_or(IfaceError::PublicIpNotLocal(addr))?;
            return self.underlay(link, Some(addr));
        }
        let mut defaults = self.routes.iter();
        let route = defaults.find(|route| route.destination == IpNet::V4(Ipv4Net::default()));
        let route = route.ok_or(IfaceError::NoDefaultRoute)?;
        let link = route.index.and_then(|index| self.link(index));
        let link = link.ok_or(IfaceError::DefaultRouteWithoutInterface)?;
        self.underlay(link, None)
    }

    fn matching(&self, value: &str) -> Option<(&Link, Option<Ipv4Addr>)> {
        if let Ok(addr) = value.parse::<Ipv4Addr>() {
            return Some((self.link_with(addr)?, Some(addr)));
        }
        let link = self.links.iter().find(|link| link.name == value)?;
        Some((link, None))
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn link_with(&self, addr: Ipv4Addr) -> Option<&Link> {
        let address = self.addresses.iter().find(|address| address.addr == addr)?;
        self.link(address.index)
    }

    fn underlay(&self, link: &Link, addr: Option<Ipv4Addr>) -> Result<Underlay, IfaceError> {
        let addr = addr
            .or_else(|| best_address(&self.addresses, link.index))
            .ok_or_else(|| IfaceError::NoAddress(link.name.clone()))?;
        if link.mtu == 0 {
            return Err(IfaceError::NoMtu(link.name.clone()));
        }
        Ok(Underlay {
            name: link.name.clone(),
            index: link.index,
            addr,
            mtu: link.mtu,
        })
    }
}

/// The address to send from: global before link-local, configured before leased, primary
/// before secondary, else the kernel's order. Deprecated and loopback addresses never.
fn best_address(addresses: &[Address], index: u32) -> Option<Ipv4Addr> {
    addresses
        .iter()
        .filter(|a| a.index == index && !a.deprecated && !a.addr.is_loopback())
        .filter_map(|a| match a.addr {
            IpAddr::V4(addr) => Some((addr.is_link_local(), !a.permanent, a.secondary, addr)),
            IpAddr::V6(_) => None,
        })
        .min_by_key(|&(link_local, leased, secondary, _)| (link_local, leased, secondary))
        .map(|(.., addr)| addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: None,
            mtu: 1500,
            txqueuelen: 1000,
            mac: None,
            up: true,
            carrier: true,
            loopback: name == "lo",
        }
    }

    fn address(index: u32, addr: [u8; 4]) -> Address {
        Address {
            index,
            addr: addr.into(),
            prefix_len: 24,
            peer: addr.into(),
            permanent: true,
            secondary: false,
            deprecated: false,
        }
    }

    fn default_route(index: Option<u32>) -> Route {
        Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            index,
            gateway: Some([192, 168, 1, 1].into()),
            source: None,
            metric: 0,
            universe: true,
            protocol: 3,
            blackhole: false,
        }
    }

    fn host() -> Inventory {
        Inventory {
            links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
            addresses: vec![
                address(1, [127, 0, 0, 1]),
                address(2, [192, 168, 1, 10]),
                address(3, [10, 0, 0, 10]),
                address(3, [10, 0, 0, 11]),
            ],
            routes: vec![default_route(Some(2))],
        }
    }

    fn chosen(host: &Inventory, ifaces: &[&str], public: Option<[u8; 4]>) -> String {
        let ifaces: Vec<String> = ifaces.iter().map(|&s| s.to_owned()).collect();
        match host.choose(&ifaces, public.map(Ipv4Addr::from)) {
            Ok(underlay) => format!("{} {}", underlay.name, underlay.addr),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn u23_interface_by_name_address_and_default_route() {
        let host = host();
        assert_eq!(chosen(&host, &[], None), "eth0 192.168.1.10");
        assert_eq!(chosen(&host, &["eth1"], None), "eth1 10.0.0.10");
        assert_eq!(chosen(&host, &["10.0.0.11"], None), "eth1 10.0.0.11");
        assert_eq!(
            chosen(&host, &["wlan0", "9.9.9.9", "eth1", "eth0"], None),
            "eth1 10.0.0.10",
            "the first match wins"
        );
    }

    #[test]
    fn public_ip_names_the_interface_unless_iface_does() {
        let host = host();
        assert_eq!(chosen(&host, &[], Some([10, 0, 0, 11])), "eth1 10.0.0.11");
        assert_eq!(
            chosen(&host, &["eth0"], Some([8, 8, 8, 8])),
            "eth0 192.168.1.10"
        );
        let error = chosen(&host, &[], Some([8, 8, 8, 8]));
        assert!(
            error.contains("8.8.8.8") && error.contains("-iface"),
            "{error}"
        );
    }

    #[test]
    fn failures_are_one_line_with_a_remedy() {
        let mut host = host();
        let no_match = chosen(&host, &["wlan0", "wlan1"], None);
        assert!(no_match.contains("wlan0, wlan1"), "{no_match}");
        host.routes[0].index = None;
        assert!(chosen(&host, &[], None).contains("names no interface"));
        host.routes.clear();
        assert!(chosen(&host, &[], None).contains("no default route"));
        host.addresses.retain(|a| a.index != 3);
        assert!(chosen(&host, &["eth1"], None).contains("eth1 has no usable IPv4 address"));
        host.links[1].mtu = 0;
        assert!(chosen(&host, &["eth0"], None).contains("MTU 0"));
    }

    #[test]
    fn address_order() {
        let mut addresses = vec![
            address(2, [169, 254, 1, 1]),
            address(2, [10, 0, 0, 1]),
            address(2, [10, 0, 0, 2]),
            address(2, [10, 0, 0, 3]),
            address(2, [10, 0, 0, 4]),
        ];
        addresses[1].deprecated = true;
        addresses[2].permanent = false;
        addresses[3].secondary = true;
        let mut order = Vec::new();
        while let Some(best) = best_address(&addresses, 2) {
            order.push(best.octets()[3]);
            addresses.retain(|a| a.addr != IpAddr::V4(best));
        }
        assert_eq!(order, [4, 3, 2, 1], "the deprecated one is never taken");
        assert_eq!(addresses.len(), 1);
    }
}
