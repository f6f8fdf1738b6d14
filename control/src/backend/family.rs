//! The two address families, and where each of them stands in configs and leases.

use crate::config::NetworkConfig;
use crate::lease::{BadAttrs, Lease, LeaseAttrs, Previous, VxlanData};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// An address family of pods. Their packets travel over the underlay of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The families that the network has.
    pub fn of(config: &NetworkConfig) -> impl Iterator<Item = Family> {
        let families = [Family::V4, Family::V6].into_iter();
        families.filter(|family| family.network(config).is_some())
    }

    /// The network that all nodes' subnets are cut from.
    pub fn network(self, config: &NetworkConfig) -> Option<IpNet> {
        match self {
            Family::V4 => config.network.map(IpNet::V4),
            Family::V6 => config.ipv6_network.map(IpNet::V6),
        }
    }

    /// Prefix length of a node's subnet.
    pub fn subnet_len(self, config: &NetworkConfig) -> u8 {
        match self {
            Family::V4 => config.subnet_len,
            Family::V6 => config.ipv6_subnet_len,
        }
    }

    /// The network at the last start.
    pub fn earlier(self, previous: &Previous) -> Option<IpNet> {
        match self {
            Family::V4 => previous.network.map(IpNet::V4),
            Family::V6 => previous.ipv6_network.map(IpNet::V6),
        }
    }

    /// The subnet that a lease is for.
    pub fn subnet(self, lease: &Lease) -> Option<IpNet> {
        match self {
            Family::V4 => lease.subnet.map(IpNet::V4),
            Family::V6 => lease.subnet_v6.map(IpNet::V6),
        }
    }

    /// The subnets that a lease is for.
    pub fn subnets(lease: &Lease) -> impl Iterator<Item = IpNet> {
        let families = [Family::V4, Family::V6].into_iter();
        families.filter_map(|family| family.subnet(lease))
    }

    /// The address that a node advertises.
    pub fn public(self, attrs: &LeaseAttrs) -> Option<IpAddr> {
        match self {
            Family::V4 => Some(attrs.public_ip.into()),
            Family::V6 => attrs.public_ipv6.map(IpAddr::V6),
        }
    }

    /// What a vxlan node tells of itself.
    pub fn vxlan_data(self, attrs: &LeaseAttrs) -> Result<VxlanData, BadAttrs> {
        match self {
            Family::V4 => attrs.vxlan_data(),
            Family::V6 => attrs.vxlan_v6_data(),
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
