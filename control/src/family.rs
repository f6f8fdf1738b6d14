//! The two address families, and what there is of each.
//!
//! Packets of pods travel over the underlay in the family that they have themselves, so that
//! most things of a node come in pairs: addresses, networks, tunnels, rules.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The address of this family that a number stands for.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4((number as u32).into()),
            Family::V6 => IpAddr::V6(number.into()),
        }
    }

    /// That of an address.
    pub fn of(addr: IpAddr) -> Family {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An address as a number.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => addr.into(),
    }
}

/// One of a kind for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// That of IPv4.
    pub v4: T,
    /// That of IPv6.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// Make one for each family, IPv4 first.
    pub fn new(mut make: impl FnMut(Family) -> T) -> PerFamily<T> {
        let v4 = make(Family::V4);
        let v6 = make(Family::V6);
        PerFamily { v4, v6 }
    }

    /// As [`PerFamily::new`]; the first error, if there is one.
    pub fn try_new<E>(mut make: impl FnMut(Family) -> Result<T, E>) -> Result<PerFamily<T>, E> {
        let v4 = make(Family::V4)?;
        let v6 = make(Family::V6)?;
        Ok(PerFamily { v4, v6 })
    }

    /// That of `family`.
    pub fn of(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Both, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::BOTH.into_iter().zip([&self.v4, &self.v6])
    }
}

impl<T: Copy> PerFamily<Option<T>> {
    /// Those that there are, IPv4 first.
    pub fn present(&self) -> impl Iterator<Item = T> + use<T> {
        [self.v4, self.v6].into_iter().flatten()
    }

    /// Whether there is one, for each family.
    pub fn is_some(&self) -> PerFamily<bool> {
        PerFamily::new(|family| self.of(family).is_some())
    }
}

impl PerFamily<Option<IpAddr>> {
    /// The addresses as such of their families.
    pub fn typed(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let v4 = match self.v4 {
            Some(IpAddr::V4(addr)) => Some(addr),
            _ => None,
        };
        let v6 = match self.v6 {
            Some(IpAddr::V6(addr)) => Some(addr),
            _ => None,
        };
        (v4, v6)
    }
}

impl PerFamily<Option<IpNet>> {
    /// The networks as such of their families.
    pub fn typed(&self) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
        let v4 = match self.v4 {
            Some(IpNet::V4(net)) => Some(net),
            _ => None,
        };
        let v6 = match self.v6 {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        };
        (v4, v6)
    }
}
