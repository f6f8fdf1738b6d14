//! Thirty nodes that boot at the same moment.

use crate::lab::{Etcd, manager, timing};
use crate::{FRESH, soon};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use weft_control::config::NetworkConfig;
use weft_control::lease::{Lease, LeaseAttrs};
use weft_control::subnets::SubnetManager;

const NODES: u8 = 30;

/// The leases that thirty managers get of a network when they ask at once. Each is in etcd, and
/// no address is in two.
async fn leases(config: &str) -> Vec<Lease> {
    let config = NetworkConfig::parse(config).unwrap();
    let etcd = Etcd::start().await;
    let mut managers = Vec::new();
    for _ in 0..NODES {
        managers.push(manager(&[etcd.endpoint()], timing()).await);
    }
    let attrs: Vec<LeaseAttrs> = (1..=NODES).map(|n| attrs(&config, n)).collect();
    let tries = managers.iter().zip(&attrs);
    let tries = tries.map(|(manager, attrs)| manager.acquire(&config, attrs, &FRESH));
    let leases = soon("thirty leases", join_all(tries)).await;
    let leases: Vec<Lease> = leases.into_iter().map(Result::unwrap).collect();
    let stored: BTreeSet<(String, String)> = etcd.leases().await.into_iter().collect();
    let name = |lease: &Lease| (lease.key().to_string(), lease.attrs.to_json());
    assert_eq!(leases.iter().map(name).collect::<BTreeSet<_>>(), stored);
    for (n, lease) in leases.iter().enumerate() {
        for other in &leases[..n] {
            assert!(!lease.key().overlaps(&other.key()), "{lease} {other}");
        }
    }
    leases
}

fn attrs(config: &NetworkConfig, n: u8) -> LeaseAttrs {
    let v4 = Ipv4Addr::new(192, 0, 2, n);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into());
    LeaseAttrs::host_gw(config.ranges.v4.map(|_| v4), config.ranges.v6.map(|_| v6))
}

#[tokio::test]
async fn s85_race_of_thirty_nodes_at_once_in_a_wide_network() {
    leases(r#"{"Network":"10.0.0.0/8"}"#).await;
}

#[tokio::test]
async fn s85_race_of_thirty_nodes_at_once_in_a_network_of_thirty_subnets() {
    leases(r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.1.0","SubnetMax":"10.1.30.0"}"#).await;
}

#[tokio::test]
async fn s85_race_of_thirty_nodes_at_once_with_both_families() {
    leases(r#"{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#).await;
}

#[tokio::test]
async fn s85_race_of_thirty_nodes_at_once_with_thirty_subnets_of_both_families() {
    leases(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.1.0","SubnetMax":"10.1.30.0",
            "EnableIPv6":true,"IPv6Network":"fd00::/48",
            "IPv6SubnetMin":"fd00:0:0:1::","IPv6SubnetMax":"fd00:0:0:1e::"}"#,
    )
    .await;
}

#[tokio::test]
async fn s85_race_of_thirty_nodes_at_once_with_ipv6_alone() {
    let config = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;
    for lease in leases(config).await {
        assert_eq!(lease.subnet, None);
    }
}
