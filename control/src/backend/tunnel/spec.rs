//! What a tunnel is to be.

use ipnet::IpNet;
use std::net::IpAddr;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;

/// What a tunnel is to be.
#[derive(Clone, Debug)]
pub(crate) struct TunnelSpec {
    /// Name of the device.
    pub device: String,
    /// The form of the frames.
    pub wire: Wire,
    /// VXLAN network identifier, of no meaning without VXLAN.
    pub vni: Vni,
    /// Whether VXLAN headers may carry a group policy.
    pub gbp: bool,
    /// Underlay address to send from.
    pub local: IpAddr,
    /// UDP port of all nodes.
    pub port: u16,
    /// MTU of the device in bytes.
    pub mtu: u32,
    /// Metric of the route to the network, if not the one that routes have by default.
    pub metric: Option<u32>,
    /// MTU of pods in bytes: the smallest of all families.
    pub pod_mtu: u32,
}

/// Where in the network this node is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The network, and that of the last start.
    pub networks: [IpNet; 2],
    /// This node's subnet.
    pub subnet: IpNet,
}
