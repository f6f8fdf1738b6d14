//! Reservations, and nodes that come back changed.

use crate::lab::{Etcd, manager, timing};
use crate::{FRESH, config, node, previously, soon};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use weft_control::subnets::etcd::Timing;
use weft_control::subnets::{LeaseEvent, SubnetError, SubnetManager};
use weft_lab::log::Log;

#[tokio::test]
async fn s85_a_reservation_with_nothing_but_the_address_is_used_and_stays_one() {
    let etcd = Etcd::start().await;
    etcd.put("subnets/10.1.8.0-24", r#"{"PublicIP":"192.0.2.1"}"#)
        .await;
    let subnets = etcd.subnets().await;
    // Twice: the first start and a restart.
    for _ in 0..2 {
        let wish = previously("10.1.5.0/24");
        let lease = subnets.acquire(&config(), &node(1), &wish).await.unwrap();
        assert_eq!(lease.subnet, previously("10.1.8.0/24").subnet);
        assert_eq!(lease.expires, None);
        assert_eq!(etcd.ttl("subnets/10.1.8.0-24").await, None);
        let value = etcd.get("subnets/10.1.8.0-24").await;
        assert_eq!(value, Some(node(1).to_json()));
    }
    assert_eq!(etcd.client().await.leases().await.unwrap().leases(), &[]);
}

#[tokio::test]
async fn s85_a_reservation_of_another_node_is_never_taken() {
    let etcd = Etcd::start().await;
    // Everything but 10.1.7.0/24.
    for (subnet, n) in [("10.1.5.0-24", 5), ("10.1.6.0-24", 6), ("10.1.8.0-24", 8)] {
        let value = format!(r#"{{"PublicIP":"192.0.2.{n}"}}"#);
        etcd.put(&format!("subnets/{subnet}"), &value).await;
    }
    let subnets = etcd.subnets().await;
    let wish = previously("10.1.6.0/24");
    let lease = subnets.acquire(&config(), &node(1), &wish).await.unwrap();
    assert_eq!(lease.subnet, previously("10.1.7.0/24").subnet);
    subnets
        .acquire(&config(), &node(2), &wish)
        .await
        .unwrap_err();
    let value = etcd.get("subnets/10.1.6.0-24").await;
    assert_eq!(value, Some(r#"{"PublicIP":"192.0.2.6"}"#.to_owned()));
}

#[tokio::test]
async fn s85_a_reservation_that_does_not_fit_is_named_and_left_alone() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let value = r#"{"PublicIP":"192.0.2.1"}"#;
    etcd.put("subnets/10.1.99.0-24", value).await;
    let subnets = etcd.subnets().await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let key = lease.key();
    assert!(lease.expires.is_some());
    let kept = etcd.get("subnets/10.1.99.0-24").await;
    assert_eq!(kept, Some(value.to_owned()));
    let expected = format!(
        "WARN the reservation 10.1.99.0-24 of this node cannot be used (the network config does \
         not allow it) and is left alone; {key} is taken"
    );
    let lines = log.lines();
    assert!(lines.contains(&expected), "{lines:?}");
    // It would be a peer at this node's own address.
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&lease, sender) => panic!("the watch ended"),
        () = async {
            let list = soon("list", events.recv()).await;
            assert_eq!(list, Some(LeaseEvent::Snapshot(vec![])));
            etcd.put("subnets/10.1.98.0-24", &node(2).to_json()).await;
            let put = soon("put", events.recv()).await;
            assert!(matches!(put, Some(LeaseEvent::Put(_))), "{put:?}");
            // A peer's subnet that is reserved for this node is no peer's any more.
            etcd.put("subnets/10.1.98.0-24", value).await;
            let delete = soon("delete", events.recv()).await;
            assert_eq!(delete, Some(LeaseEvent::Delete("10.1.98.0-24".parse().unwrap())));
        } => {}
    }
}

#[tokio::test]
async fn s85_a_new_public_ip_means_a_new_subnet_until_the_old_lease_is_gone() {
    let etcd = Etcd::start().await;
    let short = Timing {
        lease_ttl: Duration::from_secs(2),
        ..timing()
    };
    let subnets = manager(&[etcd.endpoint()], short).await;
    let old = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let previous = previously(&old.to_string());
    let moved = etcd.subnets().await;
    let lease = moved.acquire(&config(), &node(2), &previous).await;
    assert_ne!(lease.unwrap().subnet, old.subnet);
    let gone = async {
        while etcd.get(&format!("subnets/{}", old.key())).await.is_some() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    soon("expiry", gone).await;
    let lease = moved.acquire(&config(), &node(3), &previous).await;
    assert_eq!(lease.unwrap().subnet, old.subnet);
}

#[tokio::test]
async fn s85_a_new_mac_keeps_the_lease_and_reaches_the_peers() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let peer = subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            soon("list", events.recv()).await;
            let mut attrs = node(2);
            attrs.backend_data = node(9).backend_data;
            let again = subnets.acquire(&config(), &attrs, &FRESH).await.unwrap();
            assert_eq!(again.key(), peer.key());
            let Some(LeaseEvent::Put(put)) = soon("put", events.recv()).await else {
                panic!("no put");
            };
            assert_eq!((put.key(), put.attrs), (peer.key(), attrs));
        } => {}
    }
}

#[tokio::test]
async fn s85_stale_state_a_node_that_comes_back_sees_the_present() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let gone = subnets.acquire(&config(), &node(2), &FRESH).await.unwrap();
    // While it is away its lease ends, another node takes the subnet, and one is gone.
    etcd.delete(&format!("subnets/{}", own.key())).await;
    etcd.delete(&format!("subnets/{}", gone.key())).await;
    let wish = previously(&own.to_string());
    let heir = subnets.acquire(&config(), &node(3), &wish).await.unwrap();
    assert_eq!(heir.subnet, own.subnet);
    let again = subnets.acquire(&config(), &node(1), &wish).await.unwrap();
    assert_ne!(again.subnet, own.subnet);
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&again, sender) => panic!("the watch ended"),
        () = async {
            let Some(LeaseEvent::Snapshot(peers)) = soon("list", events.recv()).await else {
                panic!("no list");
            };
            let peers: Vec<_> = peers.into_iter().map(|peer| (peer.key(), peer.attrs)).collect();
            assert_eq!(peers, [(heir.key(), node(3))]);
        } => {}
    }
}

#[tokio::test]
async fn a_network_config_that_changed_while_etcd_was_away_is_not_used() {
    let mut etcd = Etcd::start().await;
    let text = |network: &str| format!(r#"{{"Network":"{network}","Backend":{{"Type":"vxlan"}}}}"#);
    etcd.put("config", &text("10.7.0.0/16")).await;
    let subnets = etcd.subnets().await;
    let (config, attrs) = (config(), node(1));
    let outcome = subnets.acquire(&config, &attrs, &FRESH).await;
    assert_eq!(outcome, Err(SubnetError::ConfigChanged));
    assert_eq!(etcd.leases().await, []);
    // One that nobody can use, or none, is no reason to give up a good one.
    etcd.put("config", "{").await;
    etcd.stop();
    let acquire = soon("lease", subnets.acquire(&config, &attrs, &FRESH));
    let (lease, ()) = tokio::join!(acquire, etcd.resume());
    assert_eq!(lease.unwrap().attrs, attrs);
}
