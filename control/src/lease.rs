//! Leases: which node owns which subnet, and how its peers reach it.
//!
//! Nothing here touches a clock or a store: time and randomness are passed in.

mod attrs;
pub mod choose;
mod keeper;
mod key;

pub use attrs::{BadAttrs, LeaseAttrs, VxlanData};
use ipnet::{Ipv4Net, Ipv6Net};
pub use keeper::{Keeper, LeaseEnd, Seen};
pub use key::{BadKey, SubnetKey};
use std::time::Instant;

/// One node's claim on a subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The node's IPv4 subnet, host bits zero.
    pub subnet: Ipv4Net,
    /// The node's IPv6 subnet where the network has both families.
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
}
