//! Manifests, applied.

use crate::cluster::Cluster;
use serde_json::{Value, json};

/// What a manifest of flannel has, in a namespace; no node is selected.
fn manifest(namespace: &str, image: &str) -> String {
    let labels = json!({"app": "flannel"});
    let metadata = |name: &str| json!({"name": name, "namespace": namespace});
    let items = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("flannel")},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("kube-flannel-cfg"),
         "data": {"net-conf.json": r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata("kube-flannel-ds"), "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"weft-test": "none"},
                "containers": [{"name": "kube-flannel", "image": image,
                    "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "volumeMounts": [{"name": "run", "mountPath": "/run/flannel"}]}],
                "volumes": [{"name": "run", "hostPath": {"path": "/run/flannel"}}],
            }},
        }},
    ]});
    items.to_string()
}

const DRY: [&str; 4] = ["apply", "--dry-run=server", "-f", "-"];

#[test]
fn a_manifest_is_tried_applied_changed_and_deleted() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let namespace = cluster.name("ns");
    let first = manifest(&namespace, "example.org/flannel:1");
    let missing = cluster.bad_with(&DRY, Some(&first));
    assert!(
        missing.contains(&format!("namespaces \"{namespace}\" not found")),
        "{missing}"
    );
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    cluster.good_with(&["apply", "-f", "-"], Some(&made.to_string()));

    let tried = cluster.good_with(&DRY, Some(&first));
    for line in [
        "serviceaccount/flannel created (server dry run)",
        "daemonset.apps/kube-flannel-ds created (server dry run)",
    ] {
        assert!(tried.contains(line), "{tried}");
    }
    let absent = cluster.bad(&["get", "ds", "-n", &namespace, "kube-flannel-ds"]);
    assert!(absent.contains("(NotFound)"), "{absent}");

    cluster.good_with(&["apply", "-f", "-"], Some(&first));
    let again = cluster.good_with(&["apply", "-f", "-"], Some(&first));
    assert!(
        again.contains("daemonset.apps/kube-flannel-ds unchanged"),
        "{again}"
    );
    let second = manifest(&namespace, "example.org/flannel:2");
    let changed = cluster.good_with(&["apply", "-f", "-"], Some(&second));
    assert!(
        changed.contains("daemonset.apps/kube-flannel-ds configured"),
        "{changed}"
    );
    let set = cluster.object(&["ds", "-n", &namespace, "kube-flannel-ds"]);
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "example.org/flannel:2");
    assert_eq!(container["env"][0]["name"], "POD_NAME");
    assert_eq!(set["metadata"]["generation"], 2);
    let described = cluster.good(&["describe", "ds", "-n", &namespace, "kube-flannel-ds"]);
    assert!(described.contains("example.org/flannel:2"), "{described}");

    cluster.good_with(&["delete", "-f", "-"], Some(&second));
    cluster.good(&["delete", "namespace", &namespace]);
    let absent = cluster.bad(&["get", "namespace", &namespace]);
    assert!(absent.contains("(NotFound)"), "{absent}");
}

#[test]
fn a_kind_is_there_once_it_is_defined() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    // A group of the test's own: the real PodMonitor may be in use.
    let group = cluster.group();
    let definition: Value = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("podmonitors.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "podmonitors", "singular": "podmonitor", "kind": "PodMonitor", "listKind": "PodMonitorList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    let monitor = json!({
        "apiVersion": format!("{group}/v1"), "kind": "PodMonitor",
        "metadata": {"name": "weft", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "flannel"}}, "podMetricsEndpoints": [{"port": "metrics"}]},
    });
    let (definition, monitor) = (definition.to_string(), monitor.to_string());
    let unknown = cluster.bad_with(&["apply", "-f", "-"], Some(&monitor));
    assert!(
        unknown.contains("no matches for kind \"PodMonitor\""),
        "{unknown}"
    );
    cluster.good_with(&["apply", "-f", "-"], Some(&definition));
    let named = format!("crd/podmonitors.{group}");
    cluster.good(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        &named,
    ]);
    cluster.good_with(&DRY, Some(&monitor));
    cluster.good_with(&["apply", "-f", "-"], Some(&monitor));
    let plural = format!("podmonitors.{group}");
    let found = cluster.object(&[&plural, "-n", "default", "weft"]);
    assert_eq!(found["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
    let patch = r#"{"spec":{"podMetricsEndpoints":[{"port":"other"}]}}"#;
    cluster.good(&[
        "patch",
        &plural,
        "-n",
        "default",
        "weft",
        "--type=merge",
        "-p",
        patch,
    ]);
    let refused = cluster.bad(&[
        "patch",
        &plural,
        "-n",
        "default",
        "weft",
        "--type=strategic",
        "-p",
        patch,
    ]);
    assert!(
        refused.contains("(UnsupportedMediaType)") || refused.contains("not supported"),
        "{refused}"
    );
    cluster.good_with(&["delete", "-f", "-"], Some(&monitor));
    cluster.good_with(&["delete", "-f", "-"], Some(&definition));
}
