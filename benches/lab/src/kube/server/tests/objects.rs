//! What clients may make of objects.

use super::*;

#[test]
fn status_and_the_rest_are_changed_in_different_places() {
    let server = start();
    server.put_node(nodes::realistic("n", &["10.244.1.0/24"]));
    let flannel = Client::new(&server, &server.token());
    let patch = json!({
        "metadata": {"annotations": {"flannel.alpha.coreos.com/public-ip": "192.0.2.1"}, "labels": {"l": "1"}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "NetworkUnavailable", "status": "False"}]},
    });
    let answer = flannel.patch("/api/v1/nodes/n/status", STRATEGIC, &patch);
    assert_eq!(answer.code, 200, "{answer:?}");
    let node = server.node("n").unwrap();
    assert_eq!(
        nodes::annotation(&node, "flannel.alpha.coreos.com/public-ip"),
        Some("192.0.2.1")
    );
    assert_eq!(node["metadata"]["labels"]["l"], "1");
    assert_eq!(node["spec"].get("unschedulable"), None);
    assert_eq!(
        nodes::condition(&node, "NetworkUnavailable").unwrap()["status"],
        "False"
    );
    assert_eq!(nodes::condition(&node, "Ready").unwrap()["status"], "True");
    let admin = Client::admin(&server);
    let patch = json!({"spec": {"unschedulable": true}, "status": {"conditions": null}});
    assert_eq!(admin.patch("/api/v1/nodes/n", MERGE, &patch).code, 200);
    let node = server.node("n").unwrap();
    assert_eq!(node["spec"]["unschedulable"], true);
    assert!(nodes::condition(&node, "Ready").is_some());
    let version = server.version();
    assert_eq!(admin.patch("/api/v1/nodes/n", MERGE, &patch).code, 200);
    assert_eq!(
        server.version(),
        version,
        "what changes nothing is no change"
    );
}

#[test]
fn what_is_stale_conflicts() {
    let server = with_nodes(&["n"]);
    let admin = Client::admin(&server);
    let read = admin.get("/api/v1/nodes/n").json();
    server.annotate_node("n", "x", Some("1"));
    let refused = admin.put("/api/v1/nodes/n", &read);
    assert_eq!(refused.code, 409);
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on nodes \"n\": the object has been modified; please apply \
         your changes to the latest version and try again"
    );
    let version = &read["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version, "annotations": {"x": "2"}}});
    assert_eq!(admin.patch("/api/v1/nodes/n", MERGE, &patch).code, 409);
    let mut unconditional = read.clone();
    unconditional["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(admin.put("/api/v1/nodes/n", &unconditional).code, 200);
    assert_eq!(nodes::annotation(&server.node("n").unwrap(), "x"), None);
    server.delete_node("n");
    assert_eq!(admin.put("/api/v1/nodes/n", &read).code, 404);
    server.put_node(json!({"metadata": {"name": "n"}}));
    let of_the_old = json!({"metadata": {"uid": read["metadata"]["uid"]}});
    let refused = admin.patch("/api/v1/nodes/n", MERGE, &of_the_old);
    assert_eq!(refused.code, 409);
    assert!(
        refused
            .message()
            .contains("Precondition failed: UID in precondition")
    );
}

#[test]
fn bodies_that_are_wrong_are_refused_and_nothing_changes() {
    let server = start();
    server.put_node(nodes::realistic("n", &["10.244.1.0/24"]));
    let admin = Client::admin(&server);
    let before = server.version();
    let refused = |patch: Value| {
        let answer = admin.patch("/api/v1/nodes/n/status", MERGE, &patch);
        (answer.code, answer.message())
    };
    for (code, patch, message) in [
        (
            400,
            json!({"metadata": {"annotations": {"a": true}}}),
            "cannot unmarshal bool into Go struct field ObjectMeta.metadata.annotations of type string",
        ),
        (
            400,
            json!({"metadata": {"labels": ["a"]}}),
            "cannot unmarshal array",
        ),
        (
            400,
            json!({"metadata": {"name": "other"}}),
            "does not match the name on the URL (n)",
        ),
        (400, json!({"kind": "Pod"}), "cannot be handled as a Node"),
        (400, json!({"metadata": 1}), "its metadata is no object"),
        (400, json!([1]), "wrong type"),
    ] {
        let (found, text) = refused(patch);
        assert!(found == code && text.contains(message), "{found} {text}");
    }
    let moved = json!({"spec": {"podCIDRs": ["10.9.9.0/24"]}});
    let moved = admin.patch("/api/v1/nodes/n", MERGE, &moved);
    assert_eq!(moved.code, 422);
    assert!(
        moved
            .message()
            .contains("spec.podCIDRs: Forbidden: node updates may not change podCIDR")
    );
    assert_eq!(
        admin
            .patch("/api/v1/nodes/n", "text/plain", &json!({}))
            .code,
        415
    );
    assert_eq!(
        admin.send("POST", NODES, "application/yaml", "a: b").code,
        415
    );
    assert_eq!(admin.send("POST", NODES, "application/json", "{").code, 400);
    assert_eq!(
        admin
            .send(
                "POST",
                NODES,
                "application/json",
                &"x".repeat((3 << 20) + 1)
            )
            .code,
        413
    );
    assert_eq!(admin.post(NODES, &json!({"metadata": {}})).code, 422);
    assert_eq!(
        admin.post(NODES, &json!({"metadata": {"name": "n"}})).code,
        409
    );
    assert_eq!(admin.patch("/api/v1/nodes/m", MERGE, &json!({})).code, 404);
    assert_eq!(
        admin.patch("/api/v1/nodes/n/proxy", MERGE, &json!({})).code,
        404
    );
    assert_eq!(admin.send("DELETE", NODES, "", "").code, 405);
    let versioned = json!({"metadata": {"name": "m", "resourceVersion": "1"}});
    assert_eq!(admin.post(NODES, &versioned).code, 500);
    assert_eq!(server.version(), before);
}

#[test]
fn dry_runs_store_nothing() {
    let server = with_nodes(&["n"]);
    let admin = Client::admin(&server);
    let before = server.version();
    let created = admin.post(
        "/api/v1/nodes?dryRun=All",
        &json!({"metadata": {"name": "m"}}),
    );
    assert_eq!(
        (created.code, created.json()["metadata"]["name"].clone()),
        (201, "m".into())
    );
    let patch = json!({"metadata": {"annotations": {"x": "1"}}});
    let patched = admin
        .patch("/api/v1/nodes/n?dryRun=All", MERGE, &patch)
        .json();
    assert_eq!(nodes::annotation(&patched, "x"), Some("1"));
    assert_eq!(
        admin
            .send("DELETE", "/api/v1/nodes/n?dryRun=All", "", "")
            .code,
        200
    );
    assert_eq!(server.version(), before);
    assert_eq!(server.node_names(), ["n"]);
}

#[test]
fn a_name_that_comes_again_is_another_node() {
    let server = with_nodes(&["n"]);
    let admin = Client::admin(&server);
    let uid = |node: Option<Value>| node.unwrap()["metadata"]["uid"].clone();
    let first = uid(server.node("n"));
    let deleted = admin.send("DELETE", "/api/v1/nodes/n", "", "").json();
    assert_eq!(
        (&deleted["status"], &deleted["details"]["uid"]),
        (&"Success".into(), &first)
    );
    assert_eq!(
        admin.get("/api/v1/nodes/n").message(),
        "nodes \"n\" not found"
    );
    assert_eq!(
        admin.post(NODES, &json!({"metadata": {"name": "n"}})).code,
        201
    );
    assert_ne!(uid(server.node("n")), first);
}

#[test]
fn finalizers_hold_what_is_deleted() {
    let server = start();
    server.put_node(json!({"metadata": {"name": "n", "finalizers": ["lab/held"]}}));
    let admin = Client::admin(&server);
    let held = admin.send("DELETE", "/api/v1/nodes/n", "", "").json();
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(admin.patch("/api/v1/nodes/n", MERGE, &free).code, 200);
    assert_eq!(server.node("n"), None);
}

#[test]
fn namespaces_have_to_be_there_and_take_all_with_them() {
    let server = start();
    let admin = Client::admin(&server);
    let config = json!({"metadata": {"name": "c"}, "data": {"a": "1"}});
    let path = "/api/v1/namespaces/x/configmaps";
    assert_eq!(
        admin.post(path, &config).message(),
        "namespaces \"x\" not found"
    );
    assert_eq!(
        admin
            .post("/api/v1/namespaces", &json!({"metadata": {"name": "x"}}))
            .code,
        201
    );
    assert_eq!(admin.post(path, &config).code, 201);
    assert_eq!(
        admin
            .post("/api/v1/namespaces/default/configmaps", &config)
            .code,
        201
    );
    assert_eq!(admin.get(path).json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        admin.send("DELETE", "/api/v1/namespaces/x", "", "").code,
        200
    );
    assert_eq!(server.object("configmaps", "x", "c"), None);
    assert!(server.object("configmaps", "default", "c").is_some());
}
