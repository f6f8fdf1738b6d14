//! Tokens, certificates, roles.

use super::*;

#[test]
fn a_token_is_worth_nothing_after_a_rotation() {
    let server = with_nodes(&["n"]);
    let old = Client::new(&server, &server.token());
    assert_eq!(old.get(NODES).code, 200);
    let token = server.rotate_token();
    let refused = old.get(NODES);
    assert_eq!(
        (refused.code, refused.message()),
        (401, "Unauthorized".into())
    );
    assert_eq!(refused.json()["reason"], "Unauthorized");
    assert_eq!(Client::new(&server, &token).get(NODES).code, 200);
    let dir = tempfile::tempdir().unwrap();
    server.write_service_account(dir.path()).unwrap();
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(
        (read("token"), read("namespace")),
        (token, "kube-flannel".to_owned())
    );
    assert!(read("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn roles_decide_and_refusals_read_as_real_ones() {
    let server = with_nodes(&["n1"]);
    let flannel = Client::new(&server, &server.token());
    let patch = json!({"metadata": {"annotations": {"a": "1"}}});
    assert_eq!(
        flannel.patch("/api/v1/nodes/n1/status", MERGE, &patch).code,
        200
    );
    assert_eq!(flannel.patch("/api/v1/nodes/n1", MERGE, &patch).code, 403);
    server.forbid("patch", "nodes/status");
    let refused = flannel.patch("/api/v1/nodes/n1/status", MERGE, &patch);
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "nodes \"n1\" is forbidden: User \"system:serviceaccount:kube-flannel:flannel\" cannot \
         patch resource \"nodes/status\" in API group \"\" at the cluster scope"
    );
    server.permit("patch", "nodes/status");
    assert_eq!(
        flannel.patch("/api/v1/nodes/n1/status", MERGE, &patch).code,
        200
    );
    let nobody = Client::nobody(&server).get(NODES);
    assert_eq!(
        nobody.message(),
        "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \
         \"\" at the cluster scope"
    );
    server.delete("clusterroles.rbac.authorization.k8s.io", "", "flannel");
    assert_eq!(flannel.get(NODES).code, 403, "roles are what is stored");
}

#[test]
fn administrators_act_as_others() {
    let server = with_nodes(&["n"]);
    let as_other = |client: Client| {
        client
            .with("Impersonate-User: system:serviceaccount:a:b")
            .get(NODES)
    };
    let refused = as_other(Client::admin(&server)).message();
    assert!(
        refused.contains("User \"system:serviceaccount:a:b\" cannot list"),
        "{refused}"
    );
    let refused = as_other(Client::new(&server, &server.token())).message();
    assert!(
        refused.contains("cannot impersonate resource \"users\""),
        "{refused}"
    );
}

#[test]
fn what_was_asked_is_counted_and_written_down() {
    let server = with_nodes(&["n"]);
    let flannel = Client::new(&server, &server.token());
    let patch = json!({"metadata": {"annotations": {"a": "1"}}});
    flannel.patch("/api/v1/nodes/n/status", STRATEGIC, &patch);
    flannel.patch("/api/v1/nodes/m/status", STRATEGIC, &patch);
    flannel.get("/api/v1/nodes?limit=500");
    let counts = |verb| server.requests(verb, "nodes");
    assert_eq!(
        (
            server.requests("patch", "nodes/status"),
            counts("list"),
            counts("watch")
        ),
        (2, 1, 0)
    );
    let last = server.asked();
    let codes: Vec<u16> = last.iter().map(|asked| asked.code).collect();
    assert_eq!(codes, [200, 404, 200]);
    assert_eq!(
        (last[0].user.as_str(), last[0].content_type.as_str()),
        (USER, STRATEGIC)
    );
    assert_eq!(last[2].uri, "/api/v1/nodes?limit=500");
}
