//! Leases: which node owns which subnet, and how its peers reach it.
//!
//! Nothing here touches a clock or a store: time and randomness are passed in.

mod attrs;
mod backoff;
pub mod choose;
mod keeper;
mod key;
mod overlap;
mod previous;

use crate::config::NetworkConfig;
use crate::family::{Family, PerFamily};
pub use attrs::{BadAttrs, LeaseAttrs, VxlanData, is_host};
pub use backoff::Backoff;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use keeper::{Keeper, LeaseEnd, Loss, Seen};
pub use key::{BadKey, SubnetKey};
pub(crate) use overlap::enclosed;
pub use previous::Previous;
use std::fmt;
use std::time::Instant;

/// One node's claim on a subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The node's IPv4 subnet, host bits zero, where the network has IPv4.
    pub subnet: Option<Ipv4Net>,
    /// The node's IPv6 subnet, host bits zero, where the network has IPv6.
    pub subnet_v6: Option<Ipv6Net>,
    /// How peers reach the node.
    pub attrs: LeaseAttrs,
    /// When the store drops the lease unless it is renewed. Known for the own lease only;
    /// `None` for a reservation, which never ends, and for peers, whose end the store reports.
    pub expires: Option<Instant>,
    /// The store's revision of this state of the lease.
    pub revision: i64,
}

impl Lease {
    /// The name of the lease in the store.
    pub fn key(&self) -> SubnetKey {
        SubnetKey {
            v4: self.subnet,
            v6: self.subnet_v6,
        }
    }

    /// The subnet of a family.
    pub fn subnet(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => self.subnet.map(IpNet::V4),
            Family::V6 => self.subnet_v6.map(IpNet::V6),
        }
    }

    /// All subnets, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        PerFamily::new(|family| self.subnet(family)).present()
    }

    /// The node's part of each of the network's families that both have.
    pub fn networks(&self, config: &NetworkConfig) -> PerFamily<Option<NodeNetwork>> {
        PerFamily::new(|family| {
            let (network, subnet) = (config.network(family)?, self.subnet(family)?);
            Some(NodeNetwork { network, subnet })
        })
    }
}

/// A node's part of the pods' network, in one address family. Host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The network of all pods (`Network`, `IPv6Network`).
    pub network: IpNet,
    /// The part of it that is this node's.
    pub subnet: IpNet,
}

/// The subnets, for people: `10.5.34.0/24`, `fd00::/64`, or both joined by `and`.
impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.subnet, self.subnet_v6) {
            (Some(v4), Some(v6)) => write!(f, "{v4} and {v6}"),
            (Some(v4), None) => v4.fmt(f),
            (None, Some(v6)) => v6.fmt(f),
            (None, None) => f.write_str("no subnet"),
        }
    }
}
