//! Which way pod traffic between two nodes takes.
//!
//! weft's one route covers the whole Network; a more specific route to the other node's pod
//! subnet diverts traffic to kernel VXLAN or straight to the other node. Pods, their MTU and
//! their connections' addresses are the same on all three ways.

use super::{Error, Lab, Namespace, Result, Vtep, VxlanSpec, topology};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// A contestant: how pod traffic crosses the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// Routed as it is, without a tunnel.
    Direct,
    /// The kernel's VXLAN device.
    Kernel,
    /// weft's agents.
    Weft,
}

impl Path {
    /// All of them, in the order of the report's columns.
    pub const ALL: [Path; 3] = [Path::Direct, Path::Kernel, Path::Weft];

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Path::Direct => "direct",
            Path::Kernel => "kernel VXLAN",
            Path::Weft => "weft",
        }
    }
}

/// One side of the switch.
#[derive(Debug)]
struct Side {
    ns: Namespace,
    vtep: Vtep,
    /// The other node.
    other: Ipv4Addr,
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
            let expected = match path {
                Path::Direct => {
                    let via = side.other;
                    let dev = topology::UNDERLAY;
                    ns.ip(&format!("route replace {subnet} via {via} dev {dev}"))?;
                    Some(dev)
                }
                Path::Kernel => {
                    let base = subnet.network();
                    let dev = side.vtep.device();
                    ns.ip(&format!(
                        "route replace {subnet} via {base} dev {dev} onlink"
                    ))?;
                    Some(dev)
                }
                Path::Weft => {
                    if !ns
                        .ip(&format!("route show exact {subnet}"))?
                        .trim()
                        .is_empty()
                    {
                        ns.ip(&format!("route del {subnet}"))?;
                    }
                    None
                }
            };
            let dev = device_towards(ns, side.other_pod)?;
            let right = match expected {
                Some(expected) => dev == expected,
                None => dev.starts_with("flannel"),
            };
            if !right {
                let path = path.name();
                return Err(Error::new(format!(
                    "traffic for {subnet} leaves through {dev}, not through {path}"
                )));
            }
        }
        Ok(())
    }
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
