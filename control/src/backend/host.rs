//! What a backend works with on this node.

use super::error::BackendError;
use super::options::BackendOptions;
use crate::family::Family;
use crate::host::iface::Underlay;
use crate::host::netlink::Netlink;
use std::net::IpAddr;

/// The host as it is to a backend.
pub struct Host {
    /// The kernel.
    pub netlink: Netlink,
    /// Where packets to other nodes leave.
    pub underlay: Underlay,
    /// What the backend is told.
    pub options: BackendOptions,
    /// The alias of this agent's devices, which tells them from those of other agents; without
    /// one, devices of earlier runs stay.
    pub mark: Option<String>,
}

impl Host {
    /// The underlay address of `family` to send from.
    pub(super) fn local(&self, family: Family) -> Result<IpAddr, BackendError> {
        self.underlay
            .local
            .of(family)
            .ok_or_else(|| BackendError::NoAddress {
                iface: self.underlay.name.clone(),
                family,
            })
    }
}
