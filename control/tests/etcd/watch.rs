use crate::lab::{Etcd, Mode, Proxy, manager, timing};
use crate::{QUIET, config, node, previously, soon};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weft_control::lease::{Lease, SubnetKey};
use weft_control::subnets::etcd::{EtcdSubnets, Timing};
use weft_control::subnets::{LeaseEvent, SubnetManager};

/// What one node sees of the others.
pub(crate) struct Watcher {
    events: mpsc::Receiver<LeaseEvent>,
    task: JoinHandle<()>,
}

impl Watcher {
    pub(crate) fn start(subnets: EtcdSubnets, own: &Lease) -> Watcher {
        Watcher::with_room(subnets, own, 16)
    }

    fn with_room(subnets: EtcdSubnets, own: &Lease, room: usize) -> Watcher {
        let (sender, events) = mpsc::channel(room);
        let own = own.clone();
        let task = tokio::spawn(async move { subnets.watch(&own, sender).await });
        Watcher { events, task }
    }

    pub(crate) async fn next(&mut self) -> LeaseEvent {
        soon("event", self.events.recv()).await.unwrap()
    }

    /// The keys of the next event, which must be a snapshot.
    pub(crate) async fn snapshot(&mut self) -> Vec<String> {
        match self.next().await {
            LeaseEvent::Snapshot(leases) => leases.iter().map(|l| l.key().to_string()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Key and public address of the next event, which must be a put.
    pub(crate) async fn put(&mut self) -> (String, String) {
        match self.next().await {
            LeaseEvent::Put(lease) => (lease.key().to_string(), lease.attrs.public_ip.to_string()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn quiet(&mut self) {
        if let Ok(event) = timeout(QUIET, self.events.recv()).await {
            panic!("{event:?}");
        }
    }
}

pub(crate) fn deleted(key: &str) -> LeaseEvent {
    LeaseEvent::Delete(key.parse::<SubnetKey>().unwrap())
}

/// A lease for node `n` on a subnet of its own.
pub(crate) async fn lease(subnets: &EtcdSubnets, n: u8) -> Lease {
    let wish = previously(&format!("10.1.{n}.0/24"));
    subnets.acquire(&config(), &node(n), &wish).await.unwrap()
}

#[tokio::test]
async fn u5_u13_peers_come_and_go_and_the_own_lease_is_never_seen() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    let before = lease(&subnets, 6).await;
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    let first = watcher.next().await;
    let LeaseEvent::Snapshot(leases) = first else {
        panic!("{first:?}");
    };
    assert_eq!(leases.len(), 1);
    assert_eq!(
        (leases[0].key(), &leases[0].attrs),
        (before.key(), &node(6))
    );

    let new = lease(&subnets, 7).await;
    let LeaseEvent::Put(put) = watcher.next().await else {
        panic!("no put");
    };
    assert_eq!(
        (put.key(), &put.attrs, put.revision),
        (new.key(), &node(7), new.revision)
    );

    // The own lease written again and deleted: nobody's concern here.
    lease(&subnets, 5).await;
    etcd.delete("subnets/10.1.5.0-24").await;
    watcher.quiet().await;

    etcd.delete("subnets/10.1.6.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
    etcd.put("subnets/10.1.7.0-24", &node(8).to_json()).await;
    assert_eq!(
        watcher.put().await,
        ("10.1.7.0-24".into(), "192.0.2.8".into())
    );
}

#[tokio::test]
async fn u14_a_lease_that_expires_is_removed() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    let short = Timing {
        lease_ttl: Duration::from_secs(3),
        ..timing()
    };
    let other = manager(&[etcd.endpoint()], short).await;
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    assert_eq!(watcher.snapshot().await, [""; 0]);
    let peer = lease(&other, 6).await;
    watcher.put().await;
    assert_eq!(watcher.next().await, LeaseEvent::Delete(peer.key()));
}

#[tokio::test]
async fn u6_changes_lost_to_a_compaction_arrive_as_a_snapshot() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    lease(&subnets, 6).await;
    // One place for events, taken by the snapshot: the watch begins only when it is read.
    let mut watcher = Watcher::with_room(etcd.subnets().await, &own, 1);
    let proxy = Proxy::to(&etcd).await;
    let mut cut_off = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    assert_eq!(watcher.snapshot().await, ["10.1.6.0-24"]);
    assert_eq!(cut_off.snapshot().await, ["10.1.6.0-24"]);
    // Both watches have begun once they tell of this one.
    etcd.put("subnets/10.1.9.0-24", &node(9).to_json()).await;
    assert_eq!(watcher.put().await.0, "10.1.9.0-24");
    assert_eq!(cut_off.put().await.0, "10.1.9.0-24");
    proxy.set(Mode::Cut);
    etcd.delete("subnets/10.1.6.0-24").await;
    lease(&subnets, 7).await;
    lease(&subnets, 8).await;
    etcd.compact().await;
    proxy.set(Mode::Pass);
    let left = ["10.1.7.0-24", "10.1.8.0-24", "10.1.9.0-24"];
    assert_eq!(cut_off.snapshot().await, left);
    etcd.delete("subnets/10.1.8.0-24").await;
    assert_eq!(cut_off.next().await, deleted("10.1.8.0-24"));
    // The one that was never cut off sees each change.
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
    assert_eq!(watcher.put().await.0, "10.1.7.0-24");
    assert_eq!(watcher.put().await.0, "10.1.8.0-24");
    assert_eq!(watcher.next().await, deleted("10.1.8.0-24"));
}

#[tokio::test]
async fn an_interrupted_watch_goes_on_where_it_stopped() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    watcher.snapshot().await;
    lease(&subnets, 6).await;
    assert_eq!(watcher.put().await.0, "10.1.6.0-24");
    proxy.set(Mode::Cut);
    lease(&subnets, 7).await;
    etcd.delete("subnets/10.1.6.0-24").await;
    proxy.set(Mode::Pass);
    assert_eq!(watcher.put().await.0, "10.1.7.0-24");
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
    watcher.quiet().await;
}

#[tokio::test]
async fn a_connection_that_went_silent_is_noticed() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    watcher.snapshot().await;
    proxy.set(Mode::Hang);
    lease(&subnets, 6).await;
    watcher.quiet().await;
    proxy.set(Mode::Pass);
    assert_eq!(watcher.put().await.0, "10.1.6.0-24");
}

#[tokio::test]
async fn u9_a_blocked_receiver_does_not_hold_up_the_end() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    let mut watcher = Watcher::with_room(etcd.subnets().await, &own, 1);
    assert_eq!(watcher.snapshot().await, [""; 0]);
    // One fills the room, the next waits for it.
    for n in 6..=8 {
        lease(&subnets, n).await;
    }
    soon("an event", async {
        while watcher.events.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tokio::time::sleep(QUIET).await;
    assert!(!watcher.task.is_finished());
    drop(watcher.events);
    soon("end", watcher.task).await.unwrap();
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    watcher.snapshot().await;
    drop(watcher.events);
    soon("end", watcher.task).await.unwrap();
}

#[tokio::test]
async fn malformed_keys_and_values_are_skipped_and_remove_nobody() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    lease(&subnets, 6).await;
    etcd.put("subnets/junk", "junk").await;
    etcd.put("subnets/10.1.8.0-24", "junk").await;
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    assert_eq!(watcher.snapshot().await, ["10.1.6.0-24"]);

    etcd.put("subnets/10.1.6.0-24", "{").await;
    etcd.put("subnets/10.1.6.0-24", r#"{"PublicIP":"x"}"#).await;
    etcd.put("subnets/10.1.300.0-24", &node(9).to_json()).await;
    etcd.delete("subnets/junk").await;
    etcd.delete("subnets/10.1.8.0-24").await;
    watcher.quiet().await;

    // Nor does the list after a compaction.
    proxy.set(Mode::Cut);
    lease(&subnets, 7).await;
    etcd.put("elsewhere", "x").await;
    etcd.compact().await;
    proxy.set(Mode::Pass);
    let event = watcher.next().await;
    let LeaseEvent::Snapshot(leases) = event else {
        panic!("{event:?}");
    };
    let known: Vec<_> = leases
        .iter()
        .map(|l| (l.key().to_string(), l.attrs.clone()))
        .collect();
    assert_eq!(
        known,
        [
            ("10.1.6.0-24".into(), node(6)),
            ("10.1.7.0-24".into(), node(7))
        ]
    );

    etcd.delete("subnets/10.1.6.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
}

/// More than one answer may hold.
#[tokio::test]
async fn a_list_with_long_values_arrives_in_shorter_pages() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    lease(&subnets, 6).await;
    let junk = "x".repeat(1_400_000);
    for n in 0..28 {
        etcd.put(&format!("subnets/10.1.5.{n}-junk"), &junk).await;
    }
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    assert_eq!(watcher.snapshot().await, ["10.1.6.0-24"]);
    etcd.delete("subnets/10.1.6.0-24").await;
    assert_eq!(watcher.next().await, deleted("10.1.6.0-24"));
}

#[tokio::test]
async fn lists_of_five_thousand_leases_cost_a_handful_of_requests() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    for first in [10, 20, 30, 40, 50] {
        etcd.thousand_leases(first).await;
    }
    let before = etcd.requests().await;
    assert!(before["Txn"] >= 50, "{before:?}");
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    assert_eq!(watcher.snapshot().await.len(), 5000);
    // A list anew, after the history since the interruption is gone.
    proxy.set(Mode::Cut);
    etcd.thousand_leases(60).await;
    etcd.compact().await;
    proxy.set(Mode::Pass);
    assert_eq!(watcher.snapshot().await.len(), 6000);
    // Changes of a thousand leases, in the order in which they were made.
    etcd.thousand_leases(70).await;
    for n in 0..1000 {
        let key = format!("10.{}.{}.0-24", 70 + n / 100, n % 100);
        assert_eq!(watcher.put().await.0, key);
    }
    let after = etcd.requests().await;
    let cost = |method: &str| after[method] - before[method];
    // Lists, looks where the history stands, this test's own compaction.
    assert!(cost("Range") <= 10, "{}", cost("Range"));
    assert!(cost("Watch") <= 5, "{}", cost("Watch"));
    for method in [
        "LeaseTimeToLive",
        "LeaseGrant",
        "LeaseRevoke",
        "LeaseKeepAlive",
    ] {
        assert_eq!(cost(method), 0, "{method}");
    }
}

#[tokio::test]
async fn addresses_and_macs_that_changed_unseen_are_in_the_new_list() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    lease(&subnets, 6).await;
    lease(&subnets, 7).await;
    let proxy = Proxy::to(&etcd).await;
    let mut watcher = Watcher::start(manager(&[proxy.endpoint()], timing()).await, &own);
    watcher.snapshot().await;
    proxy.set(Mode::Cut);
    let mut other_mac = node(6);
    other_mac.backend_data = node(66).backend_data;
    etcd.put("subnets/10.1.6.0-24", &other_mac.to_json()).await;
    etcd.put("subnets/10.1.7.0-24", &node(77).to_json()).await;
    etcd.put("elsewhere", "x").await;
    etcd.compact().await;
    proxy.set(Mode::Pass);
    let event = watcher.next().await;
    let LeaseEvent::Snapshot(leases) = event else {
        panic!("{event:?}");
    };
    let attrs: Vec<_> = leases.into_iter().map(|lease| lease.attrs).collect();
    assert_eq!(attrs, [other_mac, node(77)]);
}
