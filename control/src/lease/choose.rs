//! Which subnet to ask for: the same rules for both address families.

use super::SubnetKey;
use crate::config::{NetworkConfig, NetworkRange};
use crate::family::number;
use ipnet::{Ipv4Net, Ipv6Net};
use rand::{Rng, RngExt};

/// How many free subnets one pick is made from.
pub const CANDIDATES_MAX: usize = 100;

/// A subnet of one address family.
pub trait Subnet: Copy + PartialEq {
    /// What the network gives out of this family; `None` if it does not have it.
    fn range(config: &NetworkConfig) -> Option<NetworkRange>;
    /// The subnet of prefix length `len` that begins at an address.
    fn at(first: u128, len: u8) -> Option<Self>;
    /// First and last address.
    fn bounds(&self) -> (u128, u128);
    /// Prefix length.
    fn length(&self) -> u8;
}

impl Subnet for Ipv4Net {
    fn range(config: &NetworkConfig) -> Option<NetworkRange> {
        config.ranges.v4
    }

    fn at(first: u128, len: u8) -> Option<Ipv4Net> {
        let first = u32::try_from(first).ok()?;
        Ipv4Net::new(first.into(), len).ok()
    }

    fn bounds(&self) -> (u128, u128) {
        (
            u32::from(self.network()).into(),
            u32::from(self.broadcast()).into(),
        )
    }

    fn length(&self) -> u8 {
        self.prefix_len()
    }
}

impl Subnet for Ipv6Net {
    fn range(config: &NetworkConfig) -> Option<NetworkRange> {
        config.ranges.v6
    }

    fn at(first: u128, len: u8) -> Option<Ipv6Net> {
        Ipv6Net::new(first.into(), len).ok()
    }

    fn bounds(&self) -> (u128, u128) {
        (self.network().into(), self.broadcast().into())
    }

    fn length(&self) -> u8 {
        self.prefix_len()
    }
}

/// Whether the config allows a lease of these subnets: inside the range, of the exact
/// length, and of exactly the families that the network has.
pub fn compatible(config: &NetworkConfig, key: &SubnetKey) -> bool {
    family_fits(config, key.v4) && family_fits(config, key.v6)
}

fn family_fits<S: Subnet>(config: &NetworkConfig, subnet: Option<S>) -> bool {
    match subnet {
        None => S::range(config).is_none(),
        Some(subnet) => fits(config, &subnet),
    }
}

/// Whether the config gives out this very subnet.
pub fn fits<S: Subnet>(config: &NetworkConfig, subnet: &S) -> bool {
    let (first, _) = subnet.bounds();
    S::range(config).is_some_and(
        |NetworkRange {
             subnet_len,
             min,
             max,
             ..
         }| {
            subnet.length() == subnet_len && (number(min)..=number(max)).contains(&first)
        },
    )
}

/// Whether two subnets share an address.
pub fn overlap<S: Subnet>(one: &S, other: &S) -> bool {
    let ((first, last), (other_first, other_last)) = (one.bounds(), other.bounds());
    first <= other_last && other_first <= last
}

/// Whether a subnet shares no address with any of `taken`.
pub fn is_free<S: Subnet>(subnet: &S, taken: &[S]) -> bool {
    !taken.iter().any(|other| overlap(subnet, other))
}

/// The first `limit` free subnets of the config's range, in ascending order.
pub fn candidates<S: Subnet>(config: &NetworkConfig, taken: &[S], limit: usize) -> Vec<S> {
    let Some(NetworkRange {
        network,
        subnet_len,
        min,
        max,
    }) = S::range(config)
    else {
        return Vec::new();
    };
    let (min, max) = (number(min), number(max));
    let step = 1_u128 << (network.max_prefix_len() - subnet_len);
    let mut taken: Vec<(u128, u128)> = taken.iter().map(S::bounds).collect();
    taken.sort_unstable();
    let mut next = taken.iter().peekable();
    let mut at = Some(min);
    let mut free = Vec::new();
    while let Some(first) = at.filter(|first| *first <= max)
        && free.len() < limit
    {
        // Sorted by first address: those that end before `first` are behind us for good.
        while next.next_if(|(_, end)| *end < first).is_some() {}
        let last = first + (step - 1);
        at = match next.peek() {
            Some((start, end)) if *start <= last => (end / step + 1).checked_mul(step),
            _ => {
                free.extend(S::at(first, subnet_len));
                first.checked_add(step)
            }
        };
    }
    free
}

/// One of the candidates, all equally likely.
pub fn pick<S: Copy>(candidates: &[S], rng: &mut impl Rng) -> Option<S> {
    match candidates {
        [] => None,
        some => Some(some[rng.random_range(..some.len())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    fn small() -> NetworkConfig {
        config(r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.8.0"}"#)
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn key(text: &str) -> SubnetKey {
        text.parse().unwrap()
    }

    #[test]
    fn u11_compatible_means_in_range_and_of_exact_length() {
        let config = small();
        assert!(compatible(&config, &key("10.1.5.0-24")));
        assert!(compatible(&config, &key("10.1.8.0-24")));
        for text in [
            "10.1.4.0-24",
            "10.1.9.0-24",
            "10.1.6.0-25",
            "10.2.6.0-24",
            "10.1.6.0-24&fd00::-64",
        ] {
            assert!(!compatible(&config, &key(text)), "{text}");
        }
    }

    #[test]
    fn dual_stack_leases_need_both_subnets() {
        let config =
            config(r#"{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#);
        assert!(compatible(&config, &key("10.1.5.0-24&fd00:0:0:5::-64")));
        for text in [
            "10.1.5.0-24",
            "0.0.0.0-0&fd00:0:0:5::-64",
            "10.1.5.0-24&fd00:0:0:5::-65",
            "10.1.5.0-24&fd01::-64",
        ] {
            assert!(!compatible(&config, &key(text)), "{text}");
        }
    }

    #[test]
    fn ipv6_leases_have_no_ipv4_subnet() {
        let config = config(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#);
        assert!(compatible(&config, &key("0.0.0.0-0&fd00:0:0:5::-64")));
        for text in ["10.1.5.0-24&fd00:0:0:5::-64", "0.0.0.0-1&fd00:0:0:5::-64"] {
            assert!(!compatible(&config, &key(text)), "{text}");
        }
    }

    #[test]
    fn candidates_skip_whatever_overlaps_a_lease() {
        let config = small();
        let all = candidates::<Ipv4Net>(&config, &[], 100);
        assert_eq!(
            all,
            ["10.1.5.0/24", "10.1.6.0/24", "10.1.7.0/24", "10.1.8.0/24"].map(net)
        );
        let taken = [net("10.1.7.128/25"), net("10.0.0.0/24"), net("10.1.4.0/23")];
        let free = candidates(&config, &taken, 100);
        assert_eq!(free, ["10.1.6.0/24", "10.1.8.0/24"].map(net));
        assert!(candidates(&config, &[net("10.0.0.0/8")], 100).is_empty());
    }

    #[test]
    fn candidates_stop_at_the_limit_and_at_the_end_of_the_address_space() {
        let wide = config(r#"{"Network":"10.0.0.0/8"}"#);
        let count = |config: &NetworkConfig, limit| candidates::<Ipv4Net>(config, &[], limit).len();
        assert_eq!(count(&wide, CANDIDATES_MAX), CANDIDATES_MAX);
        let top = config(r#"{"Network":"255.255.255.0/24"}"#);
        assert_eq!(count(&top, 100), 3);
        let all = config(r#"{"Network":"0.0.0.0/0","SubnetLen":2}"#);
        assert_eq!(count(&all, 100), 3);
        let v6 = |network: &str| {
            let text = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":""#.to_owned();
            config(&(text + network + "\"}"))
        };
        let count =
            |config: &NetworkConfig, taken: &[Ipv6Net]| candidates(config, taken, 100).len();
        assert_eq!(count(&v6("fd00::/8"), &[]), 100);
        let top = v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120");
        assert_eq!(count(&top, &[]), 3);
        assert_eq!(count(&top, &["ffff::/16".parse().unwrap()]), 0);
        assert!(candidates::<Ipv4Net>(&top, &[], 100).is_empty());
    }

    #[test]
    fn the_pick_is_one_of_the_candidates_and_reaches_all_of_them() {
        let free = candidates::<Ipv4Net>(&small(), &[], 100);
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen: Vec<Ipv4Net> = (0..200).filter_map(|_| pick(&free, &mut rng)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, free);
        assert_eq!(pick::<Ipv4Net>(&[], &mut rng), None);
    }

    proptest! {
        #[test]
        fn candidates_agree_with_trying_every_subnet(
            taken in prop::collection::vec((0_u32..0x2000, 17_u8..=32), 0..20),
        ) {
            let config = config(r#"{"Network":"10.1.0.0/20","SubnetLen":25}"#);
            let taken: Vec<Ipv4Net> = taken
                .into_iter()
                .map(|(host, len)| {
                    Ipv4Net::new((0x0a01_0000 + host).into(), len).unwrap().trunc()
                })
                .collect();
            let expected: Vec<Ipv4Net> = net("10.1.0.0/20")
                .subnets(25)
                .unwrap()
                .skip(1)
                .filter(|subnet| is_free(subnet, &taken))
                .collect();
            prop_assert_eq!(candidates(&config, &taken, 1000), expected);
        }

        #[test]
        fn ipv6_candidates_agree_with_trying_every_subnet(
            taken in prop::collection::vec((0_u128..0x400, 118_u8..=128), 0..20),
        ) {
            let config = config(
                r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/118",
                    "IPv6SubnetLen":124}"#,
            );
            let base = 0xfd00_u128 << 112;
            let taken: Vec<Ipv6Net> = taken
                .into_iter()
                .map(|(host, len)| Ipv6Net::new((base + host).into(), len).unwrap().trunc())
                .collect();
            let network: Ipv6Net = "fd00::/118".parse().unwrap();
            let expected: Vec<Ipv6Net> = network
                .subnets(124)
                .unwrap()
                .skip(1)
                .filter(|subnet| is_free(subnet, &taken))
                .collect();
            prop_assert_eq!(candidates(&config, &taken, 1000), expected);
        }
    }
}
