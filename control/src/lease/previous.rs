//! What this node had at its last start.

use crate::family::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks and subnets of the last start, as far as they are known. Subnets are masked to
/// their base address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// The IPv4 network of all pods.
    pub network: Option<Ipv4Net>,
    /// This node's part of it.
    pub subnet: Option<Ipv4Net>,
    /// The IPv6 network of all pods.
    pub ipv6_network: Option<Ipv6Net>,
    /// This node's part of it.
    pub ipv6_subnet: Option<Ipv6Net>,
}

impl Previous {
    /// The network of a family.
    pub fn network(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.network.map(IpNet::V4),
            Family::V6 => self.ipv6_network.map(IpNet::V6),
        }
    }

    /// The node's subnet of a family.
    pub fn subnet(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.subnet.map(IpNet::V4),
            Family::V6 => self.ipv6_subnet.map(IpNet::V6),
        }
    }
}
