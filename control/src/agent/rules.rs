//! The firewall rules that flags, network config and lease ask for.

use crate::config::NetworkConfig;
use crate::host::firewall::{Firewall, FirewallError, FirewallOptions, FirewallSpec, Flavour};
use crate::lease::Lease;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::oneshot;

/// The rules of a node that starts.
pub(super) enum Rules {
    /// As far as they could be.
    Written(Firewall),
    /// To be written, before container runtimes learn the subnet.
    Due(Flavour, FirewallSpec),
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::Written(Firewall::default())
    }
}

impl Rules {
    pub(super) fn are_due(&self) -> bool {
        matches!(self, Rules::Due(..))
    }

    /// Write them if they are due, say so, and look after them each `period`, for ever.
    pub(super) async fn keep(self, period: Duration, written: oneshot::Sender<()>) -> Infallible {
        let firewall = match self {
            Rules::Written(firewall) => firewall,
            Rules::Due(flavour, spec) => Firewall::install(flavour, &spec).await,
        };
        // Nobody waits for those that were written before.
        let _ = written.send(());
        firewall.keep(period).await
    }
}

/// What to write, and with what.
pub(super) fn wanted(
    options: &FirewallOptions,
    config: &NetworkConfig,
    lease: &Lease,
    tap: Option<String>,
) -> (Flavour, FirewallSpec) {
    let spec = FirewallSpec {
        networks: lease.networks(config),
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
    Firewall::check_programs(flavour(config), config.ranges.is_some()).await
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
    use crate::lease::{LeaseAttrs, NodeNetwork};

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
        let own = NodeNetwork {
            network: "10.5.0.0/16".parse().unwrap(),
            subnet: "10.5.72.0/24".parse().unwrap(),
        };
        assert_eq!(spec.networks.v4, Some(own));
        assert_eq!(spec.networks.v6, None);
        let config = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,
            "IPv6Network":"fd00:5::/56","EnableNFTables":true}"#;
        let (flavour, spec) = wanted_by(config, Some("fd00:5:0:7::/64"));
        assert_eq!(flavour, Flavour::Nftables);
        assert_eq!(spec.networks.v4, Some(own));
        let subnet = spec.networks.v6.unwrap().subnet;
        assert_eq!(subnet, "fd00:5:0:7::/64".parse().unwrap());
    }
}
