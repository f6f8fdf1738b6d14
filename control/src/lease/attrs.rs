//! The value of a lease: the JSON that tells peers how to reach a node.

use crate::json::{Object, WrongType};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::net::{Ipv4Addr, Ipv6Addr};
use weft_dataplane::wire::ethernet::MacAddr;

/// How peers reach a node. Serialises byte for byte as flannel's `LeaseAttrs`.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseAttrs {
    /// The advertised IPv4 address; also the identity of the node.
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

/// The `BackendData` of a vxlan node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VxlanData {
    /// The node's VNI. Zero if an old peer left it out; never used of a peer.
    #[serde(rename = "VNI")]
    pub vni: u32,
    /// The MAC address that frames for the node are sent to.
    #[serde(rename = "VtepMAC", serialize_with = "mac_text")]
    pub vtep_mac: [u8; 6],
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
    /// Attributes of a vxlan node that has IPv4 only.
    pub fn vxlan(public_ip: Ipv4Addr, data: VxlanData) -> LeaseAttrs {
        LeaseAttrs {
            public_ip,
            public_ipv6: None,
            backend_type: "vxlan".into(),
            backend_data: to_raw_value(&data).ok(),
            backend_v6_data: None,
        }
    }

    /// Read a value by Go's rules: case of keys does not matter, unknown keys are ignored.
    pub fn parse(text: &str) -> Result<LeaseAttrs, BadAttrs> {
        let keys = Object::parse(text).map_err(|error| BadAttrs::Json(error.to_string()))?;
        let public_ip = get(&keys, "PublicIP", "an IPv4 address")?;
        Ok(LeaseAttrs {
            public_ip: public_ip.ok_or(BadAttrs::Missing("PublicIP"))?,
            public_ipv6: get(&keys, "PublicIPv6", "an IPv6 address")?,
            backend_type: get(&keys, "BackendType", "a string")?.unwrap_or_default(),
            backend_data: raw(&keys, "BackendData"),
            backend_v6_data: raw(&keys, "BackendV6Data"),
        })
    }

    /// The value as it is stored.
    pub fn to_json(&self) -> String {
        // Addresses, strings and JSON that was parsed before: nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `BackendData` read as a vxlan node's.
    pub fn vxlan_data(&self) -> Result<VxlanData, BadAttrs> {
        let data = self.backend_data.as_deref();
        VxlanData::parse(data.ok_or(BadAttrs::Missing("BackendData"))?.get())
    }
}

impl PartialEq for LeaseAttrs {
    fn eq(&self, other: &LeaseAttrs) -> bool {
        self.to_json() == other.to_json()
    }
}

impl VxlanData {
    /// Read a peer's data by Go's rules; the VNI may be absent.
    pub fn parse(text: &str) -> Result<VxlanData, BadAttrs> {
        let keys = Object::parse(text).map_err(|error| BadAttrs::Json(error.to_string()))?;
        let mac: String = get(&keys, "VtepMAC", "a string")?.ok_or(BadAttrs::Missing("VtepMAC"))?;
        let MacAddr(vtep_mac) = mac.parse().map_err(|_| BadAttrs::Invalid {
            key: "VtepMAC",
            value: mac,
            wanted: "a MAC address such as 0e:12:34:56:78:9a",
        })?;
        Ok(VxlanData {
            vni: get(&keys, "VNI", "a VNI")?.unwrap_or(0),
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

fn mac_text<S: Serializer>(mac: &[u8; 6], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&MacAddr(*mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44];

    fn vxlan() -> LeaseAttrs {
        let data = VxlanData {
            vni: 1,
            vtep_mac: MAC,
        };
        LeaseAttrs::vxlan(Ipv4Addr::new(192, 168, 64, 3), data)
    }

    #[test]
    fn u3_values_are_written_as_flannel_writes_them() {
        let udp = LeaseAttrs {
            public_ip: Ipv4Addr::new(1, 2, 3, 4),
            backend_type: String::new(),
            backend_data: None,
            ..vxlan()
        };
        assert_eq!(udp.to_json(), r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#);
        assert_eq!(
            vxlan().to_json(),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
        );
        let dual = LeaseAttrs {
            public_ipv6: Some("fd00::3".parse().unwrap()),
            backend_v6_data: vxlan().backend_data,
            ..vxlan()
        };
        assert_eq!(
            dual.to_json(),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#
        );
    }

    #[test]
    fn values_round_trip() {
        let attrs = LeaseAttrs::parse(&vxlan().to_json()).unwrap();
        assert_eq!(attrs, vxlan());
        assert_eq!(attrs.vxlan_data().unwrap().vtep_mac, MAC);
    }

    #[test]
    fn reading_is_tolerant() {
        let attrs = LeaseAttrs::parse(
            r#"{"publicip":"1.2.3.4","New":[{}],"backendTYPE":"vxlan","BackendData":{"vtepmac":"C6-D2-32-6F-8F-44","x":0}}"#,
        )
        .unwrap();
        assert_eq!(attrs.public_ip, Ipv4Addr::new(1, 2, 3, 4));
        assert_eq!(attrs.public_ipv6, None);
        let data = attrs.vxlan_data().unwrap();
        assert_eq!((data.vni, data.vtep_mac), (0, MAC));
    }

    #[test]
    fn malformed_values_are_named() {
        for (text, message) in [
            ("{}", "PublicIP is missing"),
            (
                r#"{"PublicIP":"1.2.3"}"#,
                r#"PublicIP "1.2.3" is not an IPv4 address"#,
            ),
            (r#"{"PublicIP":7}"#, "PublicIP 7 is not an IPv4 address"),
            (
                r#"{"PublicIP":"1.2.3.4","BackendType":1}"#,
                "BackendType 1 is not a string",
            ),
        ] {
            assert_eq!(LeaseAttrs::parse(text).unwrap_err().to_string(), message);
        }
        for text in ["", "x", "[]", "{"] {
            let error = LeaseAttrs::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("not a JSON object: "), "{error}");
        }
    }

    #[test]
    fn malformed_backend_data_is_named() {
        for (text, message) in [
            ("{}", "VtepMAC is missing"),
            (r#"{"VtepMAC":null}"#, "VtepMAC is missing"),
            (
                r#"{"VtepMAC":"c6:d2:32:6f:8f"}"#,
                "VtepMAC c6:d2:32:6f:8f is not a MAC address such as 0e:12:34:56:78:9a",
            ),
            (
                r#"{"VtepMAC":"c6:d2:32:6f:8f:44","VNI":-1}"#,
                "VNI -1 is not a VNI",
            ),
        ] {
            assert_eq!(VxlanData::parse(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "\\PC*") {
            let _ = LeaseAttrs::parse(&text);
            let _ = VxlanData::parse(&text);
        }

        #[test]
        fn mutated_values_never_panic(at: usize, byte in 0_u8..128) {
            let mut text = vxlan().to_json().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let text = String::from_utf8(text).unwrap();
            if let Ok(attrs) = LeaseAttrs::parse(&text) {
                let _ = attrs.vxlan_data();
                prop_assert_eq!(&LeaseAttrs::parse(&attrs.to_json()).unwrap(), &attrs);
            }
        }
    }
}
