//! The network config: the JSON that an operator stores for the whole cluster.
//!
//! Keys are matched as Go does, without regard to case. [`NetworkConfig::parse`] applies
//! flannel's defaults and rules. `SubnetMin` after `SubnetMax`, which flannel accepts and then runs out of
//! subnets, is refused.

mod range;
mod udp;
mod vxlan;

use crate::family::{Family, PerFamily};
pub use crate::json::Object;
use crate::json::WrongType;
use crate::text::shown;
use ipnet::IpNet;
pub use range::NetworkRange;
use serde::de::DeserializeOwned;
pub use udp::UdpOptions;
pub use vxlan::VxlanOptions;

/// Backend types that can be asked for.
pub const SUPPORTED_BACKENDS: [&str; 4] = ["vxlan", "udp", "host-gw", "alloc"];

/// Why a network config cannot be used. One line: the key, the value, the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is no JSON object.
    #[error("network config is not a JSON object: {0}")]
    Json(String),
    /// A key that must be there is not.
    #[error("network config: {key} is missing: {rule}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it is needed for.
        rule: String,
    },
    /// A value breaks a rule.
    #[error("network config: {key} {value}: {rule}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks.
        rule: String,
    },
}

impl ConfigError {
    /// Its code, see [`crate::codes`].
    pub const CODE: &str = "W0212";

    pub(crate) fn invalid(
        key: &'static str,
        value: impl ToString,
        rule: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Invalid {
            key,
            value: shown(&value.to_string()),
            rule: rule.into(),
        }
    }
}

/// The network config with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// What the nodes get of each family that pods have addresses of; of one at least.
    pub ranges: PerFamily<Option<NetworkRange>>,
    /// Whether rules are written with nftables instead of iptables.
    pub enable_nftables: bool,
    /// What carries the packets.
    pub backend: BackendConfig,
}

/// The `Backend` object: its type, and its options still as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// `Type` in lower case.
    pub kind: String,
    /// All keys of the object.
    pub options: Object,
}

impl NetworkConfig {
    /// Read the config, fill in defaults and check every rule.
    pub fn parse(text: &str) -> Result<NetworkConfig, ConfigError> {
        let keys = Object::parse(text).map_err(ConfigError::Json)?;
        let enable_ipv4 = value(&keys, "EnableIPv4", "true or false")?.unwrap_or(true);
        let enable_ipv6 = value(&keys, "EnableIPv6", "true or false")?.unwrap_or(false);
        if !enable_ipv4 && !enable_ipv6 {
            let rule = "at least one of EnableIPv4 and EnableIPv6 must be true";
            return Err(ConfigError::invalid("EnableIPv4", false, rule));
        }
        Ok(NetworkConfig {
            ranges: PerFamily {
                v4: range::read(&keys, Family::V4, enable_ipv4)?,
                v6: range::read(&keys, Family::V6, enable_ipv6)?,
            },
            enable_nftables: value(&keys, "EnableNFTables", "true or false")?.unwrap_or(false),
            backend: BackendConfig::read(&keys)?,
        })
    }

    /// The families that pods have addresses of.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let both = Family::BOTH.into_iter();
        both.filter(|family| self.ranges.of(*family).is_some())
    }

    /// The network of a family that all nodes' subnets are cut from.
    pub fn network(&self, family: Family) -> Option<IpNet> {
        self.ranges.of(family).map(|range| range.network)
    }

    /// Prefix length of a node's subnet of a family; 0 if the network does not have it.
    pub fn subnet_len(&self, family: Family) -> u8 {
        self.ranges.of(family).map_or(0, |range| range.subnet_len)
    }

    /// That no backend is of this config's type, with the list of those there are.
    pub fn unknown_backend(&self) -> ConfigError {
        let kind = match self.backend.kind.as_str() {
            "" => "(empty)",
            kind => kind,
        };
        let rule = format!("must be one of {}", SUPPORTED_BACKENDS.join(", "));
        ConfigError::invalid("Backend Type", kind, rule)
    }
}

impl BackendConfig {
    /// No `Backend` at all means `udp`, as in flannel; one without a type has an empty type.
    fn read(keys: &Object) -> Result<BackendConfig, ConfigError> {
        let Some(text) = keys.raw("Backend") else {
            return Ok(BackendConfig {
                kind: "udp".into(),
                options: Object::default(),
            });
        };
        let options = Object::parse(text)
            .map_err(|_| ConfigError::invalid("Backend", text, "must be a JSON object"))?;
        let kind: Option<String> = value(&options, "Type", "a string")?;
        Ok(BackendConfig {
            kind: kind.unwrap_or_default().to_lowercase(),
            options,
        })
    }
}

/// The value of a key that may be absent.
fn value<T: DeserializeOwned>(
    keys: &Object,
    key: &'static str,
    wanted: &str,
) -> Result<Option<T>, ConfigError> {
    keys.get(key).map_err(|WrongType { value }| {
        ConfigError::invalid(key, value, format!("must be {wanted}"))
    })
}

#[cfg(test)]
mod tests;
