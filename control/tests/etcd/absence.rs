//! Nodes that live and that etcd, put back from a snapshot, does not know.

use crate::lab::{Etcd, Mode, Proxy, manager, timing};
use crate::node;
use crate::watch::{Watcher, deleted, lease};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use weft_control::subnets::LeaseEvent;
use weft_control::subnets::etcd::Timing;

/// Long enough for a busy machine to write something meanwhile.
const ABSENCE: Duration = Duration::from_secs(5);

const KEYS: [&str; 3] = ["10.1.6.0-24", "10.1.7.0-24", "10.1.8.0-24"];

/// A node that watches through a proxy and knows 6, 7 and 8, and a snapshot that knows 6.
async fn forgetful() -> (Etcd, Proxy, Watcher, PathBuf) {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    lease(&subnets, 6).await;
    let snapshot = etcd.save();
    lease(&subnets, 7).await;
    lease(&subnets, 8).await;
    let proxy = Proxy::to(&etcd).await;
    let timing = Timing {
        absence: ABSENCE,
        ..timing()
    };
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing).await, &own);
    assert_eq!(watcher.snapshot().await, KEYS);
    (etcd, proxy, watcher, snapshot)
}

async fn restore(etcd: &mut Etcd, proxy: &Proxy, snapshot: PathBuf) {
    proxy.set(Mode::Cut);
    etcd.restore(&snapshot);
    etcd.resume().await;
    proxy.set(Mode::Pass);
}

#[tokio::test]
async fn they_stay_peers_until_they_have_had_the_time_to_write_their_leases_again() {
    let (mut etcd, proxy, mut watcher, snapshot) = forgetful().await;
    restore(&mut etcd, &proxy, snapshot).await;
    let back = Instant::now();
    // One that lives, and one that has gone meanwhile. Of neither anything is said before.
    lease(&etcd.subnets().await, 7).await;
    assert_eq!(watcher.put().await.0, "10.1.7.0-24");
    assert_eq!(watcher.next().await, deleted("10.1.8.0-24"));
    assert!(back.elapsed() > ABSENCE / 2);
    watcher.quiet().await;
    etcd.delete("subnets/10.1.7.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.7.0-24"));
}

#[tokio::test]
async fn further_interruptions_give_them_no_more_time() {
    let (mut etcd, proxy, mut watcher, snapshot) = forgetful().await;
    restore(&mut etcd, &proxy, snapshot).await;
    let back = Instant::now();
    let first = loop {
        proxy.set(Mode::Cut);
        etcd.put("elsewhere", "x").await;
        etcd.compact().await;
        proxy.set(Mode::Pass);
        if let Ok(event) = timeout(ABSENCE / 4, watcher.next()).await {
            break event;
        }
    };
    assert!(back.elapsed() < 3 * ABSENCE, "{:?}", back.elapsed());
    // By the clock, or by a list that came a little later.
    match first {
        LeaseEvent::Snapshot(left) => assert_eq!(left.len(), 1),
        event => {
            assert_eq!(event, deleted("10.1.7.0-24"));
            assert_eq!(watcher.next().await, deleted("10.1.8.0-24"));
        }
    }
}

#[tokio::test]
async fn one_whose_addresses_another_node_gets_goes_at_once() {
    let (mut etcd, proxy, mut watcher, snapshot) = forgetful().await;
    restore(&mut etcd, &proxy, snapshot).await;
    let back = Instant::now();
    let other = "10.1.7.0-24&fd00:0:0:7::-64";
    etcd.put(&format!("subnets/{other}"), &node(77).to_json())
        .await;
    // Told of by the watch, or by the list if that came later.
    match watcher.next().await {
        event if event == deleted("10.1.7.0-24") => {
            assert_eq!(watcher.put().await.0, other);
        }
        LeaseEvent::Snapshot(leases) => {
            let keys = leases.iter().map(|lease| lease.key().to_string());
            let now = ["10.1.6.0-24", other, "10.1.8.0-24"];
            assert_eq!(keys.collect::<Vec<_>>(), now);
        }
        event => panic!("{event:?}"),
    }
    assert!(back.elapsed() < ABSENCE);
}
