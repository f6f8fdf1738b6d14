//! flannel's annotations: what a node tells the others, and what people tell it.

use super::prefix::AnnotationPrefix;
use crate::family::{Family, PerFamily};
use crate::lease::{LeaseAttrs, VxlanData};
use crate::text::{one_line, shown};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// What a backend without data of its own writes, as flanneld does.
const NO_DATA: &str = "null";

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// `true`: the node is one of flannel's.
    Managed,
    BackendType,
    BackendData,
    BackendV6Data,
    PublicIp,
    PublicIpv6,
    /// By people: told to the others in place of the own address, as behind NAT.
    PublicIpOverwrite,
    PublicIpv6Overwrite,
    /// By people: as the flags `-public-ip` and `-public-ipv6`.
    NodePublicIp,
    NodePublicIpv6,
}

impl Key {
    pub(super) const ALL: [Key; 10] = [
        Key::Managed,
        Key::BackendType,
        Key::BackendData,
        Key::BackendV6Data,
        Key::PublicIp,
        Key::PublicIpv6,
        Key::PublicIpOverwrite,
        Key::PublicIpv6Overwrite,
        Key::NodePublicIp,
        Key::NodePublicIpv6,
    ];

    /// Those that a node writes about itself.
    pub(super) const WRITTEN: [Key; 6] = [
        Key::Managed,
        Key::BackendType,
        Key::BackendData,
        Key::BackendV6Data,
        Key::PublicIp,
        Key::PublicIpv6,
    ];

    const DATA: PerFamily<Key> = of(Key::BackendData, Key::BackendV6Data);
    const PUBLIC: PerFamily<Key> = of(Key::PublicIp, Key::PublicIpv6);
    const OVERWRITE: PerFamily<Key> = of(Key::PublicIpOverwrite, Key::PublicIpv6Overwrite);
    const NODE_PUBLIC: PerFamily<Key> = of(Key::NodePublicIp, Key::NodePublicIpv6);

    /// Its name behind the prefix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Key::Managed => "kube-subnet-manager",
            Key::BackendType => "backend-type",
            Key::BackendData => "backend-data",
            Key::BackendV6Data => "backend-v6-data",
            Key::PublicIp => "public-ip",
            Key::PublicIpv6 => "public-ipv6",
            Key::PublicIpOverwrite => "public-ip-overwrite",
            Key::PublicIpv6Overwrite => "public-ipv6-overwrite",
            Key::NodePublicIp => "node-public-ip",
            Key::NodePublicIpv6 => "node-public-ipv6",
        }
    }
}

const fn of(v4: Key, v6: Key) -> PerFamily<Key> {
    PerFamily { v4, v6 }
}

/// The values of one node's annotations, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations([Option<String>; Key::ALL.len()]);

impl Annotations {
    /// Read those with this prefix out of the JSON object `metadata.annotations`. The error names
    /// the annotation.
    pub(super) fn read(text: &RawValue, prefix: &AnnotationPrefix) -> Result<Annotations, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text.get());
        let visitor = Picker { prefix };
        let picked = deserializer.deserialize_any(visitor);
        picked.map_err(|error| one_line(&error.to_string()))?
    }

    /// A value; an empty one is none.
    pub(super) fn get(&self, key: Key) -> Option<&str> {
        let value = self.0[key as usize].as_deref();
        value.filter(|value| !value.is_empty())
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, key: Key, value: impl Into<String>) {
        self.0[key as usize] = Some(value.into());
    }

    /// How the node is reached, by the `families` that the network has; `None` of a node that is
    /// none of flannel's. The error names the annotation.
    pub(super) fn attrs(&self, families: PerFamily<bool>) -> Result<Option<LeaseAttrs>, String> {
        if self.get(Key::Managed) != Some("true") {
            return Ok(None);
        }
        let backend_type = self.get(Key::BackendType).unwrap_or_default().to_owned();
        let data = |family| -> Result<Option<Box<RawValue>>, String> {
            match families.of(family) {
                true => self.backend_data(family, &backend_type),
                false => Ok(None),
            }
        };
        let (backend_data, backend_v6_data) = (data(Family::V4)?, data(Family::V6)?);
        let addrs = PerFamily::try_new(|family| match families.of(family) {
            true => self.address(*Key::PUBLIC.of(family), family),
            false => Ok(None),
        })?;
        let (public_ip, public_ipv6) = addrs.typed();
        if public_ip.is_none() && public_ipv6.is_none() {
            let wanted = match families.v4 {
                true => Key::PublicIp,
                false => Key::PublicIpv6,
            };
            return Err(format!("{} is missing", wanted.name()));
        }
        Ok(Some(LeaseAttrs {
            public_ip: public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            public_ipv6,
            backend_type,
            backend_data,
            backend_v6_data,
        }))
    }

    fn backend_data(
        &self,
        family: Family,
        backend_type: &str,
    ) -> Result<Option<Box<RawValue>>, String> {
        let key = *Key::DATA.of(family);
        let Some(text) = self.get(key).filter(|text| *text != NO_DATA) else {
            return Ok(None);
        };
        if backend_type == "vxlan" {
            VxlanData::parse(text).map_err(|error| format!("{}: {error}", key.name()))?;
        }
        let data = RawValue::from_string(text.to_owned());
        data.map(Some)
            .map_err(|_| format!("{} \"{}\" is no JSON", key.name(), shown(text)))
    }

    /// An address; one of zeros is none, which flanneld writes for a family that it lacks.
    fn address(&self, key: Key, family: Family) -> Result<Option<IpAddr>, String> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        match text.parse::<IpAddr>() {
            Ok(addr) if Family::of(addr) == family => {
                Ok(Some(addr).filter(|addr| !addr.is_unspecified()))
            }
            _ => Err(format!(
                "{} \"{}\" is no {family} address",
                key.name(),
                shown(text)
            )),
        }
    }

    /// The addresses that the node is to advertise as if by flags, and what is wrong with them.
    pub(super) fn node_public(&self) -> (PerFamily<Option<IpAddr>>, Vec<String>) {
        self.told(Key::NODE_PUBLIC)
    }

    fn told(&self, keys: PerFamily<Key>) -> (PerFamily<Option<IpAddr>>, Vec<String>) {
        let mut wrong = Vec::new();
        let told = PerFamily::new(|family| {
            let addr = self.address(*keys.of(family), family);
            addr.unwrap_or_else(|reason| {
                wrong.push(reason);
                None
            })
        });
        (told, wrong)
    }

    /// What a node with these attributes writes, byte for byte as flanneld does, and what is wrong
    /// with what people have told it.
    pub(super) fn wanted(&self, attrs: &LeaseAttrs) -> (Vec<(Key, String)>, Vec<String>) {
        let (overwrite, wrong) = self.told(Key::OVERWRITE);
        let data = |family| {
            let data = match family {
                Family::V4 => &attrs.backend_data,
                Family::V6 => &attrs.backend_v6_data,
            };
            data.as_ref().map_or(NO_DATA, |data| data.get()).to_owned()
        };
        let told = |family| match (overwrite.of(family), family) {
            (Some(addr), _) => Some(*addr),
            // Of a node without IPv4 the zeros that flanneld has for it.
            (None, Family::V4) => Some(attrs.public_ip.into()),
            (None, Family::V6) => attrs.public_ipv6.map(IpAddr::V6),
        };
        let is_vxlan = attrs.backend_type == "vxlan";
        let mut wanted = vec![
            (Key::Managed, "true".to_owned()),
            (Key::BackendType, attrs.backend_type.clone()),
        ];
        for family in Family::BOTH {
            let tells = match family {
                _ if is_vxlan => data(family) != NO_DATA,
                Family::V4 => true,
                Family::V6 => attrs.public_ipv6.is_some(),
            };
            if let Some(addr) = told(family).filter(|_| tells) {
                wanted.push((*Key::DATA.of(family), data(family)));
                wanted.push((*Key::PUBLIC.of(family), addr.to_string()));
            }
        }
        (wanted, wrong)
    }

    /// What of that is not there yet.
    pub(super) fn missing(&self, wanted: Vec<(Key, String)>) -> Vec<(Key, String)> {
        let is_there = |(key, value): &(Key, String)| self.0[*key as usize].as_ref() == Some(value);
        wanted.into_iter().filter(|pair| !is_there(pair)).collect()
    }
}

/// The patch that writes annotations; `None` takes one away.
pub(super) fn patch<'a>(
    prefix: &AnnotationPrefix,
    values: impl IntoIterator<Item = (Key, Option<&'a str>)>,
) -> Vec<u8> {
    let entries = values.into_iter().map(|(key, value)| {
        let name = format!("{}{}", prefix.as_str(), key.name());
        (name, value.map_or(Value::Null, Value::from))
    });
    let annotations: Map<String, Value> = entries.collect();
    let patch = json!({ "metadata": { "annotations": annotations } });
    patch.to_string().into_bytes()
}

/// Picks the annotations that count out of all of them.
struct Picker<'a> {
    prefix: &'a AnnotationPrefix,
}

impl<'de> Visitor<'de> for Picker<'_> {
    type Value = Result<Annotations, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Ok(Annotations::default()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Annotations::default();
        let mut wrong = None;
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            let name = name.strip_prefix(self.prefix.as_str());
            let key = name.and_then(|name| Key::ALL.into_iter().find(|key| key.name() == name));
            let Some(key) = key else { continue };
            match serde_json::from_str::<Option<String>>(value.get()) {
                Ok(value) => found.0[key as usize] = value,
                Err(_) => {
                    let value = shown(value.get());
                    wrong.get_or_insert(format!("{} {value} is no text", key.name()));
                }
            }
        }
        Ok(match wrong {
            Some(reason) => Err(reason),
            None => Ok(found),
        })
    }
}

#[cfg(test)]
mod tests;
