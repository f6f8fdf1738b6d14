//! An API server that is away.

use crate::lab::*;
use crate::{QUIET, soon};
use tokio::time::{sleep, timeout};
use weft_control::config::NetworkConfig;
use weft_control::lease::{Lease, Previous};
use weft_control::remembered::{Remembered, RememberedOptions};
use weft_control::subnets::kube::KubeSubnets;
use weft_control::subnets::{LeaseEvent, SubnetManager};

#[tokio::test]
async fn an_outage_changes_nothing_for_nodes_that_run() {
    let mut cluster = Cluster::new();
    cluster.add(2);
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[2]).await;
    cluster.api.stop();
    assert!(timeout(QUIET, running.events.recv()).await.is_err());
    cluster.api.start_again().unwrap();
    cluster.add(3);
    running.expect_put(3).await;
}

#[tokio::test]
async fn a_start_waits_for_a_server_that_is_not_up() {
    let mut cluster = Cluster::new();
    cluster.add_bare(1);
    cluster.api.stop();
    let subnets = cluster.subnets();
    let (config, attrs) = (NetworkConfig::parse(CONFIG).unwrap(), attrs(1));
    let previous = Previous::default();
    let mut acquire = std::pin::pin!(soon(subnets.acquire(&config, &attrs, &previous)));
    assert!(timeout(QUIET, &mut acquire).await.is_err());
    let health = subnets.health().unwrap();
    assert!(!health.reachable && health.failures > 0);
    cluster.api.start_again().unwrap();
    assert_eq!(acquire.await.unwrap().key(), key(1));
}

#[tokio::test]
async fn a_start_goes_by_what_is_remembered_while_the_server_is_away() {
    let mut cluster = Cluster::new();
    cluster.add_bare(1);
    cluster.add(2);
    let options = RememberedOptions {
        state_dir: cluster.path("state"),
        prefix: cluster.options("x").network_path(),
        use_ended: false,
    };
    std::fs::create_dir(&options.state_dir).unwrap();
    let config = NetworkConfig::parse(CONFIG).unwrap();
    let (own, previous) = (attrs(1), Previous::default());
    let start = async |cluster: &Cluster| {
        let subnets = Remembered::new(cluster.subnets(), &options);
        soon(subnets.network_config()).await.unwrap();
        let lease = soon(subnets.acquire(&config, &own, &previous))
            .await
            .unwrap();
        assert_eq!(lease.key(), key(1));
        (subnets, lease)
    };
    let first = async |subnets: &Remembered<KubeSubnets>, own: &Lease| {
        let (sender, mut events) = tokio::sync::mpsc::channel(9);
        tokio::select! {
            () = subnets.watch(own, sender) => panic!("it goes on"),
            event = events.recv() => event.unwrap(),
        }
    };
    let (subnets, lease) = start(&cluster).await;
    let LeaseEvent::Snapshot(told) = first(&subnets, &lease).await else {
        panic!("no list first");
    };
    assert_eq!(told.len(), 1);
    subnets.close().await;
    drop(subnets);
    let file = options
        .state_dir
        .join("netkubernetes%3aflannel.alpha.coreos.com.state");
    assert!(file.exists());

    cluster.api.stop();
    let (subnets, lease) = start(&cluster).await;
    assert!(subnets.remembered().is_some());
    let LeaseEvent::Snapshot(remembered) = first(&subnets, &lease).await else {
        panic!("no list first");
    };
    assert_eq!(remembered[0].attrs, told[0].attrs);
    // Another podCIDR meanwhile is seen as soon as the server is there again.
    cluster.api.delete_node(&name(1));
    let mut node = bare(9);
    node["metadata"]["name"] = name(1).into();
    cluster.api.put_node(node);
    cluster.api.start_again().unwrap();
    let end = soon(subnets.keep(lease, QUIET)).await;
    assert_eq!(end, weft_control::lease::LeaseEnd::Outdated);
    assert!(!file.exists(), "what was remembered is over");
    sleep(QUIET / 10).await;
    let lease = soon(subnets.acquire(&config, &own, &previous))
        .await
        .unwrap();
    assert_eq!(lease.key(), key(9));
}
