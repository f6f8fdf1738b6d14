//! What has been chosen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The interface and local addresses that carry the outer packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Local IPv4 address, which packets leave from; `Some` if the family is wanted. As that of
    /// `-public-ip` it may be one of another interface.
    pub v4: Option<Ipv4Addr>,
    /// Local IPv6 address; `Some` if the family is wanted.
    pub v6: Option<Ipv6Addr>,
    /// What other nodes send to: `-public-ip`, else `v4`; `Some` if the family is wanted.
    pub ext_v4: Option<Ipv4Addr>,
    /// As `ext_v4`: `-public-ipv6`, else `v6`.
    pub ext_v6: Option<Ipv6Addr>,
}

impl Underlay {
    /// The local addresses, IPv4 first.
    pub fn local(&self) -> impl Iterator<Item = IpAddr> {
        both(self.v4, self.v6)
    }

    /// The advertised addresses, IPv4 first.
    pub fn advertised(&self) -> impl Iterator<Item = IpAddr> {
        both(self.ext_v4, self.ext_v6)
    }
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        for addr in self.local() {
            write!(f, "{addr}, ")?;
        }
        write!(f, "MTU {}), advertised address", self.mtu)?;
        for (i, addr) in self.advertised().enumerate() {
            write!(f, "{} {addr}", if i == 0 { "" } else { " and" })?;
        }
        Ok(())
    }
}

fn both(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> impl Iterator<Item = IpAddr> {
    let v4 = v4.map(IpAddr::V4).into_iter();
    v4.chain(v6.map(IpAddr::V6))
}

/// The address families that the network config enables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    pub(super) fn contain(self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }
}
