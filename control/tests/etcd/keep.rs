use crate::lab::{Etcd, Mode, Proxy, manager, timing};
use crate::{FRESH, QUIET, config, node, previously, soon};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use weft_control::lease::{Lease, LeaseEnd};
use weft_control::subnets::SubnetManager;
use weft_control::subnets::etcd::{EtcdSubnets, Timing};
use weft_lab::log::Log;

/// flannel's default margin: longer than the leases of these tests, so that they are renewed
/// at a third of their life.
const MARGIN: Duration = Duration::from_secs(3600);

/// Seconds that such a lease lives: short enough to see it renewed, and long enough for a busy
/// machine to do that in time.
const SHORT: u64 = 5;

async fn short_lived(endpoint: String, seconds: u64) -> (EtcdSubnets, Lease) {
    let timing = Timing {
        lease_ttl: Duration::from_secs(seconds),
        ..timing()
    };
    let subnets = manager(&[endpoint], timing).await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    (subnets, lease)
}

/// Wait until the lease in etcd has changed since it was taken.
async fn renewed(etcd: &Etcd, lease: &Lease) {
    renewed_since(etcd, lease, lease.revision).await;
}

/// Wait until the lease in etcd has changed since `revision`.
async fn renewed_since(etcd: &Etcd, lease: &Lease, revision: i64) {
    let mut client = etcd.client().await;
    let key = format!("{}/subnets/{}", crate::lab::PREFIX, lease.key());
    soon("renewal", async {
        loop {
            let response = client.get(key.clone(), None).await.unwrap();
            if response.kvs()[0].mod_revision() > revision {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn u16_renewal_outlives_the_lease_and_leaves_the_value_alone() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let keep = subnets.keep(lease.clone(), MARGIN);
    assert!(
        timeout(Duration::from_secs(SHORT + 3), keep).await.is_err(),
        "the lease ended"
    );
    let key = format!("subnets/{}", lease.key());
    assert_eq!(etcd.get(&key).await, Some(node(1).to_json()));
    assert!(etcd.ttl(&key).await.unwrap() >= 1);
}

#[tokio::test]
async fn u16_renewal_is_due_one_margin_before_the_end_and_grants_the_full_time() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), 100).await;
    // etcd tells whole seconds: the lease may seem to have lost one at once.
    let margin = Duration::from_secs(96);
    let key = format!("subnets/{}", lease.key());
    tokio::select! {
        end = subnets.keep(lease.clone(), margin) => panic!("{end}"),
        () = async {
            sleep(Duration::from_millis(400)).await;
            assert_eq!(revision(&etcd, &lease).await, lease.revision, "renewed too early");
            renewed(&etcd, &lease).await;
            let first = lease.expires.unwrap();
            let mut ends = subnets.ends();
            let is_later = |now: &Option<Instant>| now.is_some_and(|now| now > first);
            soon("the new end", ends.wait_for(is_later)).await.unwrap();
        } => {}
    }
    assert!(etcd.ttl(&key).await.unwrap() >= 96);
    assert_eq!(etcd.get(&key).await, Some(node(1).to_json()));
}

async fn revision(etcd: &Etcd, lease: &Lease) -> i64 {
    let key = format!("{}/subnets/{}", crate::lab::PREFIX, lease.key());
    let response = etcd.client().await.get(key, None).await.unwrap();
    response.kvs()[0].mod_revision()
}

/// Run `others` while the lease is kept.
async fn while_kept(subnets: &EtcdSubnets, lease: &Lease, others: impl Future<Output = ()>) {
    tokio::select! {
        end = subnets.keep(lease.clone(), MARGIN) => panic!("{end}"),
        () = others => {}
    }
}

/// Wait until the key holds the value of node 1 on a lease of etcd's.
async fn taken_again(etcd: &Etcd, key: &str) {
    soon("the key", async {
        while etcd.get(key).await != Some(node(1).to_json()) {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(etcd.ttl(key).await.unwrap() >= 1);
}

fn lines_with(log: &Log, part: &str) -> Vec<String> {
    let lines = log.lines().into_iter();
    lines.filter(|line| line.contains(part)).collect()
}

#[tokio::test]
async fn u15_renewal_and_deletion_of_the_own_key_are_seen() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        renewed(&etcd, &lease).await;
        etcd.delete(&key).await;
        taken_again(&etcd, &key).await;
        // And it is renewed from then on.
        let taken = revision(&etcd, &lease).await;
        renewed_since(&etcd, &lease, taken).await;
        taken_again(&etcd, &key).await;
    })
    .await;
    let line = format!(
        "WARN the lease {} was deleted; it was still free and is this node's again",
        lease.key()
    );
    assert_eq!(lines_with(&log, "this node's again"), [line]);
}

#[tokio::test]
async fn s85_lease_expiry_of_a_live_node_is_mended() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), 30).await;
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        // Long before its time, as when etcd's clock leaps.
        for _ in 0..3 {
            let mut client = etcd.client().await;
            let path = format!("{}/{key}", crate::lab::PREFIX);
            let id = client.get(path, None).await.unwrap().kvs()[0].lease();
            client.lease_revoke(id).await.unwrap();
            taken_again(&etcd, &key).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_lease_is_not_taken_again_from_whoever_is_faster() {
    let etcd = Etcd::start().await;
    // Of the same name, and of another name with the same addresses.
    for other in ["10.1.8.0-24", "10.1.8.0-24&fd00:0:0:8::-64", "10.1.0.0-16"] {
        let subnets = etcd.subnets().await;
        let wish = previously("10.1.8.0/24");
        let lease = subnets.acquire(&config(), &node(1), &wish).await.unwrap();
        let operator = async {
            sleep(QUIET).await;
            let [own, other] =
                ["10.1.8.0-24", other].map(|name| format!("{}/subnets/{name}", crate::lab::PREFIX));
            // etcd wants each key once in a transaction.
            let mut ops = vec![etcd_client::TxnOp::put(
                other.clone(),
                node(2).to_json(),
                None,
            )];
            if own != other {
                ops.push(etcd_client::TxnOp::delete(own, None));
            }
            let txn = etcd_client::Txn::new().and_then(ops);
            etcd.client().await.txn(txn).await.unwrap();
        };
        let keep = soon("end", subnets.keep(lease.clone(), MARGIN));
        let (end, ()) = tokio::join!(keep, operator);
        assert_eq!(
            end,
            LeaseEnd::Taken {
                by: node(2).identity()
            },
            "{other}"
        );
        assert_eq!(etcd.leases().await, [(other.to_owned(), node(2).to_json())]);
        etcd.delete(&format!("subnets/{other}")).await;
    }
}

#[tokio::test]
async fn u7_the_own_lease_is_kept_across_an_interruption_and_a_compaction() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(&etcd).await;
    let (subnets, lease) = short_lived(proxy.endpoint(), 30).await;
    let key = format!("subnets/{}", lease.key());
    tokio::select! {
        end = subnets.keep(lease.clone(), MARGIN) => panic!("{end}"),
        () = async {
            sleep(QUIET).await;
            proxy.set(Mode::Cut);
            for n in 0..10 {
                etcd.put("elsewhere", &n.to_string()).await;
            }
            etcd.compact().await;
            proxy.set(Mode::Pass);
            renewed(&etcd, &lease).await;
        } => {}
    }
    assert_eq!(etcd.get(&key).await, Some(node(1).to_json()));
}

#[tokio::test]
async fn u8_a_deletion_below_the_compaction_horizon_is_noticed() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(&etcd).await;
    let subnets = manager(&[proxy.endpoint()], timing()).await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        sleep(QUIET).await;
        proxy.set(Mode::Cut);
        etcd.delete(&key).await;
        etcd.put("elsewhere", "x").await;
        etcd.compact().await;
        proxy.set(Mode::Pass);
        taken_again(&etcd, &key).await;
    })
    .await;
}

#[tokio::test]
async fn s85_after_an_outage_longer_than_the_ttl_another_nodes_lease_is_not_overwritten() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(&etcd).await;
    let (subnets, lease) = short_lived(proxy.endpoint(), 2).await;
    let key = format!("subnets/{}", lease.key());
    let others = async {
        // Cut off longer than the lease lives; meanwhile another node takes the subnet.
        sleep(QUIET).await;
        proxy.set(Mode::Cut);
        soon("expiry", async {
            while etcd.get(&key).await.is_some() {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        etcd.put(&key, &node(2).to_json()).await;
        proxy.set(Mode::Pass);
    };
    let (end, ()) = tokio::join!(soon("end", subnets.keep(lease.clone(), MARGIN)), others);
    let by = node(2).identity();
    assert_eq!(end, LeaseEnd::Taken { by });
    assert_eq!(end.to_string(), "the subnet is leased by 192.0.2.2");
    assert_eq!(etcd.get(&key).await, Some(node(2).to_json()));
}

#[tokio::test]
async fn a_lost_lease_is_not_taken_again_beneath_one_that_cannot_be_read() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let wish = crate::previously("10.1.6.0/24");
    let lease = subnets.acquire(&config(), &node(1), &wish).await.unwrap();
    let key = format!("subnets/{}", lease.key());
    etcd.put("subnets/10.1.4.0-22", "junk").await;
    let others = etcd.delete(&key);
    let (end, ()) = tokio::join!(soon("end", subnets.keep(lease.clone(), MARGIN)), others);
    let by = "10.1.4.0-22".parse().unwrap();
    assert_eq!(end, LeaseEnd::Overlapped { by });
    assert_eq!(etcd.get(&key).await, None);
}

#[tokio::test]
async fn s85_after_an_outage_longer_than_the_ttl_a_free_subnet_is_taken_again() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let proxy = Proxy::to(&etcd).await;
    let (subnets, lease) = short_lived(proxy.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        sleep(QUIET).await;
        proxy.set(Mode::Cut);
        soon("expiry", async {
            while etcd.get(&key).await.is_some() {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        sleep(Duration::from_secs(2)).await;
        proxy.set(Mode::Pass);
        taken_again(&etcd, &key).await;
        soon("line", async {
            while lines_with(&log, "this node's again").is_empty() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    })
    .await;
    let line = format!(
        "WARN the lease {} has expired; it was still free and is this node's again",
        lease.key()
    );
    assert_eq!(lines_with(&log, "this node's again"), [line]);
}

#[tokio::test]
async fn junk_over_the_own_key_is_put_right() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    let id = {
        let path = format!("{}/{key}", crate::lab::PREFIX);
        let mut client = etcd.client().await;
        let id = client.get(path.clone(), None).await.unwrap().kvs()[0].lease();
        let options = etcd_client::PutOptions::new().with_lease(id);
        client.put(path, "junk", Some(options)).await.unwrap();
        id
    };
    assert_ne!(id, 0);
    tokio::select! {
        end = subnets.keep(lease.clone(), MARGIN) => panic!("{end}"),
        () = soon("repair", async {
            while etcd.get(&key).await != Some(node(1).to_json()) {
                sleep(Duration::from_millis(50)).await;
            }
        }) => {}
    }
}

#[tokio::test]
async fn s85_a_reservation_is_not_renewed_and_becomes_a_lease_when_it_is_deleted() {
    let etcd = Etcd::start().await;
    etcd.put("subnets/10.1.8.0-24", r#"{"PublicIP":"192.0.2.1"}"#)
        .await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    assert_eq!(lease.expires, None);
    while_kept(&subnets, &lease, async {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(revision(&etcd, &lease).await, lease.revision);
        etcd.delete("subnets/10.1.8.0-24").await;
        taken_again(&etcd, "subnets/10.1.8.0-24").await;
    })
    .await;
}

#[tokio::test]
async fn s85_an_operator_who_reserves_the_lease_of_a_live_node_does_not_cut_it_off() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        sleep(QUIET).await;
        // Without MAC and backend type, by which peers would reach it.
        etcd.put(&key, r#"{"PublicIP":"192.0.2.1"}"#).await;
        soon("value", async {
            while etcd.get(&key).await != Some(node(1).to_json()) {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(etcd.ttl(&key).await, None, "it is no reservation any more");
    })
    .await;
}

#[tokio::test]
async fn u15_what_others_write_over_the_own_key_is_taken_over_and_written_back() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    while_kept(&subnets, &lease, async {
        sleep(QUIET).await;
        let mut client = etcd.client().await;
        let long = client.lease_grant(20_000, None).await.unwrap().id();
        let options = etcd_client::PutOptions::new().with_lease(long);
        let path = format!("{}/{key}", crate::lab::PREFIX);
        let same = node(1).to_json();
        client.put(path, same, Some(options)).await.unwrap();
        let written = revision(&etcd, &lease).await;
        sleep(Duration::from_secs(4)).await;
        // Its end counts now: nothing is due.
        assert_eq!(revision(&etcd, &lease).await, written);
        etcd.put(&key, r#"{"PublicIP":"192.0.2.1","BackendType":"x"}"#)
            .await;
        soon("value", async {
            while etcd.get(&key).await != Some(node(1).to_json()) {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_renewed_although_etcd_went_away_right_after_it_was_taken() {
    let mut etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), 6).await;
    etcd.stop();
    let keep = tokio::spawn({
        let lease = lease.clone();
        async move { subnets.keep(lease, MARGIN).await }
    });
    sleep(Duration::from_secs(1)).await;
    etcd.resume().await;
    renewed(&etcd, &lease).await;
    assert!(!keep.is_finished());
    keep.abort();
}

#[tokio::test]
async fn etcd_leases_of_former_renewals_are_given_back() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), 3600).await;
    let margin = Duration::from_secs(3599);
    tokio::select! {
        end = subnets.keep(lease.clone(), margin) => panic!("{end}"),
        () = async {
            let mut last = lease.clone();
            for _ in 0..3 {
                renewed(&etcd, &last).await;
                last.revision = revision(&etcd, &lease).await;
            }
            // The last one's former lease is on its way.
            soon("one lease", async {
                while etcd.client().await.leases().await.unwrap().leases().len() > 1 {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        } => {}
    }
    // The node stops and starts again.
    let again = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    assert_eq!(again.key(), lease.key());
    let leases = etcd.client().await.leases().await.unwrap();
    assert_eq!(leases.leases().len(), 1);
}

#[tokio::test]
async fn an_etcd_lease_that_other_keys_hang_on_is_left() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), 3600).await;
    let mut client = etcd.client().await;
    let path = format!("{}/subnets/{}", crate::lab::PREFIX, lease.key());
    let id = client.get(path, None).await.unwrap().kvs()[0].lease();
    let options = etcd_client::PutOptions::new().with_lease(id);
    client.put("/other", "x", Some(options)).await.unwrap();
    subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let other = client.get("/other", None).await.unwrap();
    assert_eq!(other.kvs().len(), 1);
}

#[tokio::test]
async fn a_lease_made_a_reservation_while_running_is_renewed_no_more() {
    let etcd = Etcd::start().await;
    let (subnets, lease) = short_lived(etcd.endpoint(), SHORT).await;
    let key = format!("subnets/{}", lease.key());
    let operator = async {
        sleep(QUIET).await;
        etcd.put(&key, &node(1).to_json()).await;
        let reserved = revision(&etcd, &lease).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(revision(&etcd, &lease).await, reserved);
        assert_eq!(etcd.ttl(&key).await, None);
    };
    tokio::select! {
        end = subnets.keep(lease.clone(), MARGIN) => panic!("{end}"),
        () = operator => {}
    }
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_keeps_the_lease() {
    let etcd = Etcd::start().await;
    let proxy = Proxy::to(&etcd).await;
    let (subnets, lease) = short_lived(proxy.endpoint(), SHORT).await;
    proxy.set(Mode::LoseWrite);
    while_kept(&subnets, &lease, async {
        soon("a lost answer", async {
            while proxy.mode() != Mode::Pass {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let lost = revision(&etcd, &lease).await;
        renewed_since(&etcd, &lease, lost).await;
    })
    .await;
    let key = format!("subnets/{}", lease.key());
    assert_eq!(etcd.get(&key).await, Some(node(1).to_json()));
    assert!(etcd.ttl(&key).await.unwrap() >= 1);
}
