//! Leases with IPv6: with both families, and with IPv6 alone.

use crate::lab::Etcd;
use crate::{FRESH, config, node, soon};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use weft_control::config::NetworkConfig;
use weft_control::lease::{LeaseAttrs, Previous, VxlanData};
use weft_control::subnets::{LeaseEvent, SubnetManager};
use weft_control::wire::{MacAddr, Vni};

fn v4(n: u8) -> Option<(Ipv4Addr, VxlanData)> {
    Some((Ipv4Addr::new(192, 0, 2, n), data(n)))
}

fn v6(n: u8) -> Option<(Ipv6Addr, VxlanData)> {
    let addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into());
    Some((addr, data(n)))
}

fn data(n: u8) -> VxlanData {
    let vtep_mac = MacAddr([0x0e, 0, 0, 0, 0, n]);
    let vni = Vni::new(1).unwrap();
    VxlanData { vni, vtep_mac }
}

/// Node `n` of a network with both families.
fn dual_node(n: u8) -> LeaseAttrs {
    LeaseAttrs::vxlan(v4(n), v6(n))
}

/// Node `n` of a network with IPv6 alone.
fn v6_node(n: u8) -> LeaseAttrs {
    LeaseAttrs::vxlan(None, v6(n))
}

/// The network of [`config`], with IPv6.
fn dual() -> NetworkConfig {
    NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.8.0",
            "EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap()
}

fn v6_only() -> NetworkConfig {
    NetworkConfig::parse(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48",
            "Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap()
}

#[tokio::test]
async fn s85_ipv6_in_etcd_mode_a_lease_of_both_families_is_written_as_flannel_writes_it() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let previous = Previous {
        subnet: Some("10.1.7.0/24".parse().unwrap()),
        ipv6_subnet: Some("fd00:0:0:7::/64".parse().unwrap()),
        ..FRESH
    };
    let lease = subnets.acquire(&dual(), &dual_node(1), &previous).await;
    let lease = lease.unwrap();
    let value = r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"}}"#;
    let key = "10.1.7.0-24&fd00:0:0:7::-64";
    assert_eq!(etcd.leases().await, [(key.to_owned(), value.to_owned())]);
    assert_eq!(lease.key().to_string(), key);
    // A fresh one has both, in range.
    let other = subnets
        .acquire(&dual(), &dual_node(2), &FRESH)
        .await
        .unwrap();
    assert_eq!(other.subnet.unwrap().prefix_len(), 24);
    let subnet = other.subnet_v6.unwrap();
    let network: Ipv6Net = "fd00::/48".parse().unwrap();
    assert!(network.contains(&subnet) && subnet.prefix_len() == 64);
}

#[tokio::test]
async fn s85_ipv6_in_etcd_mode_each_node_of_ipv6_alone_has_a_lease_of_its_own() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let mut keys = Vec::new();
    for n in 1..=3 {
        let lease = subnets.acquire(&v6_only(), &v6_node(n), &FRESH).await;
        keys.push(lease.unwrap().key());
    }
    for (n, key) in (1..).zip(&keys) {
        assert_eq!(key.v4, None);
        let value = etcd.get(&format!("subnets/{key}")).await;
        assert_eq!(value, Some(v6_node(n).to_json()));
        let again = subnets.acquire(&v6_only(), &v6_node(n), &FRESH).await;
        assert_eq!(again.unwrap().key(), *key);
    }
    assert_eq!(etcd.leases().await.len(), 3);
    let name = keys[0].to_string();
    assert!(name.starts_with("0.0.0.0-0&fd00:"), "{name}");
}

#[tokio::test]
async fn enabling_ipv6_renumbers_no_node() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let mut before = Vec::new();
    for n in 1..=4 {
        let lease = subnets.acquire(&config(), &node(n), &FRESH).await.unwrap();
        before.push(lease.subnet);
    }
    // One after the other, as the agents are started again. Everything is taken.
    for (n, before) in (1..=4).zip(&before) {
        let lease = subnets.acquire(&dual(), &dual_node(n), &FRESH).await;
        let lease = lease.unwrap();
        assert_eq!(lease.subnet, *before);
        assert!(lease.subnet_v6.is_some());
    }
    let leases = etcd.leases().await;
    assert_eq!(leases.len(), 4, "{leases:?}");
    // And back.
    for (n, before) in (1..=4).zip(&before) {
        let lease = subnets.acquire(&config(), &node(n), &FRESH).await.unwrap();
        assert_eq!((lease.subnet, lease.subnet_v6), (*before, None));
    }
    assert_eq!(etcd.leases().await.len(), 4);
}

#[tokio::test]
async fn enabling_ipv6_changes_the_key_in_one_step() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let watcher = etcd.subnets().await;
    let other = subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = watcher.watch(&other, sender) => panic!("the watch ended"),
        () = async {
            let list = soon("list", events.recv()).await;
            assert!(matches!(&list, Some(LeaseEvent::Snapshot(one)) if one.len() == 1));
            let new = subnets.acquire(&dual(), &dual_node(1), &FRESH).await.unwrap();
            let mut seen = [soon("event", events.recv()).await, soon("event", events.recv()).await];
            seen.sort_by_key(|event| matches!(event, Some(LeaseEvent::Put(_))));
            assert_eq!(seen[0], Some(LeaseEvent::Delete(own.key())));
            let Some(LeaseEvent::Put(put)) = &seen[1] else {
                panic!("{seen:?}");
            };
            assert_eq!((put.key(), put.revision), (new.key(), new.revision));
        } => {}
    }
    let leases = etcd.client().await.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 2, "the old key's etcd lease is left");
}

#[tokio::test]
async fn u13_with_both_families_only_the_lease_with_both_subnets_is_the_own_one() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets
        .acquire(&dual(), &dual_node(1), &FRESH)
        .await
        .unwrap();
    let (v4, v6): (Ipv4Net, Ipv6Net) = (own.subnet.unwrap(), own.subnet_v6.unwrap());
    let half = format!("subnets/{}-{}", v4.addr(), v4.prefix_len());
    etcd.put(&half, &node(2).to_json()).await;
    let other_half = format!("subnets/10.1.99.0-24&{}-{}", v6.addr(), v6.prefix_len());
    etcd.put(&other_half, &dual_node(3).to_json()).await;
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            let list = soon("list", events.recv()).await;
            assert!(matches!(&list, Some(LeaseEvent::Snapshot(two)) if two.len() == 2), "{list:?}");
        } => {}
    }
}

#[tokio::test]
async fn a_lease_of_ipv6_alone_is_renewed_and_taken_again() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let lease = subnets.acquire(&v6_only(), &v6_node(1), &FRESH).await;
    let lease = lease.unwrap();
    let key = format!("subnets/{}", lease.key());
    let margin = Duration::from_secs(3600);
    tokio::select! {
        end = subnets.keep(lease.clone(), margin) => panic!("{end}"),
        () = soon("the key", async {
            sleep(crate::QUIET).await;
            etcd.delete(&key).await;
            while etcd.get(&key).await != Some(v6_node(1).to_json()) {
                sleep(Duration::from_millis(50)).await;
            }
        }) => {}
    }
    // Another node of IPv6 alone on the same key: its address, not 0.0.0.0, is named.
    etcd.put(&key, &v6_node(2).to_json()).await;
    let end = soon("end", subnets.keep(lease, margin)).await;
    assert_eq!(end.to_string(), "the subnet is leased by 2001:db8::2");
}

/// What flanneld does at its start in a network of IPv6 alone: it looks for a lease of its own
/// PublicIP, which is 0.0.0.0, and writes over the first that it finds.
async fn flanneld_would_take(etcd: &Etcd) -> Vec<String> {
    let is_its_own = |value: &str| {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        value["PublicIP"] == "0.0.0.0"
    };
    let leases = etcd.leases().await.into_iter();
    let taken = leases.filter(|(_, value)| is_its_own(value));
    taken.map(|(key, _)| key).collect()
}

#[tokio::test]
async fn no_flanneld_of_ipv6_alone_takes_a_lease_of_ours() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    // Of flanneld, and of this node as flanneld would have written it.
    let values = [9, 1].map(|n| v6_node(n).to_json().replace("192.0.0.8", "0.0.0.0"));
    let keys = ["0.0.0.0-0&fd00:0:0:9::-64", "0.0.0.0-0&fd00:0:0:7::-64"];
    for (key, value) in keys.iter().zip(&values) {
        etcd.put(&format!("subnets/{key}"), value).await;
    }
    assert_eq!(flanneld_would_take(&etcd).await.len(), 2);
    for n in [1, 2] {
        let lease = subnets.acquire(&v6_only(), &v6_node(n), &FRESH).await;
        let lease = lease.unwrap();
        assert_eq!(lease.key().to_string() == keys[1], n == 1, "the same lease");
    }
    assert_eq!(flanneld_would_take(&etcd).await, [keys[0]]);
}
