//! What there is to ask for: versions, groups, kinds.

use super::resource::Resource;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The release that the server says it is.
pub(super) const RELEASE: &str = "v1.34.0";

const VERBS: [&str; 7] = [
    "create", "delete", "get", "list", "patch", "update", "watch",
];

/// The answer to a path of discovery, if it is one.
pub(super) fn answer(path: &str, address: &str, all: &[Resource]) -> Option<Value> {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).collect();
    match parts.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = groups(all)
                .into_iter()
                .map(|(name, versions)| group(name, &versions))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let versions = groups(all).remove(*name)?;
            let mut group = group(name, &versions);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["api", version] => resources("", version, all),
        ["apis", group, version] => resources(group, version, all),
        _ => None,
    }
}

fn version() -> Value {
    let (major, minor) = RELEASE[1..].split_once('.').unwrap_or_default();
    let minor = minor.split('.').next();
    json!({
        "major": major, "minor": minor, "gitVersion": RELEASE, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-08-27T00:00:00Z", "goVersion": "go1.24", "compiler": "gc", "platform": "linux/amd64",
    })
}

/// Groups with their versions, without the core group.
fn groups(all: &[Resource]) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> =
        BTreeMap::from([("authorization.k8s.io", vec!["v1"])]);
    for resource in all.iter().filter(|resource| !resource.group.is_empty()) {
        let versions = groups.entry(&resource.group).or_default();
        if !versions.contains(&resource.version.as_str()) {
            versions.push(&resource.version);
        }
    }
    groups
}

fn group(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

fn resources(group: &str, version: &str, all: &[Resource]) -> Option<Value> {
    let of_it = all
        .iter()
        .filter(|resource| resource.group == group && resource.version == version);
    let mut resources: Vec<Value> = of_it.flat_map(described).collect();
    if group == "authorization.k8s.io" {
        resources.push(json!({
            "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview",
            "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"],
        }));
    }
    let group_version = match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    };
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    });
    (!resources.is_empty()).then_some(list)
}

fn described(resource: &Resource) -> Vec<Value> {
    let whole = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": VERBS, "shortNames": resource.short_names,
    });
    let status = json!({
        "name": format!("{}/status", resource.plural), "singularName": "", "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": ["get", "patch", "update"],
    });
    match resource.has_status {
        true => vec![whole, status],
        false => vec![whole],
    }
}
