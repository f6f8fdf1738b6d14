//! The subnets that the cluster has given a node: `spec.podCIDRs`, or `spec.podCIDR` alone.

use crate::config::NetworkConfig;
use crate::family::{Family, PerFamily};
use crate::lease::SubnetKey;
use crate::text::shown;
use ipnet::IpNet;

/// A node's subnets, one of each family at most. Host bits are zero.
pub(super) type PodCidrs = PerFamily<Option<IpNet>>;

/// Read them. The error names the field and its value.
pub(super) fn read(texts: &[impl AsRef<str>]) -> Result<PodCidrs, String> {
    let mut found = PodCidrs::default();
    if texts.len() > 2 {
        return Err(format!(
            "spec.podCIDRs has {} entries: there may be one of IPv4 and one of IPv6",
            texts.len()
        ));
    }
    for text in texts {
        let text = text.as_ref();
        let Ok(net) = text.parse::<IpNet>() else {
            return Err(format!("spec.podCIDR \"{}\" is no network", shown(text)));
        };
        let place = match net {
            IpNet::V4(_) => &mut found.v4,
            IpNet::V6(_) => &mut found.v6,
        };
        if place.replace(net.trunc()).is_some() {
            let family = Family::of(net.addr());
            return Err(format!("spec.podCIDRs has two of {family}"));
        }
    }
    Ok(found)
}

/// Those of the families that the network has.
pub(super) fn of_network(cidrs: &PodCidrs, config: &NetworkConfig) -> PodCidrs {
    PerFamily::new(|family| {
        cidrs
            .of(family)
            .filter(|_| config.network(family).is_some())
    })
}

/// What is wrong with a node's own subnets in this network, if anything is.
pub(super) fn misfit(cidrs: &PodCidrs, config: &NetworkConfig) -> Option<String> {
    for family in config.families() {
        let network = config.network(family)?;
        match cidrs.of(family) {
            None => {
                return Some(format!(
                    "it has no podCIDR of {family}, which the network has"
                ));
            }
            Some(cidr) if !contains(&network, cidr) => {
                return Some(format!(
                    "its podCIDR {cidr} is not inside Network {network}"
                ));
            }
            Some(_) => {}
        }
    }
    None
}

/// Whether a network holds all of a subnet.
pub(super) fn contains(network: &IpNet, subnet: &IpNet) -> bool {
    network.contains(subnet)
}

/// Their name as a lease.
pub(super) fn key(cidrs: &PodCidrs) -> SubnetKey {
    let (v4, v6) = cidrs.typed();
    SubnetKey { v4, v6 }
}

/// The subnets that a lease's name stands for.
pub(super) fn of_key(key: &SubnetKey) -> PodCidrs {
    PodCidrs {
        v4: key.v4.map(IpNet::V4),
        v6: key.v6.map(IpNet::V6),
    }
}

/// For people: `10.244.1.0/24`, or both joined by `and`.
pub(super) fn named(cidrs: &PodCidrs) -> String {
    let names: Vec<String> = cidrs.present().map(|net| net.to_string()).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,
        "IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#;

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    #[test]
    fn u21_a_network_contains_what_is_no_wider_and_begins_inside() {
        for (network, subnet, inside) in [
            ("10.0.0.0/8", "10.244.0.0/16", true),
            ("10.244.0.0/16", "10.244.0.0/16", true),
            ("10.244.0.0/16", "10.244.1.0/24", true),
            ("10.244.0.0/16", "10.245.1.0/24", false),
            ("10.244.1.0/24", "10.244.0.0/16", false),
            ("10.244.1.0/24", "10.244.1.255/32", true),
            ("fd00::/48", "fd00:0:0:1::/64", true),
            ("fd00::/48", "fd00::/48", true),
            ("fd00::/48", "fd01::/64", false),
            ("fd00:0:0:1::/64", "fd00::/48", false),
            // Of two families.
            ("0.0.0.0/0", "fd00::/64", false),
        ] {
            let [network, subnet] = [network, subnet].map(|text| text.parse().unwrap());
            assert_eq!(contains(&network, &subnet), inside, "{network} {subnet}");
        }
    }

    #[test]
    fn one_of_each_family_is_read_in_any_order() {
        let both = read(&["fd00:10:244:1::/64", "10.244.1.7/24"]).unwrap();
        assert_eq!(named(&both), "10.244.1.0/24 and fd00:10:244:1::/64");
        assert_eq!(read(&["10.244.1.0/24"]).unwrap().v6, None);
        assert_eq!(named(&read(&[""; 0]).unwrap()), "none");
        for (texts, reason) in [
            (&["10.244.1.0/24", "10.244.2.0/24"][..], "two of IPv4"),
            (
                &["10.244.1.0/24", "fd00::/64", "fd01::/64"],
                "has 3 entries",
            ),
            (&["10.244.1.0"], "\"10.244.1.0\" is no network"),
            (&["10.244.1.0/33"], "is no network"),
            (&[""], "\"\" is no network"),
            (&["\u{1b}[1m"], "is no network"),
        ] {
            let error = read(texts).unwrap_err();
            assert!(
                error.contains(reason) && !error.contains('\u{1b}'),
                "{error}"
            );
        }
    }

    #[test]
    fn a_node_needs_what_its_network_has_and_inside_of_it() {
        let v4_only = config(r#"{"Network":"10.244.0.0/16"}"#);
        let both = read(&["10.244.1.0/24", "fd00:10:244:1::/64"]).unwrap();
        assert_eq!(misfit(&both, &v4_only), None);
        assert_eq!(of_network(&both, &v4_only).v6, None);
        assert_eq!(misfit(&both, &config(DUAL)), None);
        let v4 = read(&["10.244.1.0/24"]).unwrap();
        assert!(misfit(&v4, &config(DUAL)).unwrap().contains("of IPv6"));
        let outside = read(&["10.9.1.0/24"]).unwrap();
        let reason = misfit(&outside, &v4_only).unwrap();
        assert!(reason.contains("10.9.1.0/24 is not inside Network 10.244.0.0/16"));
    }
}
