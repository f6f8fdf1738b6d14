//! An etcd whose quota is used up: it takes deletions, and no writes.

use crate::lab::{Etcd, manager, timing};
use crate::{FRESH, config, node, soon};
use std::time::Duration;
use tokio::time::sleep;
use weft_control::subnets::SubnetManager;
use weft_control::subnets::etcd::Timing;
use weft_lab::log::Log;

#[tokio::test]
async fn a_lost_lease_is_back_soon_after_etcd_takes_writes_again() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let slow_renewal = Timing {
        renew_retry: Duration::from_secs(3600),
        ..timing()
    };
    let subnets = manager(&[etcd.endpoint()], slow_renewal).await;
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let key = format!("subnets/{}", lease.key());
    let others = async {
        etcd.set_no_space(true).await;
        let before = etcd.requests().await["LeaseGrant"];
        etcd.delete(&key).await;
        soon("tries", async {
            while etcd.requests().await["LeaseGrant"] < before + 4 {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert_eq!(etcd.get(&key).await, None);
        etcd.set_no_space(false).await;
        soon("the lease", async {
            while etcd.get(&key).await != Some(node(1).to_json()) {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    tokio::select! {
        end = subnets.keep(lease.clone(), Duration::from_secs(3600)) => panic!("{end}"),
        () = others => {}
    }
    let refused = "WARN etcd refused to grant an etcd lease: etcdserver: mvcc: database space \
                   exceeded; it takes no writes until it has room: compact and defragment it, \
                   then etcdctl alarm disarm; retrying";
    let lines = log.lines();
    let told = lines.iter().filter(|line| line.contains("refused"));
    assert_eq!(told.collect::<Vec<_>>(), [refused]);
}
