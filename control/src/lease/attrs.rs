//! The value of a lease: the JSON that tells peers how to reach a node.

use crate::family::Family;
use crate::json::{Object, WrongType};
use crate::text::shown;
use crate::wire::{MacAddr, Vni};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How peers reach a node. Serialises byte for byte as flannel's `LeaseAttrs`, but for the
/// `PublicIP` of a node without IPv4: see [`LeaseAttrs::to_json`].
#[derive(Clone, Debug, Serialize)]
pub struct LeaseAttrs {
    /// The advertised IPv4 address; 0.0.0.0 if there is none.
    #[serde(rename = "PublicIP")]
    pub public_ip: Ipv4Addr,
    /// The advertised IPv6 address; written as `null` if there is none.
    #[serde(rename = "PublicIPv6")]
    pub public_ipv6: Option<Ipv6Addr>,
    /// The type of the backend; empty, and left out, for udp and alloc.
    #[serde(rename = "BackendType", skip_serializing_if = "String::is_empty")]
    pub backend_type: String,
    /// What the backend tells its peers about IPv4, as written.
    #[serde(rename = "BackendData", skip_serializing_if = "Option::is_none")]
    pub backend_data: Option<Box<RawValue>>,
    /// What the backend tells its peers about IPv6, as written.
    #[serde(rename = "BackendV6Data", skip_serializing_if = "Option::is_none")]
    pub backend_v6_data: Option<Box<RawValue>>,
}

/// What is stored as `PublicIP` of a node without IPv4: the dummy address of RFC 7600, which no
/// node has. flanneld, whose only mark of a node is `PublicIP`, takes the first lease of
/// 0.0.0.0 for its own in a network of IPv6 alone, whoever it belongs to.
const NO_PUBLIC_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Whether an address can be that of a node, by its form.
pub fn is_host(addr: IpAddr) -> bool {
    let broadcast = matches!(addr, IpAddr::V4(addr) if addr.is_broadcast());
    !(addr.is_unspecified() || addr.is_multicast() || broadcast)
}

/// The `BackendData` of a vxlan node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VxlanData {
    /// The node's VNI. Zero if an old peer left it out or stated one that is too large; never
    /// used of a peer.
    #[serde(rename = "VNI", serialize_with = "vni_number")]
    pub vni: Vni,
    /// The MAC address that frames for the node are sent to.
    #[serde(rename = "VtepMAC", serialize_with = "mac_text")]
    pub vtep_mac: MacAddr,
}

/// Why a lease's value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAttrs {
    /// The text is no JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// A key that is needed is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A key has a value of another kind.
    #[error("{key} {value} is not {wanted}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
}

impl LeaseAttrs {
    /// Attributes of a vxlan node with IPv4, IPv6 or both: for each family the advertised
    /// address and the data.
    pub fn vxlan(
        v4: Option<(Ipv4Addr, VxlanData)>,
        v6: Option<(Ipv6Addr, VxlanData)>,
    ) -> LeaseAttrs {
        let data = |data: VxlanData| to_raw_value(&data).ok();
        LeaseAttrs {
            backend_type: "vxlan".into(),
            backend_data: v4.and_then(|(_, v4)| data(v4)),
            backend_v6_data: v6.and_then(|(_, v6)| data(v6)),
            ..LeaseAttrs::untyped(v4.map(|(addr, _)| addr), v6.map(|(addr, _)| addr))
        }
    }

    /// Attributes of a host-gw node: its advertised addresses are the gateways.
    pub fn host_gw(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> LeaseAttrs {
        LeaseAttrs {
            backend_type: "host-gw".into(),
            ..LeaseAttrs::untyped(v4, v6)
        }
    }

    /// Attributes of a udp node.
    pub fn udp(v4: Ipv4Addr) -> LeaseAttrs {
        LeaseAttrs::untyped(Some(v4), None)
    }

    /// Attributes of an alloc node, which has a subnet and no tunnel.
    pub fn alloc(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> LeaseAttrs {
        LeaseAttrs::untyped(v4, v6)
    }

    /// Addresses alone: flannel's udp and alloc backends write no type.
    fn untyped(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> LeaseAttrs {
        LeaseAttrs {
            public_ip: v4.unwrap_or(Ipv4Addr::UNSPECIFIED),
            public_ipv6: v6,
            backend_type: String::new(),
            backend_data: None,
            backend_v6_data: None,
        }
    }

    /// The address that a node is known by: PublicIP or, without IPv4, PublicIPv6.
    pub fn identity(&self) -> IpAddr {
        match self.public_ipv6 {
            Some(v6) if self.public_ip.is_unspecified() => v6.into(),
            _ => self.public_ip.into(),
        }
    }

    /// The address of a family that the node advertises.
    pub fn public(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => Some(self.public_ip.into()),
            Family::V6 => self.public_ipv6.map(IpAddr::V6),
        }
    }

    /// Whether both are one node's: the same PublicIP or, where one of them has no IPv4, the
    /// same PublicIPv6. A node whose network gains or loses IPv4 stays the same node.
    pub fn same_node(&self, other: &LeaseAttrs) -> bool {
        if self.public_ip.is_unspecified() || other.public_ip.is_unspecified() {
            return self.public_ipv6.is_some() && self.public_ipv6 == other.public_ipv6;
        }
        self.public_ip == other.public_ip
    }

    /// Read a value by Go's rules: case of keys does not matter, unknown keys are ignored, and
    /// a missing PublicIP is 0.0.0.0, as is 192.0.0.8 beside a PublicIPv6. One of the two
    /// addresses must be there.
    pub fn parse(text: &str) -> Result<LeaseAttrs, BadAttrs> {
        let keys = Object::parse(text).map_err(BadAttrs::Json)?;
        let public_ip: Option<Ipv4Addr> = get(&keys, "PublicIP", "an IPv4 address")?;
        let public_ipv6 = get(&keys, "PublicIPv6", "an IPv6 address")?;
        if public_ip.is_none() && public_ipv6.is_none() {
            return Err(BadAttrs::Missing("PublicIP"));
        }
        let public_ip = public_ip.filter(|ip| *ip != NO_PUBLIC_IP || public_ipv6.is_none());
        Ok(LeaseAttrs {
            public_ip: public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            public_ipv6,
            backend_type: get(&keys, "BackendType", "a string")?.unwrap_or_default(),
            backend_data: raw(&keys, "BackendData"),
            backend_v6_data: raw(&keys, "BackendV6Data"),
        })
    }

    /// The value as it is stored. A node without IPv4 has the PublicIP 192.0.0.8 there, so that
    /// no flanneld takes its lease.
    pub fn to_json(&self) -> String {
        let mut stored = self.clone();
        if stored.public_ip.is_unspecified() && stored.public_ipv6.is_some() {
            stored.public_ip = NO_PUBLIC_IP;
        }
        // Addresses, strings and JSON that was parsed before: nothing that could fail.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// What a vxlan node tells of itself in a family: `BackendData` or `BackendV6Data`.
    pub fn vxlan_data(&self, family: Family) -> Result<VxlanData, BadAttrs> {
        let (key, data) = match family {
            Family::V4 => ("BackendData", self.backend_data.as_deref()),
            Family::V6 => ("BackendV6Data", self.backend_v6_data.as_deref()),
        };
        VxlanData::parse(data.ok_or(BadAttrs::Missing(key))?.get())
    }

    /// The MACs that frames for a vxlan node are sent to, of IPv4 and of IPv6.
    pub fn macs(&self) -> [Option<MacAddr>; 2] {
        Family::BOTH.map(|family| Some(self.vxlan_data(family).ok()?.vtep_mac))
    }

    /// A MAC that two vxlan nodes have in common in one family, so that each takes the other's
    /// frames for its own; none if both are one node's.
    pub fn shared_mac(&self, other: &LeaseAttrs) -> Option<MacAddr> {
        let are_vxlan = [self, other].iter().all(|a| a.backend_type == "vxlan");
        if !are_vxlan || self.same_node(other) {
            return None;
        }
        let mut pairs = self.macs().into_iter().zip(other.macs());
        pairs.find_map(|(mac, others)| mac.filter(|_| mac == others))
    }
}

impl PartialEq for LeaseAttrs {
    fn eq(&self, other: &LeaseAttrs) -> bool {
        self.to_json() == other.to_json()
    }
}

impl VxlanData {
    /// Read a peer's data by Go's rules; the VNI may be absent, or any that flannel's `uint32`
    /// holds.
    pub fn parse(text: &str) -> Result<VxlanData, BadAttrs> {
        let keys = Object::parse(text).map_err(BadAttrs::Json)?;
        let mac: String = get(&keys, "VtepMAC", "a string")?.ok_or(BadAttrs::Missing("VtepMAC"))?;
        let vtep_mac = mac.parse().map_err(|_| BadAttrs::Invalid {
            key: "VtepMAC",
            value: shown(&mac),
            wanted: "a MAC address such as 0e:12:34:56:78:9a",
        })?;
        let vni: Option<u32> = get(&keys, "VNI", "a VNI")?;
        Ok(VxlanData {
            vni: vni.and_then(Vni::new).unwrap_or_default(),
            vtep_mac,
        })
    }
}

fn get<T: serde::de::DeserializeOwned>(
    keys: &Object,
    key: &'static str,
    wanted: &'static str,
) -> Result<Option<T>, BadAttrs> {
    keys.get(key)
        .map_err(|WrongType { value }| BadAttrs::Invalid { key, value, wanted })
}

/// A value as written; `null` counts as absent.
fn raw(keys: &Object, key: &str) -> Option<Box<RawValue>> {
    keys.get(key).unwrap_or_default()
}

fn vni_number<S: Serializer>(vni: &Vni, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(vni.get())
}

fn mac_text<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mac)
}

#[cfg(test)]
mod tests;
