//! Which subnets the nodes get: the same rules for both families.

use super::{ConfigError, Object, value};
use ipnet::{Ipv4Net, Ipv6Net};
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One address family: the names of its keys and the numbers of its rules.
pub(super) trait Family {
    type Net: Copy + Display + FromStr;
    type Address: Copy + Display + FromStr;
    const BITS: u8;
    /// Subnet length when the network has room for it.
    const DEFAULT_LEN: u8;
    const NETWORK: &'static str;
    const SUBNET_LEN: &'static str;
    const SUBNET_MIN: &'static str;
    const SUBNET_MAX: &'static str;
    const EXAMPLE: &'static str;
    const EXAMPLE_SUBNET: &'static str;
    /// Network address, host bits masked off, and prefix length.
    fn parts(net: Self::Net) -> (u128, u8);
    fn masked(net: Self::Net) -> Self::Net;
    fn number(address: Self::Address) -> u128;
    fn address(number: u128) -> Self::Address;
}

pub(super) enum V4 {}
pub(super) enum V6 {}

impl Family for V4 {
    type Net = Ipv4Net;
    type Address = Ipv4Addr;
    const BITS: u8 = 32;
    const DEFAULT_LEN: u8 = 24;
    const NETWORK: &'static str = "Network";
    const SUBNET_LEN: &'static str = "SubnetLen";
    const SUBNET_MIN: &'static str = "SubnetMin";
    const SUBNET_MAX: &'static str = "SubnetMax";
    const EXAMPLE: &'static str = "10.5.0.0/16";
    const EXAMPLE_SUBNET: &'static str = "10.5.1.0";

    fn parts(net: Ipv4Net) -> (u128, u8) {
        (u32::from(net.network()).into(), net.prefix_len())
    }

    fn masked(net: Ipv4Net) -> Ipv4Net {
        net.trunc()
    }

    fn number(address: Ipv4Addr) -> u128 {
        u32::from(address).into()
    }

    fn address(number: u128) -> Ipv4Addr {
        Ipv4Addr::from(number as u32)
    }
}

impl Family for V6 {
    type Net = Ipv6Net;
    type Address = Ipv6Addr;
    const BITS: u8 = 128;
    const DEFAULT_LEN: u8 = 64;
    const NETWORK: &'static str = "IPv6Network";
    const SUBNET_LEN: &'static str = "IPv6SubnetLen";
    const SUBNET_MIN: &'static str = "IPv6SubnetMin";
    const SUBNET_MAX: &'static str = "IPv6SubnetMax";
    const EXAMPLE: &'static str = "fd00:5::/48";
    const EXAMPLE_SUBNET: &'static str = "fd00:5:0:1::";

    fn parts(net: Ipv6Net) -> (u128, u8) {
        (net.network().into(), net.prefix_len())
    }

    fn masked(net: Ipv6Net) -> Ipv6Net {
        net.trunc()
    }

    fn number(address: Ipv6Addr) -> u128 {
        address.into()
    }

    fn address(number: u128) -> Ipv6Addr {
        number.into()
    }
}

/// The subnets of one family; all zero if the family is off.
pub(super) struct Range<F: Family> {
    pub(super) network: Option<F::Net>,
    pub(super) subnet_len: u8,
    pub(super) min: u128,
    pub(super) max: u128,
}

/// Read and check the four keys of a family. A family that is off is read for its types only.
pub(super) fn read<F: Family>(keys: &Object, enabled: bool) -> Result<Range<F>, ConfigError> {
    let network: Option<F::Net> = text(keys, F::NETWORK, "a network", F::EXAMPLE)?;
    let len: Option<u64> = value(keys, F::SUBNET_LEN, "a positive integer")?;
    let min: Option<F::Address> = text(keys, F::SUBNET_MIN, "an address", F::EXAMPLE_SUBNET)?;
    let max: Option<F::Address> = text(keys, F::SUBNET_MAX, "an address", F::EXAMPLE_SUBNET)?;
    if !enabled {
        return Ok(Range {
            network: None,
            subnet_len: 0,
            min: 0,
            max: 0,
        });
    }
    let network = network.ok_or_else(|| ConfigError::Missing {
        key: F::NETWORK,
        rule: format!("name the pod network, such as {}", F::EXAMPLE),
    })?;
    let subnet_len = subnet_len::<F>(network, len.unwrap_or(0))?;
    let (base, prefix_len) = F::parts(network);
    let step = 1_u128 << (F::BITS - subnet_len);
    // At least four subnets fit, so neither sum below can leave the network.
    let last = base + ((1 << (subnet_len - prefix_len)) - 1) * step;
    let min = bound::<F>(F::SUBNET_MIN, min, base + step, (base, last), step)?;
    let max = bound::<F>(F::SUBNET_MAX, max, last, (base, last), step)?;
    if min > max {
        let rule = format!("must not be after {} {}", F::SUBNET_MAX, F::address(max));
        return Err(ConfigError::invalid(F::SUBNET_MIN, F::address(min), rule));
    }
    Ok(Range {
        network: Some(F::masked(network)),
        subnet_len,
        min,
        max,
    })
}

/// The prefix length of a subnet: given (0 is not), or as long as the default where the
/// network has room for four of those, else a quarter of the network.
fn subnet_len<F: Family>(network: F::Net, given: u64) -> Result<u8, ConfigError> {
    let (_, prefix_len) = F::parts(network);
    // A subnet must hold a tunnel and a bridge: two bits of addresses.
    let longest = F::BITS - 2;
    if given == 0 {
        return match prefix_len {
            len if len + 2 <= F::DEFAULT_LEN => Ok(F::DEFAULT_LEN),
            len if len + 2 <= longest => Ok(len + 2),
            _ => {
                let rule = format!("too small: the prefix must be at most /{}", longest - 2);
                Err(ConfigError::invalid(F::NETWORK, network, rule))
            }
        };
    }
    if given > u64::from(longest) {
        let rule = format!("must be at most {longest}");
        return Err(ConfigError::invalid(F::SUBNET_LEN, given, rule));
    }
    if given < u64::from(prefix_len) + 2 {
        let rule = format!(
            "must be at least {}, so that {network} holds four subnets",
            u64::from(prefix_len) + 2
        );
        return Err(ConfigError::invalid(F::SUBNET_LEN, given, rule));
    }
    Ok(given as u8)
}

/// SubnetMin or SubnetMax: given (the zero address is not, as in flannel) or the default.
fn bound<F: Family>(
    key: &'static str,
    given: Option<F::Address>,
    default: u128,
    (first, last): (u128, u128),
    step: u128,
) -> Result<u128, ConfigError> {
    let Some(address) = given.filter(|address| F::number(*address) != 0) else {
        return Ok(default);
    };
    let number = F::number(address);
    let inside = (first..=last + (step - 1)).contains(&number);
    if !inside {
        let rule = format!("must be inside {}", F::NETWORK);
        return Err(ConfigError::invalid(key, address, rule));
    }
    if number % step != 0 {
        let rule = format!(
            "must be the first address of a subnet of length {}: {} is the nearest before it",
            u32::from(F::BITS) - step.trailing_zeros(),
            F::address(number - number % step)
        );
        return Err(ConfigError::invalid(key, address, rule));
    }
    Ok(number)
}

/// A network or address written as a JSON string.
fn text<T: FromStr>(
    keys: &Object,
    key: &'static str,
    what: &str,
    example: &str,
) -> Result<Option<T>, ConfigError> {
    let wanted = format!("{what} such as {example}");
    match value::<String>(keys, key, &wanted)? {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| ConfigError::invalid(key, text, format!("must be {wanted}"))),
    }
}
