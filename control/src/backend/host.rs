//! What a backend works with on this node.

use crate::host::iface::Underlay;
use crate::host::netlink::Netlink;

/// The host as it is to a backend.
pub struct Host {
    /// The kernel.
    pub netlink: Netlink,
    /// Where packets to other nodes leave.
    pub underlay: Underlay,
    /// The alias of this agent's devices, which tells them from those of other agents; without
    /// one, devices of earlier runs stay.
    pub mark: Option<String>,
}
