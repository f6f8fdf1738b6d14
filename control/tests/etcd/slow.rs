//! Links over which a list takes longer than a server may be silent.

use crate::lab::{Etcd, Mode, Proxy, manager, options, timing};
use crate::soon;
use crate::watch::{Watcher, lease};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::sleep;
use weft_control::subnets::etcd::admin::Admin;
use weft_lab::log::Log;

/// Bytes each second: the list takes about nine seconds.
const SLOW: Mode = Mode::Slow(100_000);

/// Five thousand leases, 0.9 MB.
async fn many(etcd: &Etcd) {
    for first in [10, 20, 30, 40, 50] {
        etcd.thousand_leases(first).await;
    }
}

fn unreachable(log: &Log) -> Vec<String> {
    let lines = log.lines().into_iter();
    lines.filter(|line| line.contains("unreachable")).collect()
}

#[tokio::test]
async fn a_long_list_over_a_slow_link_arrives_without_a_word() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    many(&etcd).await;
    let log = Log::start();
    let proxy = Proxy::to(&etcd).await;
    proxy.set(SLOW);
    let start = Instant::now();
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    assert_eq!(watcher.snapshot().await.len(), 5000);
    assert!(start.elapsed() > 2 * timing().request_timeout);
    assert_eq!(unreachable(&log), [""; 0]);
}

#[tokio::test]
async fn a_server_that_falls_silent_in_the_middle_of_a_list_is_left() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    many(&etcd).await;
    let log = Log::start();
    let proxy = Proxy::to(&etcd).await;
    proxy.set(SLOW);
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    sleep(timing().request_timeout / 2).await;
    proxy.set(Mode::Hang);
    soon("a line", async {
        while unreachable(&log).is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let line = format!(
        "WARN etcd unreachable: {}: no answer within 3s; retrying",
        proxy.endpoint()
    );
    assert_eq!(unreachable(&log), [line]);
    proxy.set(Mode::Pass);
    assert_eq!(watcher.snapshot().await.len(), 5000);
}

#[tokio::test]
async fn operators_see_a_long_list_over_a_slow_link() {
    let etcd = Etcd::start().await;
    many(&etcd).await;
    let proxy = Proxy::to(&etcd).await;
    proxy.set(SLOW);
    let options = options(&[proxy.endpoint()]);
    let (sender, listed) = oneshot::channel();
    std::thread::spawn(move || {
        let listed = Admin::new(&options).and_then(|admin| admin.list());
        let _ = sender.send(listed.map(|listing| listing.records.len()));
    });
    let listed = soon("list", listed).await.unwrap();
    assert_eq!(listed.unwrap(), 5000);
}

#[tokio::test]
async fn a_list_is_whole_although_it_changes_while_it_is_read() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    many(&etcd).await;
    let proxy = Proxy::to(&etcd).await;
    proxy.set(SLOW);
    let before = etcd.requests().await["Range"];
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    // The first page has been read once the second is asked for.
    soon("the second page", async {
        while etcd.requests().await["Range"] < before + 2 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // One that has been read, and one that has not.
    for n in [10, 59] {
        etcd.delete(&format!("subnets/10.{n}.99.0-24")).await;
    }
    proxy.set(Mode::Pass);
    assert_eq!(watcher.snapshot().await.len(), 5000);
    for n in [10, 59] {
        let key = format!("10.{n}.99.0-24");
        assert_eq!(watcher.next().await, crate::watch::deleted(&key));
    }
}
