//! What a tunnel is to be.

use crate::wire::Vni;
use ipnet::IpNet;
use std::net::IpAddr;
pub(crate) use weft_dataplane::wire::frame::Wire;

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

/// The networks that a device has its address and route for, of its family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceNetworks {
    /// The network of all pods.
    pub network: IpNet,
    /// That of the last start, if it is known.
    pub previous: Option<IpNet>,
    /// This node's subnet.
    pub subnet: IpNet,
}
