//! The kinds of objects that are there from the beginning, and those that definitions add.

use serde_json::Value;

/// A kind of objects, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    pub(super) short_names: Vec<String>,
    /// Whether it has the subresource `status`.
    pub(super) has_status: bool,
    /// Whether it came by a CustomResourceDefinition.
    pub(super) custom: bool,
}

/// Group and version, plural, kind, and what else is known: N namespaced, S status.
const BUILT_IN: &[(&str, &str, &str, &str, &str)] = &[
    ("v1", "namespaces", "Namespace", "S", "ns"),
    ("v1", "nodes", "Node", "S", "no"),
    ("v1", "pods", "Pod", "NS", "po"),
    ("v1", "services", "Service", "NS", "svc"),
    ("v1", "serviceaccounts", "ServiceAccount", "N", "sa"),
    ("v1", "configmaps", "ConfigMap", "N", "cm"),
    ("v1", "secrets", "Secret", "N", ""),
    ("v1", "events", "Event", "N", "ev"),
    ("apps/v1", "daemonsets", "DaemonSet", "NS", "ds"),
    ("apps/v1", "deployments", "Deployment", "NS", "deploy"),
    ("coordination.k8s.io/v1", "leases", "Lease", "N", ""),
    (
        "networking.k8s.io/v1",
        "networkpolicies",
        "NetworkPolicy",
        "N",
        "netpol",
    ),
    (
        "policy/v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "NS",
        "pdb",
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "clusterroles",
        "ClusterRole",
        "",
        "",
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "",
        "",
    ),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", "N", ""),
    (
        "rbac.authorization.k8s.io/v1",
        "rolebindings",
        "RoleBinding",
        "N",
        "",
    ),
    (
        "scheduling.k8s.io/v1",
        "priorityclasses",
        "PriorityClass",
        "",
        "pc",
    ),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "S",
        "crd",
    ),
];

/// The kind of definitions, as keys and messages spell it.
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Resource {
    pub(super) fn built_in() -> Vec<Resource> {
        let row = |&(version, plural, kind, marks, short): &_| {
            Resource::builtin_row(version, plural, kind, marks, short)
        };
        BUILT_IN.iter().map(row).collect()
    }

    fn builtin_row(at: &str, plural: &str, kind: &str, marks: &str, short: &str) -> Resource {
        let (group, version) = at.split_once('/').unwrap_or(("", at));
        let short_names = short.split(',').filter(|name| !name.is_empty());
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            kind: kind.to_owned(),
            namespaced: marks.contains('N'),
            short_names: short_names.map(str::to_owned).collect(),
            has_status: marks.contains('S'),
            custom: false,
        }
    }

    /// Those that a CustomResourceDefinition declares: one for each version that is served.
    pub(super) fn declared(definition: &Value) -> Vec<Resource> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = &spec["names"];
        let short_names = names["shortNames"].as_array().into_iter().flatten();
        let short_names: Vec<String> = short_names.map(text).collect();
        let singular = match text(&names["singular"]) {
            empty if empty.is_empty() => text(&names["kind"]).to_lowercase(),
            singular => singular,
        };
        let versions = spec["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] != Value::Bool(false));
        let resource = |version: &Value| Resource {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            plural: text(&names["plural"]),
            singular: singular.clone(),
            kind: text(&names["kind"]),
            namespaced: spec["scope"] == "Namespaced",
            short_names: short_names.clone(),
            has_status: version["subresources"]["status"].is_object(),
            custom: true,
        };
        served.map(resource).collect()
    }

    /// `v1`, `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// As keys and messages spell it: `nodes`, `daemonsets.apps`.
    pub(super) fn spelt(&self) -> String {
        spelt(&self.group, &self.plural)
    }

    /// As messages about broken rules spell it: `Node`, `DaemonSet.apps`.
    pub(super) fn kind_spelt(&self) -> String {
        spelt(&self.group, &self.kind)
    }
}

/// `plural.group`, or the plural alone in the core group.
pub(super) fn spelt(group: &str, plural: &str) -> String {
    match group {
        "" => plural.to_owned(),
        _ => format!("{plural}.{group}"),
    }
}

/// The fields, besides name and namespace, by which objects of a kind can be selected.
pub(super) fn selectable_fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "nodes" => &["spec.unschedulable"],
        "pods" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "events" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "namespaces" => &["status.phase"],
        "secrets" => &["type"],
        _ => &[],
    }
}
