//! Which way pod traffic between two nodes takes.
//!
//! weft's one route covers the whole Network; a more specific route to the other node's pod
//! subnet diverts traffic to another tunnel or straight to the other node. Pods, their MTU and
//! their connections' addresses are the same on all ways.

use super::{
    Error, Lab, Namespace, Result, Vtep, VxlanSpec, flannel, ovs, proxy, topology, tuntap,
};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// How pod traffic crosses the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Routed as it is, without a tunnel.
    Direct,
    /// The kernel's VXLAN device.
    Kernel,
    /// weft's agents.
    Weft,
    /// The one-packet-at-a-time forwarder, see [`super::tuntap`].
    TunTap,
    /// A forwarder like flannel's udp proxy, see [`super::proxy`].
    UdpProxy,
    /// weft's `udp` backend, see [`super::flannel`].
    WeftUdp,
    /// flanneld's `udp` backend, see [`super::flannel`].
    FlannelUdp,
    /// Open vSwitch's userspace datapath, see [`super::ovs`].
    Ovs,
}

/// One side of the switch.
#[derive(Debug)]
struct Side {
    ns: Namespace,
    vtep: Vtep,
    /// The other node.
    other: Ipv4Addr,
    /// Where the other node is inside Open vSwitch's tunnel.
    other_gateway: Ipv4Addr,
    other_subnet: Ipv4Net,
    other_pod: Ipv4Addr,
}

/// Chooses the path between two nodes whose pods are attached.
#[derive(Debug)]
pub struct Switch {
    sides: [Side; 2],
}

impl Switch {
    /// Prepare kernel VXLAN between nodes `a` and `b` (numbers from 1) beside whatever else
    /// carries their traffic, without using it yet.
    pub fn new(lab: &Lab, a: usize, b: usize, mtu: u32) -> Result<Switch> {
        let vtep = |number: usize| -> Result<Vtep> {
            let subnet = subnet_of(lab, number)?;
            Vtep::create(lab, number, VxlanSpec::beside(mtu), subnet)
        };
        let (vtep_a, vtep_b) = (vtep(a)?, vtep(b)?);
        vtep_a.learn(&vtep_b.as_peer())?;
        vtep_b.learn(&vtep_a.as_peer())?;
        let side = |own: usize, vtep: Vtep, other: usize| -> Result<Side> {
            Ok(Side {
                ns: lab.node(own).ns.clone(),
                vtep,
                other: lab.node(other).underlay,
                other_gateway: ovs::gateway(other),
                other_subnet: subnet_of(lab, other)?,
                other_pod: lab.node(other).pod()?.address,
            })
        };
        let sides = [side(a, vtep_a, b)?, side(b, vtep_b, a)?];
        Ok(Switch { sides })
    }

    /// Send pod traffic this way from now on, in both directions, and make sure that the
    /// kernel's routing agrees.
    pub fn choose(&self, path: Path) -> Result<()> {
        for side in &self.sides {
            let (ns, subnet) = (&side.ns, side.other_subnet);
            let route = match path {
                Path::Direct => {
                    let (via, dev) = (side.other, topology::UNDERLAY);
                    Some((dev, format!("via {via} dev {dev}")))
                }
                Path::Kernel => {
                    let (base, dev) = (subnet.network(), side.vtep.device());
                    Some((dev, format!("via {base} dev {dev} onlink")))
                }
                Path::TunTap => Some((tuntap::DEVICE, format!("dev {}", tuntap::DEVICE))),
                Path::UdpProxy => Some((proxy::DEVICE, format!("dev {}", proxy::DEVICE))),
                Path::WeftUdp | Path::FlannelUdp => {
                    Some((flannel::DEVICE, format!("dev {}", flannel::DEVICE)))
                }
                Path::Ovs => {
                    let (via, dev) = (side.other_gateway, ovs::DEVICE);
                    Some((dev, format!("via {via} dev {dev}")))
                }
                Path::Weft => None,
            };
            match &route {
                Some((_, way)) => {
                    ns.ip(&format!("route replace {subnet} {way}"))?;
                }
                None => forget(ns, subnet)?,
            }
            let dev = device_towards(ns, side.other_pod)?;
            let right = match route {
                Some((expected, _)) => dev == expected,
                None => dev.starts_with("flannel."),
            };
            if !right {
                return Err(Error::new(format!(
                    "traffic for {subnet} leaves through {dev}, which is not the way {path:?}"
                )));
            }
        }
        Ok(())
    }
}

/// Delete the specific route to `subnet`, if there is one.
fn forget(ns: &Namespace, subnet: Ipv4Net) -> Result<()> {
    let routes = ns.ip(&format!("route show exact {subnet}"))?;
    if !routes.trim().is_empty() {
        ns.ip(&format!("route del {subnet}"))?;
    }
    Ok(())
}

fn subnet_of(lab: &Lab, number: usize) -> Result<Ipv4Net> {
    let subnet = lab.node(number).subnet;
    subnet.ok_or_else(|| Error::new(format!("node {number} has no pods attached")))
}

/// The device through which a namespace reaches an address.
fn device_towards(ns: &Namespace, address: Ipv4Addr) -> Result<String> {
    let json = ns.ip(&format!("-j route get {address}"))?;
    let routes: serde_json::Value =
        serde_json::from_str(&json).map_err(|e| Error::because("ip -j route get", e))?;
    let dev = routes[0]["dev"].as_str();
    dev.map(str::to_owned)
        .ok_or_else(|| Error::new(format!("no route to {address} in {}", ns.name())))
}
