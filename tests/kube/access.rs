//! Roles, and how refusals read.

use crate::cluster::Cluster;
use serde_json::json;

#[test]
fn a_role_gives_what_it_says_and_no_more() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let (role, node) = (cluster.name("role"), cluster.name("n"));
    let user = format!("--as=system:serviceaccount:default:{role}");
    cluster.create_node("n");
    let patch = [
        "patch",
        "node",
        &node,
        "--type=merge",
        "-p",
        r#"{"metadata":{"annotations":{"a":"1"}}}"#,
        &user,
    ];
    let refused = cluster.bad(&patch);
    let what = format!(
        "nodes \"{node}\" is forbidden: User \"system:serviceaccount:default:{role}\" cannot get resource \
         \"nodes\" in API group \"\" at the cluster scope"
    );
    assert!(refused.contains(&what), "{refused}");

    let rules = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["get", "patch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": role},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
         "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": "default"}]},
    ]})
    .to_string();
    cluster.good_with(&["apply", "-f", "-"], Some(&rules));
    let may = |words: &[&str]| cluster.says_yes(&[&["auth", "can-i", &user], words].concat());
    // Real servers take a moment to learn of a binding.
    assert!(weft_lab::wait_until(
        std::time::Duration::from_secs(60),
        || may(&["list", "nodes"])
    ));
    assert!(may(&["patch", "nodes", "--subresource=status"]));
    assert!(!may(&["patch", "nodes"]));
    assert!(!may(&["list", "secrets", "-n", "default"]));
    let refused = cluster.bad(&patch);
    assert!(
        refused.contains("cannot patch resource \"nodes\" in API group \"\" at the cluster scope"),
        "{refused}"
    );
    if cluster.knows("patch", "--subresource") {
        cluster.good(&[&patch[..], &["--subresource=status"]].concat());
        assert_eq!(cluster.node("n")["metadata"]["annotations"]["a"], "1");
    }
    cluster.good_with(&["delete", "-f", "-"], Some(&rules));
}
