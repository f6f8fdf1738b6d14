//! The etcd subnet manager against a real etcd.

// Helpers of tests are not seen as tests by clippy.toml's allow-unwrap-in-tests.
#![allow(clippy::unwrap_used)]

#[path = "etcd/acquire.rs"]
mod acquire;
#[path = "etcd/changes.rs"]
mod changes;
#[path = "etcd/clones.rs"]
mod clones;
#[path = "etcd/dual.rs"]
mod dual;
#[path = "etcd/foreign.rs"]
mod foreign;
#[path = "etcd/impostor.rs"]
mod impostor;
#[path = "etcd/keep.rs"]
mod keep;
#[path = "etcd/lab.rs"]
mod lab;
#[path = "etcd/leader.rs"]
mod leader;
#[path = "etcd/no_space.rs"]
mod no_space;
#[path = "etcd/outage.rs"]
mod outage;
#[path = "etcd/refused.rs"]
mod refused;
#[path = "etcd/restore.rs"]
mod restore;
#[path = "etcd/slow.rs"]
mod slow;
#[path = "etcd/swap.rs"]
mod swap;
#[path = "etcd/tls.rs"]
mod tls;
#[path = "etcd/together.rs"]
mod together;
#[path = "etcd/twins.rs"]
mod twins;
#[path = "etcd/watch.rs"]
mod watch;

use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::timeout;
use weft_control::config::NetworkConfig;
use weft_control::lease::{LeaseAttrs, MacAddr, Previous, VxlanData};

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
        vni: 1,
        vtep_mac: MacAddr([0x0e, 0, 0, 0, 0, n]),
    };
    LeaseAttrs::vxlan(Some((Ipv4Addr::new(192, 0, 2, n), data)), None)
}
