//! Links, addresses and routes as plain data.

use crate::wire::MacAddr;
use ipnet::IpNet;
use std::net::IpAddr;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND` (`tun`, `vxlan`, `veth`, ...); hardware has none.
    pub kind: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Hardware address of Ethernet links.
    pub mac: Option<MacAddr>,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier: of a TUN, that a process holds it.
    pub carrier: bool,
    /// `ifAlias`, a text for people and programs to know it by.
    pub alias: Option<String>,
    /// A loopback interface.
    pub loopback: bool,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub index: u32,
    /// The local address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// The other end of a point-to-point address, else `addr` itself.
    pub peer: IpAddr,
    /// Configured rather than leased (DHCP).
    pub permanent: bool,
    /// A secondary address of its subnet.
    pub secondary: bool,
    /// Past its preferred lifetime.
    pub deprecated: bool,
}

/// A unicast or blackhole route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination, `0.0.0.0/0` or `::/0` for a default route.
    pub destination: IpNet,
    /// Index of the outgoing interface, of the first next hop if there are several.
    pub index: Option<u32>,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric; the lowest is the most preferred. Adding an IPv6 route with 0 gives it
    /// [`METRIC_V6`].
    pub metric: u32,
    /// Scope universe, as flannel's routes have.
    pub universe: bool,
    /// Who made it: [`PROTOCOL_KERNEL`], [`PROTOCOL_BOOT`] or another (rtnetlink(7)).
    pub protocol: u8,
    /// What it leads to is dropped.
    pub blackhole: bool,
}

/// The metric of IPv6 routes that are added without one (`IP6_RT_PRIO_USER`).
pub const METRIC_V6: u32 = 1024;

/// Routes that the kernel made for an address.
pub const PROTOCOL_KERNEL: u8 = 2;

/// Routes made by nobody in particular: `ip route` and flannel.
pub const PROTOCOL_BOOT: u8 = 3;

/// Our own routes, by which a later run knows them. None of the well-known daemons has it.
pub const PROTOCOL_WEFT: u8 = 119;
