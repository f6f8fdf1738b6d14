//! Which subnets the nodes get: the same rules for both families.

use super::{ConfigError, Object, value};
use crate::family::{self, Family, PerFamily};
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// What the nodes get of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRange {
    /// The network that all nodes' subnets are cut from, host bits zero.
    pub network: IpNet,
    /// Prefix length of one node's subnet.
    pub subnet_len: u8,
    /// First address of the first subnet given out.
    pub min: IpAddr,
    /// First address of the last subnet given out.
    pub max: IpAddr,
}

/// The names of a family's keys and the numbers of its rules.
struct Rules {
    family: Family,
    bits: u8,
    /// Subnet length where the network has room for it.
    default_len: u8,
    network: &'static str,
    subnet_len: &'static str,
    subnet_min: &'static str,
    subnet_max: &'static str,
    example: &'static str,
    example_subnet: &'static str,
}

static RULES: PerFamily<Rules> = PerFamily {
    v4: Rules {
        family: Family::V4,
        bits: 32,
        default_len: 24,
        network: "Network",
        subnet_len: "SubnetLen",
        subnet_min: "SubnetMin",
        subnet_max: "SubnetMax",
        example: "10.5.0.0/16",
        example_subnet: "10.5.1.0",
    },
    v6: Rules {
        family: Family::V6,
        bits: 128,
        default_len: 64,
        network: "IPv6Network",
        subnet_len: "IPv6SubnetLen",
        subnet_min: "IPv6SubnetMin",
        subnet_max: "IPv6SubnetMax",
        example: "fd00:5::/48",
        example_subnet: "fd00:5:0:1::",
    },
};

/// Read and check the four keys of a family. One that is off is read for its types only.
pub(super) fn read(
    keys: &Object,
    family: Family,
    enabled: bool,
) -> Result<Option<NetworkRange>, ConfigError> {
    RULES.of(family).read(keys, enabled)
}

impl Rules {
    fn read(&self, keys: &Object, enabled: bool) -> Result<Option<NetworkRange>, ConfigError> {
        let (example, subnet) = (self.example, self.example_subnet);
        let of_family = |net: &IpNet| Family::of(net.addr()) == self.family;
        let network = text(keys, self.network, "a network", example, of_family)?;
        let len: Option<u64> = value(keys, self.subnet_len, "a positive integer")?;
        let of_family = |addr: &IpAddr| Family::of(*addr) == self.family;
        let min = text(keys, self.subnet_min, "an address", subnet, of_family)?;
        let max = text(keys, self.subnet_max, "an address", subnet, of_family)?;
        if !enabled {
            return Ok(None);
        }
        let network = network.ok_or_else(|| ConfigError::Missing {
            key: self.network,
            rule: format!("name the pod network, such as {example}"),
        })?;
        let subnet_len = self.subnet_len(network, len.unwrap_or(0))?;
        let base = family::number(network.network());
        let step = 1_u128 << (self.bits - subnet_len);
        // At least four subnets fit, so neither sum below can leave the network.
        let last = base + ((1 << (subnet_len - network.prefix_len())) - 1) * step;
        let min = self.bound(self.subnet_min, min, base + step, (base, last), step)?;
        let max = self.bound(self.subnet_max, max, last, (base, last), step)?;
        let (first, end) = (self.family.address(min), self.family.address(max));
        if min > max {
            let rule = format!("must not be after {} {end}", self.subnet_max);
            return Err(ConfigError::invalid(self.subnet_min, first, rule));
        }
        Ok(Some(NetworkRange {
            network: network.trunc(),
            subnet_len,
            min: first,
            max: end,
        }))
    }

    /// The prefix length of a subnet: given (0 is not), or as long as the default where the
    /// network has room for four of those, else a quarter of the network.
    fn subnet_len(&self, network: IpNet, given: u64) -> Result<u8, ConfigError> {
        let prefix_len = network.prefix_len();
        // A subnet must hold a tunnel and a bridge: two bits of addresses.
        let longest = self.bits - 2;
        if given == 0 {
            return match prefix_len {
                len if len + 2 <= self.default_len => Ok(self.default_len),
                len if len + 2 <= longest => Ok(len + 2),
                _ => {
                    let rule = format!("too small: the prefix must be at most /{}", longest - 2);
                    Err(ConfigError::invalid(self.network, network, rule))
                }
            };
        }
        if given > u64::from(longest) {
            let rule = format!("must be at most {longest}");
            return Err(ConfigError::invalid(self.subnet_len, given, rule));
        }
        if given < u64::from(prefix_len) + 2 {
            let rule = format!(
                "must be at least {}, so that {network} holds four subnets",
                u64::from(prefix_len) + 2
            );
            return Err(ConfigError::invalid(self.subnet_len, given, rule));
        }
        Ok(given as u8)
    }

    /// SubnetMin or SubnetMax: given (the zero address is not, as in flannel) or the default.
    fn bound(
        &self,
        key: &'static str,
        given: Option<IpAddr>,
        default: u128,
        (first, last): (u128, u128),
        step: u128,
    ) -> Result<u128, ConfigError> {
        let Some(address) = given.filter(|address| !address.is_unspecified()) else {
            return Ok(default);
        };
        let number = family::number(address);
        let inside = (first..=last + (step - 1)).contains(&number);
        if !inside {
            let rule = format!("must be inside {}", self.network);
            return Err(ConfigError::invalid(key, address, rule));
        }
        if !number.is_multiple_of(step) {
            let rule = format!(
                "must be the first address of a subnet of length {}: {} is the nearest before it",
                u32::from(self.bits) - step.trailing_zeros(),
                self.family.address(number - number % step)
            );
            return Err(ConfigError::invalid(key, address, rule));
        }
        Ok(number)
    }
}

/// A network or address written as a JSON string.
fn text<T: FromStr>(
    keys: &Object,
    key: &'static str,
    what: &str,
    example: &str,
    is_right: impl Fn(&T) -> bool,
) -> Result<Option<T>, ConfigError> {
    let wanted = format!("{what} such as {example}");
    let Some(text) = value::<String>(keys, key, &wanted)? else {
        return Ok(None);
    };
    match text.parse().ok().filter(is_right) {
        Some(found) => Ok(Some(found)),
        None => Err(ConfigError::invalid(key, text, format!("must be {wanted}"))),
    }
}
