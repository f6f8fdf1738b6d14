//! What flannel's manifest gives its agents on a cluster: a namespace, a service account, and a
//! role that is bound to it.

use super::store::{Key, Store, Write};
use super::strategy;
use serde_json::{Value, json};
use std::convert::Infallible;

/// The user that agents are by their service account's token.
pub const USER: &str = "system:serviceaccount:kube-flannel:flannel";

/// Namespace and name of the service account, and name of the role.
const NAMESPACE: &str = "kube-flannel";
const NAME: &str = "flannel";

/// Store all of it. What is there already stays.
pub(super) fn install(store: &Store) {
    let rbac = |plural: &str| format!("{plural}.rbac.authorization.k8s.io");
    let role = json!({"metadata": {"name": NAME}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]});
    let binding = json!({"metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    });
    let namespace = json!({"metadata": {"name": NAMESPACE}, "status": {"phase": "Active"}});
    let account = json!({"metadata": {"name": NAME, "namespace": NAMESPACE}});
    put(store, Key::new("namespaces", "", NAMESPACE), namespace);
    put(store, Key::new("serviceaccounts", NAMESPACE, NAME), account);
    put(store, Key::new(&rbac("clusterroles"), "", NAME), role);
    put(
        store,
        Key::new(&rbac("clusterrolebindings"), "", NAME),
        binding,
    );
}

fn put(store: &Store, key: Key, object: Value) {
    let mut object = object;
    object["metadata"]["uid"] = strategy::uid().into();
    object["metadata"]["creationTimestamp"] = strategy::now().into();
    let put = |there: Option<&Value>| match there {
        Some(_) => Ok::<_, Infallible>(Write::Keep),
        None => Ok(Write::Put(object)),
    };
    let Ok(_) = store.write(&key, put);
}
