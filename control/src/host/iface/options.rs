//! Which interface the user wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which interface carries the encapsulated packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceOptions {
    /// Names or addresses, the first that matches wins.
    pub iface: Vec<String>,
    /// Regular expressions, tried after all of `iface`. Each of them compiles.
    pub iface_regex: Vec<String>,
    /// Tried last: the interface and source address that this address is reached by.
    pub can_reach: Option<IpAddr>,
    /// IPv4 address that other nodes send to; `None`: the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// IPv6 address that other nodes send to; `None`: the interface's.
    pub public_ipv6: Option<Ipv6Addr>,
}

impl InterfaceOptions {
    /// Whether no interface is named, in any way.
    pub(super) fn names_none(&self) -> bool {
        let mut values = self.iface.iter().chain(&self.iface_regex);
        values.all(String::is_empty) && self.can_reach.is_none()
    }

    /// The addresses to advertise, each with its flag, IPv4 first.
    pub(super) fn advertised(&self) -> impl Iterator<Item = (&'static str, IpAddr)> {
        let v4 = self.public_ip.map(|addr| ("-public-ip", IpAddr::V4(addr)));
        let v6 = self.public_ipv6;
        let v6 = v6.map(|addr| ("-public-ipv6", IpAddr::V6(addr)));
        v4.into_iter().chain(v6)
    }
}
