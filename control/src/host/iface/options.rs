//! Which interface the user wants.

use crate::family::{Family, PerFamily};
use std::net::IpAddr;

/// Which interface carries the encapsulated packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceOptions {
    /// Names or addresses, the first that matches wins.
    pub iface: Vec<String>,
    /// Regular expressions, tried after all of `iface`. Each of them compiles.
    pub iface_regex: Vec<String>,
    /// Tried last: the interface and source address that this address is reached by.
    pub can_reach: Option<IpAddr>,
    /// Addresses that other nodes send to; `None`: the interface's.
    pub public: PerFamily<Option<IpAddr>>,
}

impl InterfaceOptions {
    /// Whether no interface is named, in any way.
    pub(super) fn names_none(&self) -> bool {
        let mut values = self.iface.iter().chain(&self.iface_regex);
        values.all(String::is_empty) && self.can_reach.is_none()
    }

    /// The addresses to advertise, each with its flag, IPv4 first.
    pub(super) fn advertised(&self) -> impl Iterator<Item = (&'static str, IpAddr)> {
        let given = self.public.iter();
        given.filter_map(|(family, addr)| Some((public_flag(family), (*addr)?)))
    }
}

/// The flag that an advertised address is given by.
fn public_flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-public-ip",
        Family::V6 => "-public-ipv6",
    }
}
