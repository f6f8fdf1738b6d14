//! Which subnet to ask for.

use super::SubnetKey;
use crate::config::NetworkConfig;
use ipnet::Ipv4Net;
use rand::{Rng, RngExt};

/// How many free subnets one pick is made from.
pub const CANDIDATES_MAX: usize = 100;

/// Whether the config allows a lease of these subnets: inside the range, of the exact
/// length, and of exactly the families that the network has.
pub fn compatible(config: &NetworkConfig, key: &SubnetKey) -> bool {
    let v4 = match key.v4 {
        None => !config.enable_ipv4,
        Some(v4) => {
            config.enable_ipv4
                && v4.prefix_len() == config.subnet_len
                && (config.subnet_min..=config.subnet_max).contains(&v4.network())
        }
    };
    let v6 = match key.v6 {
        None => !config.enable_ipv6,
        Some(v6) => {
            config.enable_ipv6
                && v6.prefix_len() == config.ipv6_subnet_len
                && (config.ipv6_subnet_min..=config.ipv6_subnet_max).contains(&v6.network())
        }
    };
    v4 && v6
}

/// Whether a subnet shares no address with any of `taken`.
pub fn is_free(subnet: Ipv4Net, taken: &[Ipv4Net]) -> bool {
    let overlaps = |other: &Ipv4Net| other.contains(&subnet) || subnet.contains(other);
    !taken.iter().any(overlaps)
}

/// The first `limit` free subnets of the config's range, in ascending order.
pub fn candidates(config: &NetworkConfig, taken: &[Ipv4Net], limit: usize) -> Vec<Ipv4Net> {
    let step = 1_u64 << (32 - u32::from(config.subnet_len));
    let last = u64::from(u32::from(config.subnet_max));
    let mut taken: Vec<(u64, u64)> = taken.iter().map(bounds).collect();
    taken.sort_unstable();
    let mut next = taken.iter().peekable();
    let mut at = u64::from(u32::from(config.subnet_min));
    let mut free = Vec::new();
    while at <= last && free.len() < limit {
        // Sorted by first address: those that end before `at` are behind us for good.
        while next.next_if(|(_, end)| *end < at).is_some() {}
        match next.peek() {
            Some((first, end)) if *first < at + step => at = (end / step + 1) * step,
            _ => {
                free.extend(Ipv4Net::new((at as u32).into(), config.subnet_len));
                at += step;
            }
        }
    }
    free
}

/// One of the candidates, all equally likely.
pub fn pick(candidates: &[Ipv4Net], rng: &mut impl Rng) -> Option<Ipv4Net> {
    match candidates {
        [] => None,
        some => Some(some[rng.random_range(..some.len())]),
    }
}

/// First and last address of a subnet.
fn bounds(net: &Ipv4Net) -> (u64, u64) {
    (
        u32::from(net.network()).into(),
        u32::from(net.broadcast()).into(),
    )
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
        let all = candidates(&config, &[], 100);
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
        assert_eq!(candidates(&wide, &[], CANDIDATES_MAX).len(), CANDIDATES_MAX);
        let top = config(r#"{"Network":"255.255.255.0/24"}"#);
        assert_eq!(candidates(&top, &[], 100).len(), 3);
        let all = config(r#"{"Network":"0.0.0.0/0","SubnetLen":2}"#);
        assert_eq!(candidates(&all, &[], 100).len(), 3);
    }

    #[test]
    fn the_pick_is_one_of_the_candidates_and_reaches_all_of_them() {
        let free = candidates(&small(), &[], 100);
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen: Vec<Ipv4Net> = (0..200).filter_map(|_| pick(&free, &mut rng)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, free);
        assert_eq!(pick(&[], &mut rng), None);
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
                .filter(|subnet| is_free(*subnet, &taken))
                .collect();
            prop_assert_eq!(candidates(&config, &taken, 1000), expected);
        }
    }
}
