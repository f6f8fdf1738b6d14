//! The firewall rules that flags, network config and lease ask for.

use crate::config::NetworkConfig;
use crate::host::firewall::{
    Ends, Firewall, FirewallError, FirewallOptions, FirewallSpec, Flavour,
};
use crate::lease::Lease;

/// What to write, and with what.
pub(super) fn wanted(
    options: &FirewallOptions,
    config: &NetworkConfig,
    lease: &Lease,
    tap: Option<String>,
) -> (Flavour, FirewallSpec) {
    let v4 = config.network.zip(lease.subnet);
    let v6 = config.ipv6_network.zip(lease.subnet_v6);
    let spec = FirewallSpec {
        v4: v4.map(|(network, subnet)| Ends { network, subnet }),
        v6: v6.map(|(network, subnet)| Ends { network, subnet }),
        masquerade: options.ip_masq,
        random_fully: options.random_fully,
        forward: options.forward_rules,
        tap,
    };
    (flavour(config), spec)
}

/// See whether masquerading, if it is asked for, can be had.
pub(super) async fn check(
    options: &FirewallOptions,
    config: &NetworkConfig,
) -> Result<(), FirewallError> {
    if !options.ip_masq {
        return Ok(());
    }
    let families = [config.enable_ipv4, config.enable_ipv6];
    Firewall::check_programs(flavour(config), families).await
}

fn flavour(config: &NetworkConfig) -> Flavour {
    match config.enable_nftables {
        true => Flavour::Nftables,
        false => Flavour::Iptables,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::LeaseAttrs;

    fn wanted_by(config: &str, subnet_v6: Option<&str>) -> (Flavour, FirewallSpec) {
        let options = FirewallOptions {
            ip_masq: true,
            forward_rules: true,
            ..FirewallOptions::default()
        };
        let lease = Lease {
            subnet: Some("10.5.72.0/24".parse().unwrap()),
            subnet_v6: subnet_v6.map(|subnet| subnet.parse().unwrap()),
            attrs: LeaseAttrs::alloc(Some([192, 0, 2, 1].into()), None),
            expires: None,
            revision: 1,
        };
        wanted(
            &options,
            &NetworkConfig::parse(config).unwrap(),
            &lease,
            None,
        )
    }

    #[test]
    fn families_and_flavour_come_from_the_config() {
        let (flavour, spec) = wanted_by(r#"{"Network":"10.5.0.0/16"}"#, None);
        assert_eq!(flavour, Flavour::Iptables);
        let ends = Ends {
            network: "10.5.0.0/16".parse().unwrap(),
            subnet: "10.5.72.0/24".parse().unwrap(),
        };
        assert_eq!((spec.v4, spec.v6), (Some(ends), None));
        let config = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,
            "IPv6Network":"fd00:5::/56","EnableNFTables":true}"#;
        let (flavour, spec) = wanted_by(config, Some("fd00:5:0:7::/64"));
        assert_eq!(flavour, Flavour::Nftables);
        assert_eq!(spec.v4, Some(ends));
        assert_eq!(spec.v6.unwrap().subnet, "fd00:5:0:7::/64".parse().unwrap());
    }
}
