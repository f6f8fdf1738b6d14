//! An etcd that is put back from a snapshot: its ids stay, and its revisions soon are as high
//! as they were before.

use crate::lab::{Etcd, Mode, Proxy, manager, timing};
use crate::watch::{Watcher, deleted, lease};
use crate::{FRESH, config, node, soon};
use std::time::Duration;
use tokio::time::sleep;
use weft_control::lease::LeaseEnd;
use weft_control::subnets::{LeaseEvent, SubnetManager};
use weft_lab::log::Log;

/// A node that watches through a proxy, and knows the leases 6 and 7 of others.
async fn watching(etcd: &Etcd) -> (Proxy, Watcher) {
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    for n in [6, 7] {
        lease(&subnets, n).await;
    }
    let proxy = Proxy::to(etcd).await;
    let watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    (proxy, watcher)
}

/// Write other keys until etcd is past `revision`.
async fn pass_revision(etcd: &Etcd, revision: i64) {
    while etcd.revision().await <= revision {
        etcd.put("elsewhere", "x").await;
    }
}

const BEFORE: [&str; 2] = ["10.1.6.0-24", "10.1.7.0-24"];

#[tokio::test]
async fn leases_are_right_after_etcd_is_restored_and_has_gone_on_for_longer() {
    let mut etcd = Etcd::start().await;
    let log = Log::start();
    let (proxy, mut watcher) = watching(&etcd).await;
    assert_eq!(watcher.snapshot().await, BEFORE);
    let snapshot = etcd.save();
    etcd.delete("subnets/10.1.7.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.7.0-24"));
    lease(&etcd.subnets().await, 8).await;
    assert_eq!(watcher.put().await.0, "10.1.8.0-24");
    let known = etcd.revision().await;

    proxy.set(Mode::Cut);
    etcd.restore(&snapshot);
    etcd.resume().await;
    etcd.put("subnets/10.1.9.0-24", &node(9).to_json()).await;
    pass_revision(&etcd, known).await;
    proxy.set(Mode::Pass);
    let now = ["10.1.6.0-24", "10.1.7.0-24", "10.1.9.0-24"];
    assert_eq!(watcher.snapshot().await, now);
    let lines = log.lines();
    let told = lines.iter().filter(|line| line.contains("history"));
    assert_eq!(told.count(), 1, "{lines:?}");
    etcd.delete("subnets/10.1.6.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
}

#[tokio::test]
async fn a_deletion_that_a_restore_undoes_is_noticed() {
    let mut etcd = Etcd::start().await;
    let (proxy, mut watcher) = watching(&etcd).await;
    assert_eq!(watcher.snapshot().await, BEFORE);
    let snapshot = etcd.save();
    etcd.delete("subnets/10.1.7.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.7.0-24"));
    let known = etcd.revision().await;

    proxy.set(Mode::Cut);
    etcd.restore(&snapshot);
    etcd.resume().await;
    pass_revision(&etcd, known).await;
    proxy.set(Mode::Pass);
    assert_eq!(watcher.snapshot().await, BEFORE);
}

#[tokio::test]
async fn a_deletion_before_the_list_that_a_restore_undoes_is_noticed() {
    let mut etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    etcd.put("subnets/10.1.6.0-24", &node(6).to_json()).await;
    lease(&etcd.subnets().await, 7).await;
    let snapshot = etcd.save();
    etcd.delete("subnets/10.1.6.0-24").await;
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    assert_eq!(watcher.snapshot().await, ["10.1.7.0-24"]);
    let known = etcd.revision().await;

    proxy.set(Mode::Cut);
    etcd.restore(&snapshot);
    etcd.resume().await;
    pass_revision(&etcd, known).await;
    proxy.set(Mode::Pass);
    assert_eq!(watcher.snapshot().await, BEFORE);
}

#[tokio::test]
async fn another_value_at_the_same_revision_is_noticed() {
    let mut etcd = Etcd::start().await;
    let (proxy, mut watcher) = watching(&etcd).await;
    assert_eq!(watcher.snapshot().await, BEFORE);
    let snapshot = etcd.save();
    // Without an etcd lease, by which the two could be told apart.
    etcd.put("subnets/10.1.8.0-24", &node(8).to_json()).await;
    assert_eq!(watcher.put().await.1, "192.0.2.8");
    let known = etcd.revision().await;

    proxy.set(Mode::Cut);
    etcd.restore(&snapshot);
    etcd.resume().await;
    etcd.put("subnets/10.1.8.0-24", &node(88).to_json()).await;
    assert_eq!(etcd.revision().await, known);
    proxy.set(Mode::Pass);
    let event = watcher.next().await;
    let LeaseEvent::Snapshot(leases) = event else {
        panic!("{event:?}");
    };
    assert_eq!(leases[2].attrs, node(88));
}

#[tokio::test]
async fn an_own_lease_that_another_node_has_after_a_restore_ends() {
    let mut etcd = Etcd::start().await;
    let snapshot = etcd.save();
    let proxy = Proxy::to(&etcd).await;
    let subnets = manager(&[proxy.endpoint()], timing()).await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let known = etcd.revision().await;
    let operator = async {
        sleep(crate::QUIET).await;
        proxy.set(Mode::Cut);
        etcd.restore(&snapshot);
        etcd.resume().await;
        let key = format!("subnets/{}", lease.key());
        etcd.put(&key, &node(2).to_json()).await;
        pass_revision(&etcd, known).await;
        proxy.set(Mode::Pass);
    };
    let keep = subnets.keep(lease.clone(), Duration::from_secs(3600));
    let (end, ()) = tokio::join!(soon("end", keep), operator);
    let by = node(2).identity();
    assert_eq!(end, LeaseEnd::Taken { by });
}

#[tokio::test]
async fn to_go_on_in_the_same_history_costs_one_look() {
    let etcd = Etcd::start().await;
    for first in [10, 20, 30, 40, 50] {
        etcd.thousand_leases(first).await;
    }
    let (proxy, mut watcher) = watching(&etcd).await;
    assert_eq!(watcher.snapshot().await.len(), 5002);
    let other = etcd.subnets().await;
    lease(&other, 8).await;
    assert_eq!(watcher.put().await.0, "10.1.8.0-24");
    for _ in 0..3 {
        proxy.set(Mode::Cut);
        lease(&other, 8).await;
        let before = etcd.requests().await["Range"];
        proxy.set(Mode::Pass);
        assert_eq!(watcher.put().await.0, "10.1.8.0-24");
        let looks = etcd.requests().await["Range"] - before;
        // One, and one more if the machine was too slow for the first.
        assert!(looks < 3, "{looks}");
    }
}
