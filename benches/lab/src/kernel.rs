//! Kernel VXLAN, configured as flannel configures it.

use super::{Error, Lab, Namespace, Result, topology};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// A VXLAN network's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSpec {
    /// Name of the device.
    pub device: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of all VTEPs.
    pub port: u16,
    /// Overlay MTU in bytes.
    pub mtu: u32,
    /// Whether it puts the marks of packets into its headers (`gbp`).
    pub gbp: bool,
}

impl VxlanSpec {
    /// What flannel makes of `{"Type": "vxlan", "VNI": vni}` on an underlay of MTU 1500.
    pub fn flannel(vni: u32) -> VxlanSpec {
        VxlanSpec {
            device: format!("flannel.{vni}"),
            vni,
            port: 8472,
            mtu: 1450,
            gbp: false,
        }
    }

    /// A second VXLAN that can live on the same nodes as weft: own name, VNI and port.
    pub fn beside(mtu: u32) -> VxlanSpec {
        VxlanSpec {
            device: "vx-lab".to_owned(),
            vni: 2,
            port: 4789,
            mtu,
            gbp: false,
        }
    }
}

/// A kernel VTEP on a node.
#[derive(Clone, Debug)]
pub struct Vtep {
    ns: Namespace,
    spec: VxlanSpec,
    mac: String,
    subnet: Ipv4Net,
    underlay: Ipv4Addr,
}

/// Another node as a VTEP sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pods' subnet.
    pub subnet: Ipv4Net,
    /// Its underlay address.
    pub underlay: Ipv4Addr,
    /// MAC of its VXLAN device, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
}

impl Vtep {
    /// Make the device on node `number` (from 1), with the `/32` base of the node's pod
    /// subnet as its address.
    pub fn create(lab: &Lab, number: usize, spec: VxlanSpec, subnet: Ipv4Net) -> Result<Vtep> {
        let node = lab.node(number);
        let (ns, subnet) = (node.ns.clone(), subnet.trunc());
        let VxlanSpec {
            device,
            vni,
            port,
            mtu,
            gbp,
        } = &spec;
        let gbp = if *gbp { "gbp" } else { "" };
        let (local, dev, base) = (node.underlay, topology::UNDERLAY, subnet.network());
        ns.ip(&format!(
            "link add {device} mtu {mtu} type vxlan id {vni} local {local} dev {dev} \
             dstport {port} nolearning udpcsum {gbp}"
        ))?;
        ns.ip(&format!("addr add {base}/32 dev {device}"))?;
        ns.ip(&format!("link set {device} up"))?;
        let mac = mac_of(&ns, device)?;
        Ok(Vtep {
            ns,
            spec,
            mac,
            subnet,
            underlay: local,
        })
    }

    /// This VTEP as others see it.
    pub fn as_peer(&self) -> Peer {
        Peer {
            subnet: self.subnet,
            underlay: self.underlay,
            mac: self.mac.clone(),
        }
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.spec.device
    }

    /// Install a peer's neighbour and forwarding entries, as flannel does for each lease.
    pub fn learn(&self, peer: &Peer) -> Result<()> {
        let (dev, base, mac) = (&self.spec.device, peer.subnet.network(), &peer.mac);
        self.ns.ip(&format!(
            "neigh replace {base} lladdr {mac} dev {dev} nud permanent"
        ))?;
        let dst = peer.underlay.to_string();
        let fdb = [
            "bridge",
            "fdb",
            "replace",
            mac,
            "dev",
            dev,
            "dst",
            &dst,
            "self",
            "permanent",
        ];
        self.ns.run(&fdb).map(drop)
    }

    /// Route the peer's subnet through this device.
    pub fn route(&self, peer: &Peer) -> Result<()> {
        let (dev, subnet) = (&self.spec.device, peer.subnet);
        let base = subnet.network();
        self.ns
            .ip(&format!(
                "route replace {subnet} via {base} dev {dev} onlink"
            ))
            .map(drop)
    }

    /// The lease value flannel would write for this node (contract 2.2).
    pub fn lease_value(&self) -> String {
        lease_value(self.underlay, self.spec.vni, &self.mac)
    }

    /// The key of that lease below the network's prefix: `subnets/10.244.7.0-24`.
    pub fn lease_key(&self) -> String {
        let (base, len) = (self.subnet.network(), self.subnet.prefix_len());
        format!("subnets/{base}-{len}")
    }

    /// Delete the device and with it its routes, neighbours and forwarding entries.
    pub fn delete(self) -> Result<()> {
        self.ns
            .ip(&format!("link del {}", self.spec.device))
            .map(drop)
    }
}

fn lease_value(public: Ipv4Addr, vni: u32, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"{public}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":{vni},"VtepMAC":"{mac}"}}}}"#
    )
}

/// MAC of a device inside a namespace.
pub fn mac_of(ns: &Namespace, device: &str) -> Result<String> {
    let json = ns.ip(&format!("-j link show dev {device}"))?;
    let links: serde_json::Value =
        serde_json::from_str(&json).map_err(|e| Error::because("ip -j link", e))?;
    links[0]["address"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("{device} has no MAC")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_value_is_flannels_text() {
        let value = lease_value(Ipv4Addr::new(192, 168, 64, 3), 1, "c6:d2:32:6f:8f:44");
        assert_eq!(
            value,
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
        );
    }
}
