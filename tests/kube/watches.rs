//! Watches of nodes.

use crate::cluster::{Cluster, Lines};
use serde_json::Value;

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A raw watch of the test's nodes.
fn watch(cluster: &Cluster, query: &str) -> Lines {
    let label = cluster.label().replace('=', "%3D");
    let path = format!("/api/v1/nodes?watch=1&timeoutSeconds=120&labelSelector={label}&{query}");
    cluster.follow(&["get", "--raw", &path])
}

/// Whether an event is of a kind, and of a node with this annotation `a`.
fn is(event: &Value, kind: &str, value: Option<&str>) -> bool {
    event["type"] == kind && event["object"]["metadata"]["annotations"]["a"].as_str() == value
}

#[test]
fn a_watch_goes_on_where_a_list_or_a_watch_has_ended() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    let list = cluster.object(&["nodes", "-l", &cluster.label()]);
    let listed = cluster.raw("/api/v1/nodes?limit=1");
    assert!(list["items"].as_array().unwrap().is_empty());
    cluster.create_node("n");
    cluster.good(&["annotate", "node", &name, "a=1"]);
    cluster.good(&["annotate", "--overwrite", "node", &name, "a=2"]);
    cluster.good(&["delete", "node", &name]);
    let events = watch(&cluster, &format!("resourceVersion={}", version(&listed)));
    let added = events.event("the node comes", |event| event["type"] == "ADDED");
    let first = events.event("it changes", |event| is(event, "MODIFIED", Some("1")));
    let second = events.event("it changes again", |event| is(event, "MODIFIED", Some("2")));
    let gone = events.event("it goes", |event| event["type"] == "DELETED");
    let all = [&added, &first, &second, &gone].map(|event| version(&event["object"]));
    let numbers = all.iter().map(|version| version.parse().unwrap());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(gone["object"]["metadata"]["name"], name);
    let rest = watch(&cluster, &format!("resourceVersion={}", all[1]));
    let next = rest.event("the rest", |event| {
        event["object"]["metadata"]["annotations"]["a"] != "1"
    });
    assert!(is(&next, "MODIFIED", Some("2")), "{next}");
}

#[test]
fn without_a_version_a_watch_begins_with_what_is_there() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    cluster.create_node("n");
    for query in ["", "resourceVersion=0"] {
        let events = watch(&cluster, query);
        events.event("what is there", |event| event["type"] == "ADDED");
        cluster.good(&[
            "annotate",
            "--overwrite",
            "node",
            &cluster.name("n"),
            &format!("a=x{query}"),
        ]);
        let value = format!("x{query}");
        events.event("what comes later", |event| {
            is(event, "MODIFIED", Some(&value))
        });
    }
}

#[test]
fn a_node_that_is_selected_no_more_is_deleted_to_a_watch() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let node = cluster.create_node("n");
    let events = watch(&cluster, &format!("resourceVersion={}", version(&node)));
    cluster.good(&["label", "node", &cluster.name("n"), "weft-test-"]);
    events.event("it goes", |event| event["type"] == "DELETED");
    cluster.good(&["label", "node", &cluster.name("n"), &cluster.label()]);
    events.event("it comes", |event| event["type"] == "ADDED");
}

#[test]
fn a_streaming_list_is_marked_at_its_end_or_refused() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let made = cluster.create_node("n");
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let path = format!(
        "/api/v1/nodes?watch=1&timeoutSeconds=1&{list}&resourceVersion={}",
        version(&made)
    );
    // Servers before 1.32 know it only if they are told to.
    if cluster.serves(&path) {
        let events = watch(&cluster, list);
        events.event("what is there", |event| event["type"] == "ADDED");
        let end = events.event("the end", |event| event["type"] == "BOOKMARK");
        let metadata = &end["object"]["metadata"];
        assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
        assert!(metadata["resourceVersion"].is_string());
    } else {
        let refused = cluster.bad(&["get", "--raw", &path]);
        assert!(
            refused.contains("(Invalid)") && refused.contains("is forbidden for watch"),
            "{refused}"
        );
    }
}

#[test]
fn kubectl_watches() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    cluster.create_node("n");
    let field = format!("metadata.name={name}");
    let lines = cluster.follow(&[
        "get",
        "nodes",
        "-w",
        "--output-watch-events",
        "--field-selector",
        &field,
    ]);
    let seen = |kind: &str| {
        lines.find(kind, |line| {
            (line.starts_with(kind) && line.contains(&name)).then_some(())
        });
    };
    seen("ADDED");
    cluster.good(&["annotate", "node", &name, "a=1"]);
    seen("MODIFIED");
    cluster.good(&["delete", "node", &name]);
    seen("DELETED");
}

#[test]
fn a_version_that_is_forgotten_is_410() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let Some(server) = &cluster.server else {
        // No client makes a real server forget.
        return;
    };
    let node = cluster.create_node("n");
    cluster.good(&["annotate", "node", &cluster.name("n"), "a=1"]);
    server.forget_history();
    let old = version(&node);
    let events = watch(&cluster, &format!("resourceVersion={old}"));
    let error = events.event("an error", |event| event["type"] == "ERROR");
    assert_eq!(
        (&error["object"]["code"], &error["object"]["reason"]),
        (&410.into(), &"Expired".into())
    );
    let path = format!("/api/v1/nodes?resourceVersionMatch=Exact&resourceVersion={old}");
    let refused = cluster.bad(&["get", "--raw", &path]);
    assert!(refused.contains("(Expired)"), "{refused}");
}
