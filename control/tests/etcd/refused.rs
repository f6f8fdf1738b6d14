//! Writes that etcd refuses.

use crate::lab::{Etcd, PREFIX, options, timing};
use crate::{FRESH, config, node, soon};
use etcd_client::{Client, ConnectOptions, Permission};
use std::time::Duration;
use tokio::time::sleep;
use weft_control::subnets::SubnetManager;
use weft_control::subnets::etcd::{EtcdOptions, Secret};
use weft_control::subnets::etcd::{EtcdSubnets, Timing};

const PASSWORD: &str = "7-warp-threads";

/// All keys of the network.
fn all_keys() -> String {
    format!("{PREFIX}/")
}

fn read_only() -> Permission {
    Permission::read(all_keys()).with_prefix()
}

/// Turn users on; what the user `weft` may do is up to `permission`.
async fn with_users(etcd: &Etcd, permission: Permission) -> Client {
    let mut operator = etcd.client().await;
    operator.role_add("node").await.unwrap();
    operator
        .role_grant_permission("node", permission)
        .await
        .unwrap();
    for (user, role) in [("weft", "node"), ("root", "root")] {
        operator.user_add(user, PASSWORD, None).await.unwrap();
        operator.user_grant_role(user, role).await.unwrap();
    }
    operator.auth_enable().await.unwrap();
    let login = ConnectOptions::new().with_user("root", PASSWORD);
    Client::connect([etcd.endpoint()], Some(login))
        .await
        .unwrap()
}

/// The subnet manager of the user `weft`.
fn as_user(etcd: &Etcd, timing: Timing) -> EtcdSubnets {
    let options = EtcdOptions {
        username: "weft".to_owned(),
        password: Secret::new(PASSWORD),
        ..options(&[etcd.endpoint()])
    };
    EtcdSubnets::new(&options, timing).unwrap()
}

/// How many etcd leases have been granted and not given back.
async fn etcd_leases(operator: &mut Client) -> usize {
    operator.leases().await.unwrap().leases().len()
}

async fn grants(etcd: &Etcd) -> u64 {
    etcd.requests().await["LeaseGrant"]
}

/// Wait until so many etcd leases have been asked for.
async fn granted(etcd: &Etcd, count: u64) {
    soon("tries", async {
        while grants(etcd).await < count {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_may_not_write_leaves_no_etcd_leases_behind() {
    let etcd = Etcd::start().await;
    let mut operator = with_users(&etcd, read_only()).await;
    let subnets = as_user(&etcd, timing());
    let (config, attrs) = (config(), node(1));
    tokio::select! {
        outcome = subnets.acquire(&config, &attrs, &FRESH) => panic!("{outcome:?}"),
        () = granted(&etcd, 4) => {}
    }
    // The last try may have been cut short.
    assert!(etcd_leases(&mut operator).await <= 1);
}

#[tokio::test]
async fn a_renewal_that_is_refused_leaves_no_etcd_leases_behind() {
    let etcd = Etcd::start().await;
    let write = Permission::read_write(all_keys()).with_prefix();
    let mut operator = with_users(&etcd, write).await;
    let short = Timing {
        lease_ttl: Duration::from_secs(3600),
        ..timing()
    };
    let subnets = as_user(&etcd, short);
    let lease = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    operator
        .role_grant_permission("node", read_only())
        .await
        .unwrap();
    let before = grants(&etcd).await;
    // Due at once, and again after each failure.
    let margin = Duration::from_secs(3600);
    tokio::select! {
        end = subnets.keep(lease.clone(), margin) => panic!("{end}"),
        () = granted(&etcd, before + 4) => {}
    }
    // The lease's own, and one of a try that was cut short.
    assert!(etcd_leases(&mut operator).await <= 2);
    let key = operator.get(format!("{PREFIX}/subnets/{}", lease.key()), None);
    assert_eq!(key.await.unwrap().kvs()[0].mod_revision(), lease.revision);
}
