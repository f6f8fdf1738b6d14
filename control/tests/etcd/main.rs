//! The etcd subnet manager against a real etcd.

// Helpers of tests are not seen as tests by clippy.toml's allow-unwrap-in-tests.
#![allow(clippy::unwrap_used)]

mod absence;
mod acquire;
mod changes;
mod clones;
mod dual;
mod foreign;
mod impostor;
mod keep;
mod lab;
mod leader;
mod no_space;
mod outage;
mod refused;
mod restore;
mod slow;
mod swap;
mod tls;
mod together;
mod twins;
mod watch;

use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::timeout;
use weft_control::config::NetworkConfig;
use weft_control::lease::{LeaseAttrs, Previous, VxlanData};
use weft_control::wire::{MacAddr, Vni};

/// Longest that anything may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest that something is watched for not happening.
const QUIET: Duration = Duration::from_millis(500);

/// The outcome of a future that must not take long.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what}: nothing within {PATIENCE:?}"),
    }
}

fn config() -> NetworkConfig {
    NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.8.0",
            "Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap()
}

/// What a node finds that had no subnet before.
const FRESH: Previous = Previous {
    network: None,
    subnet: None,
    ipv6_network: None,
    ipv6_subnet: None,
};

/// What a node finds that had this subnet before.
fn previously(subnet: &str) -> Previous {
    Previous {
        subnet: Some(subnet.parse().unwrap()),
        ..FRESH
    }
}

/// Attributes of node `n`.
fn node(n: u8) -> LeaseAttrs {
    let data = VxlanData {
        vni: Vni::new(1).unwrap(),
        vtep_mac: MacAddr([0x0e, 0, 0, 0, 0, n]),
    };
    LeaseAttrs::vxlan(Some((Ipv4Addr::new(192, 0, 2, n), data)), None)
}
