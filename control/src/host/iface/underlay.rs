//! What has been chosen.

use crate::family::PerFamily;
use std::fmt;
use std::net::IpAddr;

/// The interface and local addresses that carry the outer packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Local addresses, which packets leave from, of the families that are wanted. As that of
    /// `-public-ip` one may be of another interface.
    pub local: PerFamily<Option<IpAddr>>,
    /// What other nodes send to: `-public-ip` and `-public-ipv6`, else the local ones; of the
    /// families that are wanted.
    pub public: PerFamily<Option<IpAddr>>,
    /// Chosen because the default route leads through it.
    pub by_default_route: bool,
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        for addr in self.local.present() {
            write!(f, "{addr}, ")?;
        }
        write!(f, "MTU {}), advertised address", self.mtu)?;
        for (i, addr) in self.public.present().enumerate() {
            write!(f, "{} {addr}", if i == 0 { "" } else { " and" })?;
        }
        Ok(())
    }
}
