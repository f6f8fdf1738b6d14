//! Following the other nodes.

use crate::lab::*;
use crate::{QUIET, soon};
use tokio::time::timeout;
use weft_control::subnets::LeaseEvent;
use weft_lab::kube::{ApiOptions, StreamingLists};

/// Servers that stream lists, know it and do not, and have never heard of it.
const LISTS: [StreamingLists; 3] = [
    StreamingLists::Served,
    StreamingLists::TurnedOff,
    StreamingLists::Unknown,
];

async fn quiet(running: &mut Running) {
    let told = timeout(QUIET, running.events.recv()).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test]
async fn all_nodes_and_every_change_are_told_by_every_kind_of_server() {
    for streaming_lists in LISTS {
        let cluster = Cluster::with(ApiOptions {
            streaming_lists,
            ..ApiOptions::default()
        });
        cluster.add(2);
        cluster.add(3);
        cluster.add_bare(4);
        let mut running = Running::start(&cluster).await;
        running.expect_snapshot(&[2, 3]).await;
        cluster.add(4);
        running.expect_put(4).await;
        cluster.annotate(3, "public-ip", Some("172.18.9.9"));
        let lease = running.expect_put(3).await;
        assert_eq!(lease.attrs.identity().to_string(), "172.18.9.9");
        let other = r#"{"VNI":1,"VtepMAC":"0e:00:00:00:00:99"}"#;
        cluster.annotate(3, "backend-data", Some(other));
        running.expect_put(3).await;
        cluster.api.delete_node(&name(3));
        running.expect_delete(3).await;
        // Made again with another podCIDR.
        let mut node = annotated(5);
        node["metadata"]["name"] = name(4).into();
        cluster.api.put_node(node);
        running.expect_delete(4).await;
        running.expect_put(5).await;
        let lists = cluster.api.requests("list", "nodes");
        assert_eq!(lists == 0, streaming_lists == StreamingLists::Served);
    }
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let cluster = Cluster::with(ApiOptions {
        streaming_lists: StreamingLists::TurnedOff,
        ..ApiOptions::default()
    });
    let numbers: Vec<u16> = (2..1203).collect();
    cluster.set_config(&CONFIG.replace("10.244.0.0/16", "10.240.0.0/12"));
    for number in &numbers {
        let mut node = annotated(*number);
        node["status"]["images"] = Vec::<u8>::new().into();
        cluster.api.put_node(node);
    }
    // A server's memory may come whole, what it asks etcd for comes in pages.
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&numbers).await;
    cluster.api.forget_history();
    cluster.api.break_watches();
    cluster.api.delete_node(&name(700));
    let mut numbers = numbers;
    numbers.retain(|number| *number != 700);
    match running.next().await {
        LeaseEvent::Delete(gone) => assert_eq!(gone, key(700)),
        LeaseEvent::Snapshot(leases) => assert_eq!(leases.len(), numbers.len()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_heartbeat_of_another_node_is_no_event() {
    let cluster = Cluster::new();
    cluster.add(2);
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[2]).await;
    for _ in 0..20 {
        cluster.api.heartbeat(&name(2));
        cluster.api.heartbeat(&name(1));
    }
    quiet(&mut running).await;
    cluster.add(3);
    running.expect_put(3).await;
}

#[tokio::test]
async fn watches_that_end_or_break_go_on_where_they_were() {
    let cluster = Cluster::new();
    cluster.add(2);
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[2]).await;
    for number in 3..9 {
        match number % 2 {
            0 => cluster.api.end_watches(),
            _ => cluster.api.break_watches(),
        }
        cluster.add(number);
        running.expect_put(number).await;
    }
    // No list but the first.
    assert_eq!(cluster.api.requests("list", "nodes"), 0);
    let streamed = cluster.api.asked().into_iter();
    let streamed = streamed.filter(|asked| asked.uri.contains("sendInitialEvents"));
    assert_eq!(streamed.count(), 1);
}

#[tokio::test]
async fn a_version_that_is_forgotten_takes_a_list_of_which_only_differences_are_told() {
    for streaming_lists in LISTS {
        let mut cluster = Cluster::with(ApiOptions {
            streaming_lists,
            ..ApiOptions::default()
        });
        for number in [2, 3, 4] {
            cluster.add(number);
        }
        let mut running = Running::start(&cluster).await;
        running.expect_snapshot(&[2, 3, 4]).await;
        cluster.api.stop();
        cluster.api.delete_node(&name(3));
        cluster.annotate(4, "public-ip", Some("172.18.9.9"));
        cluster.add(5);
        cluster.api.forget_history();
        cluster.api.start_again().unwrap();
        running.expect_snapshot(&[2, 4, 5]).await;
        // The same once more tells nothing.
        cluster.api.forget_history();
        cluster.api.break_watches();
        quiet(&mut running).await;
        cluster.add(6);
        running.expect_put(6).await;
    }
}

#[tokio::test]
async fn bookmarks_keep_the_version_young() {
    let cluster = Cluster::new();
    cluster.add(2);
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[2]).await;
    // Changes of other kinds move the version on.
    for number in 0..5 {
        let map =
            serde_json::json!({"metadata": {"name": format!("m{number}"), "namespace": "default"}});
        cluster.api.put("configmaps", map);
    }
    cluster.api.send_bookmarks();
    cluster.add(3);
    running.expect_put(3).await;
    assert_eq!(cluster.api.requests("list", "nodes"), 0);
}

#[tokio::test]
async fn one_bad_node_costs_nobody_else_anything() {
    let cluster = Cluster::new();
    cluster.add(2);
    cluster.add(3);
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[2, 3]).await;
    for (key, value) in [
        ("public-ip", "300.1.2.3"),
        ("backend-data", "[]"),
        ("backend-data", r#"{"VNI":1,"VtepMAC":"\u0000"}"#),
    ] {
        cluster.annotate(2, key, Some(value));
    }
    let cidrs = serde_json::json!(["10.244.2.0/24", "fd00::/64", "fd01::/64"]);
    cluster
        .api
        .change_node(&name(2), |node| node["spec"]["podCIDRs"] = cidrs);
    cluster.add(4);
    running.expect_put(4).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_listen_blocks_nothing_for_good() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    // More than any queue between here and there holds.
    for number in 2..200 {
        cluster.add(number);
    }
    tokio::time::sleep(QUIET).await;
    for number in 2..200 {
        running.expect_put(number).await;
    }
    cluster.add(201);
    running.expect_put(201).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_receiver() {
    let cluster = Cluster::new();
    let mut running = Running::start(&cluster).await;
    running.expect_snapshot(&[]).await;
    running.events.close();
    soon(async { while running.events.recv().await.is_some() {} }).await;
}
