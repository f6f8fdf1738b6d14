//! Nodes that advertise one address.

use crate::lab::{Etcd, PREFIX};
use crate::{FRESH, config, node, soon};
use std::time::Duration;
use tokio::time::sleep;
use weft_control::lease::{LeaseAttrs, SubnetKey};
use weft_control::subnets::SubnetManager;
use weft_lab::log::Log;

const MARGIN: Duration = Duration::from_secs(3600);

/// Wait until the key holds this value.
async fn holds(etcd: &Etcd, key: &str, attrs: &LeaseAttrs) {
    soon("value", async {
        while etcd.get(key).await != Some(attrs.to_json()) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn warnings(log: &Log) -> Vec<String> {
    let lines = log.lines().into_iter();
    lines.filter(|line| line.starts_with("WARN")).collect()
}

/// What node `n` would write with the address of node 1.
fn twin(n: u8) -> LeaseAttrs {
    LeaseAttrs {
        backend_data: node(n).backend_data,
        ..node(1)
    }
}

/// What is said of node `n` with the address of node 1.
fn line(key: &SubnetKey, n: u8) -> String {
    format!(
        "WARN somebody else writes the lease {key} (MAC 0e:00:00:00:00:0{n}): \
         do two nodes advertise 192.0.2.1?"
    )
}

#[tokio::test]
async fn s85_one_public_ip_on_two_nodes_is_told_once_by_each() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let (one, two) = (etcd.subnets().await, etcd.subnets().await);
    let twin = twin(7);
    let first = one.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let second = two.acquire(&config(), &twin, &FRESH).await.unwrap();
    assert_eq!(first.key(), second.key());
    let key = format!("subnets/{}", first.key());
    tokio::select! {
        end = one.keep(first.clone(), MARGIN) => panic!("{end}"),
        end = two.keep(second, MARGIN) => panic!("{end}"),
        () = async {
            // More turns than there are lines.
            for _ in 0..3 {
                holds(&etcd, &key, &node(1)).await;
                holds(&etcd, &key, &twin).await;
            }
        } => {}
    }
    let mut lines = warnings(&log);
    lines.sort();
    assert_eq!(lines, [1, 7].map(|n| line(&first.key(), n)));
}

#[tokio::test]
async fn one_public_ip_on_three_nodes_is_told_once_by_each_of_both_others() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let (a, b, c) = (
        etcd.subnets().await,
        etcd.subnets().await,
        etcd.subnets().await,
    );
    let first = a.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let second = b.acquire(&config(), &twin(7), &FRESH).await.unwrap();
    let third = c.acquire(&config(), &twin(8), &FRESH).await.unwrap();
    let key = format!("{PREFIX}/subnets/{}", first.key());
    let mut client = etcd.client().await;
    let mut writes = async || {
        let found = client.get(key.as_str(), None).await.unwrap();
        found.kvs()[0].version()
    };
    tokio::select! {
        end = a.keep(first.clone(), MARGIN) => panic!("{end}"),
        end = b.keep(second, MARGIN) => panic!("{end}"),
        end = c.keep(third, MARGIN) => panic!("{end}"),
        () = soon("turns", async {
            while warnings(&log).len() < 6 {
                sleep(Duration::from_millis(20)).await;
            }
            // More turns of each than there are lines.
            let told_at = writes().await;
            while writes().await < told_at + 12 {
                sleep(Duration::from_millis(20)).await;
            }
        }) => {}
    }
    let mut lines = warnings(&log);
    lines.sort();
    assert_eq!(lines, [1, 1, 7, 7, 8, 8].map(|n| line(&first.key(), n)));
}

#[tokio::test]
async fn an_operators_hand_on_the_lease_is_no_other_node() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let subnets = etcd.subnets().await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let key = format!("subnets/{}", lease.key());
    tokio::select! {
        end = subnets.keep(lease, MARGIN) => panic!("{end}"),
        () = async {
            for value in [
                r#"{"PublicIP":"192.0.2.1"}"#,
                r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan"}"#,
                r#"{"BackendType":"vxlan","PublicIP":"192.0.2.1",
                    "BackendData":{"VtepMAC":"0E:00:00:00:00:01"}}"#,
            ] {
                etcd.put(&key, value).await;
                holds(&etcd, &key, &node(1)).await;
            }
        } => {}
    }
    assert_eq!(warnings(&log), [""; 0]);
}
