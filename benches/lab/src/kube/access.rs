//! Who asks, and what they may do: RBAC by the roles and bindings that are stored.

use super::failure::{About, Failure};
use super::request::Target;
use super::resource::spelt;
use super::store::{Key, Scope, Store, Stored};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The user that may do everything.
pub const ADMIN: &str = "kubernetes-admin";

/// Who shows neither a token nor a certificate.
pub(super) const ANONYMOUS: &str = "system:anonymous";

const RBAC: &str = "rbac.authorization.k8s.io";

/// By what users are known.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// Users by their tokens.
    pub(super) tokens: HashMap<String, String>,
    /// Users by their certificates (DER).
    pub(super) certificates: HashMap<Vec<u8>, String>,
}

impl Credentials {
    /// The user who shows this value of the header `Authorization`, or this certificate.
    pub(super) fn user(
        &self,
        header: Option<&str>,
        certificate: Option<&[u8]>,
    ) -> Result<String, Failure> {
        let known = match (certificate, header) {
            (Some(der), _) => self.certificates.get(der),
            (None, Some(header)) => {
                let token = header.strip_prefix("Bearer ").unwrap_or_default();
                self.tokens.get(token.trim())
            }
            (None, None) => return Ok(ANONYMOUS.to_owned()),
        };
        known.cloned().ok_or_else(Failure::unauthorized)
    }

    /// Forget all tokens of a user.
    pub(super) fn revoke(&mut self, user: &str) {
        self.tokens.retain(|_, owner| owner != user);
    }
}

/// The groups that a user is in.
pub(super) fn groups(user: &str) -> Vec<String> {
    let mut groups = vec![match user {
        ANONYMOUS => "system:unauthenticated".to_owned(),
        _ => "system:authenticated".to_owned(),
    }];
    if user == ADMIN {
        groups.push("system:masters".to_owned());
    }
    if user.starts_with("system:node:") {
        groups.push("system:nodes".to_owned());
    }
    if let Some((namespace, _)) = service_account(user) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups
}

/// Namespace and name of the service account that a user is.
pub(super) fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Whether a user may do `verb` to what `target` stands for.
pub(super) fn allows(store: &Store, user: &str, verb: &str, target: &Target) -> bool {
    let asks = |rule: &Value| {
        let names = &rule["resourceNames"];
        has(&rule["verbs"], verb)
            && has(&rule["apiGroups"], &target.group)
            && has_resource(&rule["resources"], target)
            && (names.as_array().is_none_or(Vec::is_empty) || has(names, &target.name))
    };
    user == ADMIN || rules(store, user, &target.namespace).iter().any(asks)
}

/// Whether a user may do `verb` to a path that stands for no objects.
pub(super) fn allows_path(store: &Store, user: &str, verb: &str, path: &str) -> bool {
    let open = ["/healthz", "/livez", "/readyz", "/version"];
    let discovery = ["/api", "/apis", "/openapi"];
    let is_under = |root: &&str| {
        path.strip_prefix(*root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let asks = |rule: &Value| has(&rule["verbs"], verb) && has(&rule["nonResourceURLs"], path);
    user == ADMIN
        || verb == "get" && open.iter().any(is_under)
        || verb == "get" && user != ANONYMOUS && discovery.iter().any(is_under)
        || rules(store, user, "").iter().any(asks)
}

/// Why a user must not do `verb` to what `target` stands for.
pub(super) fn refusal(user: &str, verb: &str, target: &Target) -> Failure {
    let scope = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{user}\" cannot {verb} resource \"{}\" in API group \"{}\" {scope}",
        target.resource(),
        target.group
    );
    let kind = spelt(&target.group, &target.plural);
    let about = About {
        kind: &kind,
        name: &target.name,
    };
    Failure::forbidden(about, &why)
}

/// Why a user must not do `verb` to a path that stands for no objects.
pub(super) fn path_refusal(user: &str, verb: &str, path: &str) -> Failure {
    let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
    Failure::new(403, "Forbidden", message)
}

/// Whether a list of a rule has this, or everything.
fn has(list: &Value, wanted: &str) -> bool {
    let mut list = list.as_array().into_iter().flatten();
    list.any(|item| item == wanted || item == "*")
}

fn has_resource(list: &Value, target: &Target) -> bool {
    let any_of_subresource = format!("*/{}", target.subresource);
    has(list, &target.resource())
        || !target.subresource.is_empty() && has(list, &any_of_subresource)
}

/// The rules of all roles that a user has for the cluster, and for a namespace if there is one.
fn rules(store: &Store, user: &str, namespace: &str) -> Vec<Value> {
    let groups = groups(user);
    let mut found = bound(store, user, &groups, "clusterrolebindings", None);
    if !namespace.is_empty() {
        found.extend(bound(store, user, &groups, "rolebindings", Some(namespace)));
    }
    found
}

fn bound(
    store: &Store,
    user: &str,
    groups: &[String],
    bindings: &str,
    namespace: Option<&str>,
) -> Vec<Value> {
    let scope = Scope {
        kind: spelt(RBAC, bindings),
        namespace: namespace.map(str::to_owned),
    };
    let bindings = store
        .list(&scope, None)
        .map(|list| list.objects)
        .unwrap_or_default();
    let bindings = bindings.iter().map(|binding: &Arc<Stored>| binding.value());
    let ours = bindings.filter(|binding| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| is_subject(subject, user, groups))
    });
    let role = |binding: Value| {
        let reference = &binding["roleRef"];
        let name = reference["name"].as_str()?;
        let key = match reference["kind"].as_str()? {
            "Role" => Key::new(&spelt(RBAC, "roles"), namespace?, name),
            _ => Key::new(&spelt(RBAC, "clusterroles"), "", name),
        };
        Some(store.get(&key)?.value()["rules"].as_array()?.clone())
    };
    ours.filter_map(role).flatten().collect()
}

fn is_subject(subject: &Value, user: &str, groups: &[String]) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => name == user,
        Some("Group") => groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            service_account(user) == Some((namespace, name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::flannel;
    use crate::kube::store::{HISTORY, Write};
    use serde_json::json;

    fn target(path: &str) -> Target {
        Target::parse(path).unwrap()
    }

    fn put(store: &Store, kind: &str, namespace: &str, name: &str, mut value: Value) {
        value["metadata"] = json!({"name": name});
        let key = Key::new(kind, namespace, name);
        store
            .write(&key, |_| Ok::<_, Failure>(Write::Put(value)))
            .unwrap();
    }

    #[test]
    fn flannels_account_may_do_what_its_role_says() {
        let store = Store::new(HISTORY);
        flannel::install(&store);
        let may = |verb, path| allows(&store, flannel::USER, verb, &target(path));
        assert!(may("list", "/api/v1/nodes") && may("watch", "/api/v1/nodes"));
        assert!(may("get", "/api/v1/nodes/n1"));
        assert!(may("patch", "/api/v1/nodes/n1/status"));
        assert!(may("get", "/api/v1/namespaces/kube-flannel/pods/p"));
        assert!(!may("patch", "/api/v1/nodes/n1"));
        assert!(!may("delete", "/api/v1/nodes/n1"));
        assert!(!may("list", "/apis/apps/v1/daemonsets"));
        let refused = refusal(flannel::USER, "patch", &target("/api/v1/nodes/n1"));
        assert_eq!(
            refused.message,
            "nodes \"n1\" is forbidden: User \"system:serviceaccount:kube-flannel:flannel\" cannot \
             patch resource \"nodes\" in API group \"\" at the cluster scope"
        );
        assert_eq!(
            refused.status()["details"],
            json!({"kind": "nodes", "name": "n1"})
        );
        let refused = refusal(
            "u",
            "list",
            &target("/apis/apps/v1/namespaces/x/daemonsets"),
        );
        assert_eq!(
            refused.message,
            "daemonsets.apps is forbidden: User \"u\" cannot list resource \"daemonsets\" in API \
             group \"apps\" in the namespace \"x\""
        );
    }

    #[test]
    fn roles_of_a_namespace_hold_there_alone() {
        let store = Store::new(HISTORY);
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"], "resourceNames": ["one"]}]});
        put(&store, "roles.rbac.authorization.k8s.io", "x", "r", rules);
        let binding = json!({"subjects": [{"kind": "Group", "name": "system:serviceaccounts:y"}], "roleRef": {"kind": "Role", "name": "r"}});
        put(
            &store,
            "rolebindings.rbac.authorization.k8s.io",
            "x",
            "b",
            binding,
        );
        let user = "system:serviceaccount:y:z";
        let may = |path| allows(&store, user, "get", &target(path));
        assert!(may("/api/v1/namespaces/x/configmaps/one"));
        assert!(!may("/api/v1/namespaces/x/configmaps/two"));
        assert!(!may("/api/v1/namespaces/y/configmaps/one"));
    }

    #[test]
    fn who_is_nobody_sees_health_alone() {
        let store = Store::new(HISTORY);
        assert!(allows_path(&store, ANONYMOUS, "get", "/healthz"));
        assert!(!allows_path(&store, ANONYMOUS, "get", "/apis"));
        assert!(allows_path(&store, "u", "get", "/apis/apps/v1"));
        assert!(!allows_path(&store, "u", "get", "/metrics"));
        let known = Credentials::default();
        assert_eq!(known.user(None, None), Ok(ANONYMOUS.to_owned()));
        assert_eq!(known.user(Some("Bearer x"), None).unwrap_err().code, 401);
    }
}
