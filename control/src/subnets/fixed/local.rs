//! Addresses of this host, for the hint to a node whose entry has another one.

use futures::future::BoxFuture;
use std::net::IpAddr;

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub addr: IpAddr,
    /// The interface that has it.
    pub name: String,
    /// What `-iface` takes to choose it.
    pub choice: String,
}

/// Finds the first of some addresses that this host has. The store itself does not know the host.
pub(super) type LocalLookup =
    Box<dyn Fn(Vec<IpAddr>) -> BoxFuture<'static, Option<LocalAddress>> + Send + Sync>;
