//! Lists of nodes, and what patches make of one.

use crate::cluster::Cluster;
use serde_json::{Value, json};
use weft_lab::skip;

const ANNOTATION: &str = "flannel.alpha.coreos.com/public-ip";

fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    weft_lab::kube::nodes::condition(node, kind)
}

#[test]
fn a_list_in_pages_is_of_one_version() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    for name in ["a", "b", "c"] {
        cluster.create_node(name);
    }
    let page = |token: &str| {
        let label = cluster.label().replace('=', "%3D");
        cluster.raw(&format!(
            "/api/v1/nodes?labelSelector={label}&limit=2&continue={token}"
        ))
    };
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    let first = page("");
    assert_eq!(names(&first), [cluster.name("a"), cluster.name("b")]);
    assert!(
        first["items"][0].get("kind").is_none(),
        "items of a list have no kind"
    );
    cluster.create_node("d");
    cluster.good(&["delete", "node", &cluster.name("c")]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = page(token);
    assert_eq!(names(&second), [cluster.name("c")]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(names(&page("")), [cluster.name("a"), cluster.name("b")]);
}

#[test]
fn a_patch_of_the_status_changes_annotations_and_not_the_spec() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    if !cluster.knows("patch", "--subresource") {
        return skip("this kubectl patches no status; take 1.24 or newer");
    }
    let name = cluster.name("n");
    cluster.create_node("n");
    let patch = |patch: Value| {
        let patch = patch.to_string();
        cluster.good(&[
            "patch",
            "node",
            &name,
            "--subresource=status",
            "--type=strategic",
            "-p",
            &patch,
        ]);
        cluster.node("n")
    };
    patch(
        json!({"status": {"conditions": [{"type": "Weft", "status": "Unknown"}, {"type": "Other", "status": "True"}]}}),
    );
    let node = patch(json!({
        "metadata": {"annotations": {ANNOTATION: "192.0.2.1"}},
        "spec": {"unschedulable": null, "taints": [{"key": "weft", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Weft", "status": "False", "reason": "FlannelIsUp"}]},
    }));
    assert_eq!(node["metadata"]["annotations"][ANNOTATION], "192.0.2.1");
    assert_eq!(condition(&node, "Weft").unwrap()["reason"], "FlannelIsUp");
    assert_eq!(
        condition(&node, "Other").unwrap()["status"],
        "True",
        "found by its type"
    );
    assert_eq!(node["spec"]["unschedulable"], true);
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    assert!(!taints.into_iter().any(|taint| taint["key"] == "weft"));
    let node = patch(json!({"status": {"conditions": [{"$patch": "delete", "type": "Other"}]}}));
    assert!(condition(&node, "Other").is_none() && condition(&node, "Weft").is_some());
}

#[test]
fn a_patch_of_the_node_does_not_change_its_status() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    cluster.create_node("n");
    let patch = |kind: &str, patch: &str| {
        cluster.good(&["patch", "node", &name, kind, "-p", patch]);
        cluster.node("n")
    };
    let node = patch(
        "--type=strategic",
        r#"{"status":{"conditions":[{"type":"Weft","status":"True"}]}}"#,
    );
    assert!(condition(&node, "Weft").is_none());
    let node = patch(
        "--type=merge",
        r#"{"metadata":{"annotations":{"a/b":"1","c":"2"}}}"#,
    );
    assert_eq!(node["metadata"]["annotations"]["a/b"], "1");
    let node = patch("--type=merge", r#"{"metadata":{"annotations":{"c":null}}}"#);
    assert!(node["metadata"]["annotations"].get("c").is_none());
    let node = patch(
        "--type=json",
        r#"[{"op":"test","path":"/metadata/annotations/a~1b","value":"1"},{"op":"replace","path":"/metadata/annotations/a~1b","value":"2"}]"#,
    );
    assert_eq!(node["metadata"]["annotations"]["a/b"], "2");
    let test = r#"[{"op":"test","path":"/metadata/annotations/a~1b","value":"1"}]"#;
    let refused = cluster.bad(&["patch", "node", &name, "--type=json", "-p", test]);
    assert!(refused.contains("The request is invalid"), "{refused}");
}

#[test]
fn annotations_and_labels_come_and_go() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    cluster.create_node("n");
    cluster.good(&[
        "annotate",
        "node",
        &name,
        "flannel.alpha.coreos.com/backend-type=vxlan",
    ]);
    cluster.good(&["label", "node", &name, "weft-zone=a"]);
    let node = cluster.node("n");
    assert_eq!(
        node["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-type"],
        "vxlan"
    );
    let both = format!("{},weft-zone in (a,b)", cluster.label());
    let found = cluster.object(&["nodes", "-l", &both]);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    cluster.good(&[
        "annotate",
        "node",
        &name,
        "flannel.alpha.coreos.com/backend-type-",
    ]);
    let annotations = &cluster.node("n")["metadata"]["annotations"];
    assert!(
        annotations
            .get("flannel.alpha.coreos.com/backend-type")
            .is_none()
    );
    let described = cluster.good(&["describe", "node", &name]);
    assert!(
        described.contains("weft-zone=a") && described.contains("192.0.2.0/28"),
        "{described}"
    );
}

#[test]
fn what_changes_nothing_is_no_new_version() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    cluster.create_node("n");
    // Controllers of a real cluster have a say in new nodes, too, but soon have said it.
    let unchanged = weft_lab::wait_until(std::time::Duration::from_secs(60), || {
        let version = |_| {
            let patch = r#"{"metadata":{"annotations":{"a":"1"}}}"#;
            cluster.good(&["patch", "node", &name, "--type=merge", "-p", patch]);
            cluster.node("n")["metadata"]["resourceVersion"].clone()
        };
        version(()) == version(())
    });
    assert!(unchanged);
}

#[test]
fn a_stale_node_does_not_replace_a_newer_one() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let made = cluster.create_node("n");
    cluster.good(&["annotate", "node", &cluster.name("n"), "a=1"]);
    let refused = cluster.bad_with(&["replace", "-f", "-"], Some(&made.to_string()));
    assert!(
        refused.contains("(Conflict)") && refused.contains("the object has been modified"),
        "{refused}"
    );
    let again = cluster.bad_with(&["create", "-f", "-"], Some(&made.to_string()));
    // kubectl takes the version out before it creates.
    assert!(again.contains("(AlreadyExists)"), "{again}");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let name = cluster.name("n");
    cluster.create_node("n");
    let refused = |patch: &str| cluster.bad(&["patch", "node", &name, "--type=merge", "-p", patch]);
    let number = refused(r#"{"metadata":{"annotations":{"a":true}}}"#);
    assert!(
        number.contains("cannot unmarshal bool") || number.contains("(BadRequest)"),
        "{number}"
    );
    let moved = refused(r#"{"spec":{"podCIDR":"192.0.2.16/28","podCIDRs":["192.0.2.16/28"]}}"#);
    assert!(
        moved.contains("node updates may not change podCIDR"),
        "{moved}"
    );
    let renamed = refused(r#"{"metadata":{"name":"another"}}"#);
    assert!(
        renamed.contains("does not match the name on the URL"),
        "{renamed}"
    );
    let absent = cluster.bad(&["get", "node", &cluster.name("absent")]);
    assert!(absent.contains("(NotFound)"), "{absent}");
}

#[test]
fn a_node_that_comes_again_is_another() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let first = cluster.create_node("n");
    cluster.good(&["delete", "node", &cluster.name("n")]);
    let second = cluster.create_node("n");
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    let dry = cluster.good(&["delete", "node", &cluster.name("n"), "--dry-run=server"]);
    assert!(dry.contains("deleted (server dry run)"), "{dry}");
    assert_eq!(
        cluster.node("n")["metadata"]["uid"],
        second["metadata"]["uid"]
    );
}
