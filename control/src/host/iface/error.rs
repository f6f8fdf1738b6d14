//! Why an interface cannot carry the outer packets, in one line.

use crate::family::Family;
use crate::host::netlink::NetlinkError;
use std::net::IpAddr;

/// Why no underlay could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum IfaceError {
    /// Nothing that the user named can be used.
    #[error("no usable interface: {0} (`ip -brief address` lists those of this host)")]
    NoneNamed(String),
    /// The advertised address is on no interface and nothing says which to use.
    #[error(
        "{0} {1} is on no interface of this host; if it is translated by a NAT, say with -iface which interface to use"
    )]
    PublicIpNotLocal(&'static str, IpAddr),
    /// The advertised address is one that only the tunnel leads to.
    #[error(
        "{0} {1} is an address of {2}, which is of the pods' network; advertise one of the underlay"
    )]
    PublicIpOfOverlay(&'static str, IpAddr, String),
    /// The two families would use different interfaces.
    #[error(
        "{0} is on {1}, {2} on {3}: IPv4 and IPv6 need the same interface; name it with -iface"
    )]
    TwoInterfaces(String, String, String, String),
    /// Nothing was given and there is no default route.
    #[error(
        "there is no {0} default route to take the interface from; name one with -iface, of those with such addresses: {1}"
    )]
    NoDefaultRoute(Family, String),
    /// The default route names an interface that is gone or names none.
    #[error("the {0} default route names no interface; name one with -iface")]
    DefaultRouteWithoutInterface(Family),
    /// The interface cannot be used.
    #[error("{0}; mend it, or name another with -iface")]
    Unfit(Unfit),
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl IfaceError {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            IfaceError::NoneNamed(_) | IfaceError::Unfit(_) => "W0402",
            IfaceError::PublicIpNotLocal(..) | IfaceError::PublicIpOfOverlay(..) => "W0403",
            IfaceError::TwoInterfaces(..) => "W0404",
            IfaceError::NoDefaultRoute(..) | IfaceError::DefaultRouteWithoutInterface(_) => "W0405",
            IfaceError::Netlink(_) => NetlinkError::CODE,
        }
    }
}

/// Why one candidate is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Neither a name nor an address of this host.
    #[error("matches nothing")]
    NoMatch,
    /// Nothing leads to the address.
    #[error("there is no route to it")]
    NoRoute,
    /// The flags let only patterns through that compile; other callers may not.
    #[error("is no regular expression")]
    Pattern,
    /// A device that flannel, weft or a container runtime makes for pods.
    #[error("{0} is of the pods' network: outer packets through it would go back into the tunnel")]
    Overlay(String),
    /// An address of the family is missing.
    #[error("interface {0} has no usable {1} address")]
    NoAddress(String, Family),
    /// The kernel reports no MTU.
    #[error("interface {0} has MTU 0")]
    NoMtu(String),
}
