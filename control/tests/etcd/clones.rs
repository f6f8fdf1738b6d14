//! Nodes that run from copies of one disk: the same MAC, the same `subnet.env`. And leases that
//! are given back.

use crate::lab::Etcd;
use crate::{FRESH, config, node, previously};
use weft_control::config::NetworkConfig;
use weft_control::lease::{Lease, LeaseAttrs, Previous};
use weft_control::subnets::etcd::EtcdSubnets;
use weft_control::subnets::{SubnetError, SubnetManager};
use weft_control::wire::MacAddr;

/// Node `n` with the MAC of node `mac`.
fn clone(n: u8, mac: u8) -> LeaseAttrs {
    LeaseAttrs {
        backend_data: node(mac).backend_data,
        ..node(n)
    }
}

#[tokio::test]
async fn a_mac_that_another_lease_has_is_refused_before_anything_is_written() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let first = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let before = etcd.leases().await;
    let previous = previously("10.1.7.0/24");
    for previous in [&FRESH, &previous] {
        let refused = subnets.acquire(&config(), &clone(2, 1), previous).await;
        let expected = SubnetError::MacTaken {
            mac: MacAddr([0x0e, 0, 0, 0, 0, 1]),
            by: node(1).identity(),
            key: first.key(),
        };
        assert_eq!(refused, Err(expected));
        assert_eq!(etcd.leases().await, before);
    }
    // The node itself may start again, and one with a MAC of its own, too.
    let again = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    assert_eq!(again.key(), first.key());
    subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
}

/// Take a lease as an agent does: with another MAC each time that one is taken. How many times
/// that was.
async fn start(
    subnets: &EtcdSubnets,
    config: &NetworkConfig,
    n: u8,
    previous: &Previous,
) -> (Lease, usize) {
    let mut attrs = clone(n, 1);
    let mut changes = 0;
    loop {
        match subnets.acquire(config, &attrs, previous).await {
            Ok(lease) => return (lease, changes),
            Err(SubnetError::MacTaken { .. }) => {
                changes += 1;
                attrs = clone(n, 100 + n);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn of_two_clones_that_start_at_the_same_moment_one_takes_another_mac_and_subnet() {
    let etcd = Etcd::start().await;
    let (a, b) = (etcd.subnets().await, etcd.subnets().await);
    let (config, previous) = (config(), previously("10.1.6.0/24"));
    for round in 0..20 {
        let reserved = round % 2 == 1;
        if reserved {
            // What both find in etcd says nothing of their MACs.
            for n in [1, 2] {
                let value = format!(r#"{{"PublicIP":"192.0.2.{n}"}}"#);
                etcd.put(&format!("subnets/10.1.{}.0-24", 4 + n), &value)
                    .await;
            }
        }
        let ((one, changed), (two, also)) = tokio::join!(
            start(&a, &config, 1, &previous),
            start(&b, &config, 2, &previous)
        );
        assert_eq!(changed + also, 1, "round {round}: {one:?} {two:?}");
        assert_ne!(one.subnet, two.subnet, "round {round}");
        assert_eq!(one.attrs.shared_mac(&two.attrs), None, "round {round}");
        if !reserved {
            let kept = [one.subnet, two.subnet].contains(&previous.subnet);
            assert!(kept, "round {round}: {one:?} {two:?}");
        }
        for lease in [one, two] {
            let key = format!("subnets/{}", lease.key());
            assert_eq!(etcd.get(&key).await, Some(lease.attrs.to_json()));
            etcd.delete(&key).await;
        }
    }
}

#[tokio::test]
async fn what_peers_know_a_node_by_is_in_its_lease() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    assert_eq!(subnets.known(&node(1)).await, None);
    let value = r#"{"PublicIP":"192.0.2.1"}"#;
    etcd.put("subnets/10.1.5.0-24", value).await;
    assert_eq!(subnets.known(&node(1)).await, None, "a reservation");
    let lease = clone(1, 7);
    etcd.put("subnets/10.1.6.0-24", &lease.to_json()).await;
    assert_eq!(subnets.known(&node(1)).await, Some(lease));
    assert_eq!(subnets.known(&node(2)).await, None);
}

#[tokio::test]
async fn a_lease_is_given_back_only_if_it_is_new() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    subnets.release(&lease).await;
    assert_eq!(etcd.leases().await, []);
    let granted = async || {
        let leases = etcd.client().await.leases().await.unwrap();
        leases.leases().len()
    };
    assert_eq!(granted().await, 0, "nor an etcd lease is left");

    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let again = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    for lease in [&lease, &again] {
        subnets.release(lease).await;
        assert_eq!(etcd.leases().await.len(), 1);
    }
    // Beside the subnet that node 1 has drawn.
    let taken = lease.subnet.unwrap().network().octets()[2];
    let free = if taken == 7 { 8 } else { 7 };
    let reservation = r#"{"PublicIP":"192.0.2.2"}"#;
    etcd.put(&format!("subnets/10.1.{free}.0-24"), reservation)
        .await;
    let reserved = subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
    subnets.release(&reserved).await;
    assert_eq!(etcd.leases().await.len(), 2, "a reservation stays");
}
