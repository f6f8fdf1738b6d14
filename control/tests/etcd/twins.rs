//! Two nodes that advertise one address.

use crate::lab::Etcd;
use crate::log::Log;
use crate::{FRESH, config, node, soon};
use std::time::Duration;
use tokio::time::sleep;
use weft_control::lease::LeaseAttrs;
use weft_control::subnets::SubnetManager;

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

#[tokio::test]
async fn s85_one_public_ip_on_two_nodes_is_told_once_by_each() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let (one, two) = (etcd.subnets().await, etcd.subnets().await);
    let twin = LeaseAttrs {
        backend_data: node(7).backend_data,
        ..node(1)
    };
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
    let line = |mac: &str| {
        let key = first.key();
        format!(
            "WARN somebody else writes the lease {key} (MAC {mac}): \
             do two nodes advertise 192.0.2.1?"
        )
    };
    let mut lines = warnings(&log);
    lines.sort();
    let expected = [line("0e:00:00:00:00:01"), line("0e:00:00:00:00:07")];
    assert_eq!(lines, expected);
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
