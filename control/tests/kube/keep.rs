//! Keeping what the cluster says of this node true.

use crate::lab::*;
use crate::{QUIET, soon};
use tokio::time::sleep;
use weft_control::lease::{LeaseAttrs, LeaseEnd};
use weft_control::subnets::kube;
use weft_lab::kube::nodes::condition;

fn network_is(cluster: &Cluster, status: &str) -> bool {
    let node = cluster.api.node(&name(1)).unwrap();
    condition(&node, "NetworkUnavailable").is_some_and(|found| found["status"] == status)
}

#[tokio::test]
async fn the_condition_is_set_once_and_never_on_a_restart() {
    let cluster = Cluster::new();
    let running = Running::start(&cluster).await;
    cluster.until("set", |c| network_is(c, "False")).await;
    let node = cluster.api.node(&name(1)).unwrap();
    let said = condition(&node, "NetworkUnavailable").unwrap();
    assert_eq!(said["reason"], "FlannelIsUp");
    assert_eq!(said["message"], "Flannel is running on this node");
    drop(running);
    assert!(network_is(&cluster, "False"), "it stays");
    let patches = cluster.api.requests("patch", "nodes/status");
    let mut again = Running::with(&cluster, attrs(1)).await;
    again.expect_snapshot(&[]).await;
    sleep(QUIET).await;
    assert_eq!(cluster.api.requests("patch", "nodes/status"), patches);
}

#[tokio::test]
async fn annotations_that_somebody_changes_are_written_again() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    let wanted = cluster.annotations(1);
    for (key, value) in [
        ("public-ip", Some("10.9.9.9")),
        ("kube-subnet-manager", None),
        ("backend-data", Some("{")),
    ] {
        cluster.annotate(1, key, value);
        cluster.until(key, |c| c.annotations(1) == wanted).await;
    }
    // An overwrite counts while the node runs, too.
    cluster.annotate(1, "public-ip-overwrite", Some("10.9.9.9"));
    let told = |c: &Cluster| c.annotations(1)["public-ip"] == "10.9.9.9";
    cluster.until("overwritten", told).await;
    cluster.annotate(1, "public-ip-overwrite", None);
    cluster.until("back", |c| c.annotations(1) == wanted).await;
}

#[tokio::test]
async fn a_node_that_is_made_again_is_annotated_and_told_again() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    cluster.until("set", |c| network_is(c, "False")).await;
    let wanted = cluster.annotations(1);
    cluster.api.delete_node(&name(1));
    sleep(QUIET / 5).await;
    cluster.add_bare(1);
    cluster
        .until("annotated", |c| c.annotations(1) == wanted)
        .await;
    cluster.until("set again", |c| network_is(c, "False")).await;
}

#[tokio::test]
async fn another_pod_cidr_ends_the_lease_so_that_the_node_starts_anew() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    cluster.api.delete_node(&name(1));
    let mut node = bare(7);
    node["metadata"]["name"] = name(1).into();
    cluster.api.put_node(node);
    assert_eq!(running.end().await, LeaseEnd::Reassigned);
}

#[tokio::test]
async fn e17_a_node_whose_pod_cidr_is_gone_for_a_while_goes_on() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    cluster.api.delete_node(&name(1));
    let mut node = bare(1);
    let spec = node["spec"].as_object_mut().unwrap();
    spec.retain(|key, _| !key.starts_with("podCIDR"));
    cluster.api.put_node(node);
    cluster
        .until("annotated", |c| c.annotations(1).len() == 4)
        .await;
    cluster
        .api
        .change_node(&name(1), |node| node["spec"]["podCIDR"] = cidr(1).into());
    cluster.add(2);
    running.expect_put(2).await;
}

#[tokio::test]
async fn a_node_that_leaves_for_good_is_taken_out() {
    let cluster = Cluster::new();
    let running = Running::start(&cluster).await;
    cluster.until("set", |c| network_is(c, "False")).await;
    drop(running);
    cluster.annotate(1, "public-ip-overwrite", Some("10.9.9.9"));
    let done = kube::leave(&cluster.options(&name(1))).await.unwrap();
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(network_is(&cluster, "True"));
    let left: Vec<String> = cluster.annotations(1).into_keys().collect();
    assert_eq!(
        left,
        ["public-ip-overwrite"],
        "what people have told it stays"
    );
    assert_eq!(
        kube::leave(&cluster.options(&name(1))).await,
        Ok(Vec::new())
    );
    assert_eq!(kube::leave(&cluster.options("gone")).await, Ok(Vec::new()));
    cluster.api.forbid("get", "nodes");
    let refused = kube::leave(&cluster.options(&name(1))).await.unwrap_err();
    assert!(
        refused.contains(r#"resources ["nodes"], verbs ["get"]"#),
        "{refused}"
    );
}

#[tokio::test]
async fn alloc_watches_nothing_and_is_told_to_be_up() {
    let cluster = Cluster::new();
    cluster.set_config(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"alloc"}}"#);
    cluster.add_bare(1);
    cluster.add(2);
    let own = LeaseAttrs::alloc(Some([172, 18, 0, 1].into()), None);
    let mut running = Running::with(&cluster, own).await;
    running.expect_snapshot(&[]).await;
    cluster.until("set", |c| network_is(c, "False")).await;
    assert_eq!(cluster.api.requests("list", "nodes"), 0);
    assert_eq!(cluster.api.requests("watch", "nodes"), 0);
    assert!(soon(async { cluster.annotations(1)["backend-data"] == "null" }).await);
}
