//! Strategic merge patches: as merge patches, but items of some lists are found by a key of
//! theirs, and directives (`$patch` and others) say what else is to be done.

use crate::kube::failure::Failure;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;
type Outcome = Result<(), String>;

/// How the items of a list are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListMerge {
    /// Objects that are the same if this field is.
    By(&'static str),
    /// Plain values, as a set.
    Set,
}

/// Lists that are merged, by the end of their path. All others are replaced. As the tags
/// `patchStrategy` and `patchMergeKey` of the types in `k8s.io/api` say.
const MERGED: &[(&[&str], ListMerge)] = &[
    (&["status", "conditions"], ListMerge::By("type")),
    (&["status", "addresses"], ListMerge::By("type")),
    (&["spec", "podCIDRs"], ListMerge::Set),
    (&["spec", "ports"], ListMerge::By("port")),
    (&["metadata", "finalizers"], ListMerge::Set),
    (&["metadata", "ownerReferences"], ListMerge::By("uid")),
    (&["spec", "containers"], ListMerge::By("name")),
    (&["spec", "initContainers"], ListMerge::By("name")),
    (&["spec", "ephemeralContainers"], ListMerge::By("name")),
    (&["spec", "volumes"], ListMerge::By("name")),
    (&["spec", "imagePullSecrets"], ListMerge::By("name")),
    (&["spec", "hostAliases"], ListMerge::By("ip")),
    (&["spec", "resourceClaims"], ListMerge::By("name")),
    (
        &["spec", "topologySpreadConstraints"],
        ListMerge::By("topologyKey"),
    ),
    (&["containers", "ports"], ListMerge::By("containerPort")),
    (&["containers", "env"], ListMerge::By("name")),
    (&["containers", "volumeMounts"], ListMerge::By("mountPath")),
    (
        &["containers", "volumeDevices"],
        ListMerge::By("devicePath"),
    ),
    (&["initContainers", "ports"], ListMerge::By("containerPort")),
    (&["initContainers", "env"], ListMerge::By("name")),
    (
        &["initContainers", "volumeMounts"],
        ListMerge::By("mountPath"),
    ),
    (
        &["initContainers", "volumeDevices"],
        ListMerge::By("devicePath"),
    ),
    (&["status", "podIPs"], ListMerge::By("ip")),
    (&["secrets"], ListMerge::By("name")),
    (&["imagePullSecrets"], ListMerge::By("name")),
];

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";

/// Apply a patch.
pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let merged = match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => merge(object, patch, &mut Vec::new()),
        _ => Err("both have to be objects".to_owned()),
    };
    merged.map_err(|why| Failure::bad_request(format!("cannot apply the patch: {why}")))
}

fn list_merge(path: &[&str]) -> Option<ListMerge> {
    let found = MERGED
        .iter()
        .find(|(end, _)| path.ends_with(end) && (end.len() > 1 || path.len() == 1));
    found.map(|(_, merge)| *merge)
}

/// Merge into an object's fields at `path`.
fn merge<'a>(object: &mut Fields, patch: &'a Fields, path: &mut Vec<&'a str>) -> Outcome {
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("replace") => {
            *object = plain_fields(patch);
            return Ok(());
        }
        Some("delete") => {
            object.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown {PATCH} {other}")),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = retained
            .as_array()
            .ok_or(format!("{RETAIN_KEYS} is no list"))?;
        object.retain(|key, _| retained.iter().any(|kept| kept == key));
    }
    delete_values(object, patch);
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        path.push(key);
        field(object, key, value, path)?;
        path.pop();
    }
    order_lists(object, patch, path);
    Ok(())
}

fn field<'a>(object: &mut Fields, key: &str, value: &'a Value, path: &mut Vec<&'a str>) -> Outcome {
    match (object.get_mut(key), value) {
        (_, Value::Null) => _ = object.remove(key),
        (Some(Value::Object(old)), Value::Object(new)) => merge(old, new, path)?,
        (Some(Value::Array(old)), Value::Array(new)) => items(old, new, path)?,
        (None, Value::Array(new)) => {
            let mut items_of_it = Vec::new();
            items(&mut items_of_it, new, path)?;
            object.insert(key.to_owned(), items_of_it.into());
        }
        _ => _ = object.insert(key.to_owned(), plain(value)),
    }
    Ok(())
}

fn items<'a>(old: &mut Vec<Value>, new: &'a [Value], path: &mut Vec<&'a str>) -> Outcome {
    match list_merge(path) {
        None => *old = new.iter().map(plain).collect(),
        Some(ListMerge::Set) => {
            for value in new.iter().filter(|value| !value.is_object()) {
                if !old.contains(value) {
                    old.push(value.clone());
                }
            }
        }
        Some(ListMerge::By(key)) => {
            if new.iter().any(|item| item[PATCH] == "replace") {
                old.clear();
            }
            for item in new.iter().filter(|item| item[PATCH] != "replace") {
                merge_item(old, item, key, path)?;
            }
        }
    }
    Ok(())
}

fn merge_item<'a>(
    old: &mut Vec<Value>,
    item: &'a Value,
    key: &str,
    path: &mut Vec<&'a str>,
) -> Outcome {
    let fields = item
        .as_object()
        .ok_or_else(|| format!("{item} is no object"))?;
    let id = fields
        .get(key)
        .ok_or_else(|| format!("map: {item} does not contain declared merge key: {key}"))?;
    if item[PATCH] == "delete" {
        old.retain(|other| other.get(key) != Some(id));
        return Ok(());
    }
    match old.iter_mut().find(|other| other.get(key) == Some(id)) {
        Some(Value::Object(other)) => merge(other, fields, path),
        _ => {
            let mut fresh = Fields::new();
            merge(&mut fresh, fields, path)?;
            old.push(fresh.into());
            Ok(())
        }
    }
}

/// Take values out of lists of plain values, as `$deleteFromPrimitiveList/<field>` says.
fn delete_values(object: &mut Fields, patch: &Fields) {
    for (directive, values) in patch {
        let list = directive.strip_prefix(DELETE_VALUES);
        let list = list.and_then(|key| object.get_mut(key)?.as_array_mut());
        if let (Some(list), Some(values)) = (list, values.as_array()) {
            list.retain(|value| !values.contains(value));
        }
    }
}

/// Put lists in the order that `$setElementOrder/<field>` gives. What it does not name stays
/// before whatever it was before.
fn order_lists(object: &mut Fields, patch: &Fields, path: &[&str]) {
    for (directive, order) in patch {
        let Some((key, order)) = directive.strip_prefix(SET_ORDER).zip(order.as_array()) else {
            continue;
        };
        let by = match list_merge(&[path, &[key]].concat()) {
            Some(ListMerge::By(by)) => Some(by),
            _ => None,
        };
        let id = |value: &Value| by.map_or_else(|| value.clone(), |by| value[by].clone());
        let order: Vec<Value> = order.iter().map(id).collect();
        if let Some(Value::Array(list)) = object.get_mut(key) {
            in_order(list, |item| {
                order.iter().position(|wanted| *wanted == id(item))
            });
        }
    }
}

fn in_order(list: &mut Vec<Value>, rank: impl Fn(&Value) -> Option<usize>) {
    let old: Vec<(Option<usize>, Value)> = list.drain(..).map(|item| (rank(&item), item)).collect();
    let mut ranked: Vec<(usize, usize)> = Vec::new();
    for (place, (rank, _)) in old.iter().enumerate() {
        ranked.extend(rank.map(|rank| (rank, place)));
    }
    ranked.sort_unstable();
    let mut others = old
        .iter()
        .enumerate()
        .filter(|(_, (rank, _))| rank.is_none())
        .peekable();
    for (_, place) in ranked {
        while let Some((_, (_, item))) = others.next_if(|(other, _)| *other < place) {
            list.push(item.clone());
        }
        list.push(old[place].1.clone());
    }
    list.extend(others.map(|(_, (_, item))| item.clone()));
}

/// A value of a patch without its directives, and without fields that are to go.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => plain_fields(fields).into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        _ => value.clone(),
    }
}

fn plain_fields(fields: &Fields) -> Fields {
    let kept = fields
        .iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    kept.map(|(key, value)| (key.clone(), plain(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(object: Value, patch: &Value) -> Value {
        let mut object = object;
        apply(&mut object, patch).unwrap();
        object
    }

    #[test]
    fn conditions_merge_by_their_type() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "NetworkUnavailable", "status": "True"},
        ]}});
        let patch = json!({"status": {"conditions": [
            {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
            {"type": "Other", "status": "True"},
        ]}});
        let expected = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
            {"type": "Other", "status": "True"},
        ]}});
        assert_eq!(patched(node, &patch), expected);
    }

    #[test]
    fn a_list_that_is_absent_is_made() {
        let patch =
            json!({"status": {"conditions": [{"type": "A"}, {"$patch": "delete", "type": "B"}]}});
        let expected = json!({"status": {"conditions": [{"type": "A"}]}});
        assert_eq!(patched(json!({"status": {}}), &patch), expected);
        assert_eq!(
            patched(json!({}), &json!({"a": {"b": null, "c": 1}})),
            json!({"a": {"c": 1}})
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        let node = || {
            json!({
                "metadata": {"annotations": {"a": "1"}, "finalizers": ["x", "y"]},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}]},
            })
        };
        let deleted = patched(
            node(),
            &json!({"status": {"addresses": [{"$patch": "delete", "type": "Hostname"}]}}),
        );
        assert_eq!(deleted["status"]["addresses"].as_array().unwrap().len(), 1);
        let replaced = patched(
            node(),
            &json!({"status": {"addresses": [{"$patch": "replace"}, {"type": "Hostname", "address": "n2"}]}}),
        );
        assert_eq!(
            replaced["status"]["addresses"],
            json!([{"type": "Hostname", "address": "n2"}])
        );
        let replaced = patched(
            node(),
            &json!({"metadata": {"annotations": {"$patch": "replace", "b": "2"}}}),
        );
        assert_eq!(replaced["metadata"]["annotations"], json!({"b": "2"}));
        let emptied = patched(
            node(),
            &json!({"metadata": {"annotations": {"$patch": "delete"}}}),
        );
        assert_eq!(emptied["metadata"]["annotations"], json!({}));
        let fewer = patched(
            node(),
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"]}}),
        );
        assert_eq!(fewer["metadata"]["finalizers"], json!(["y", "z"]));
    }

    #[test]
    fn what_kubectl_apply_sends_is_understood() {
        let set = json!({"spec": {"template": {"spec": {
            "containers": [
                {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]},
                {"name": "b", "image": "b:1"},
            ],
            "volumes": [{"name": "run", "hostPath": {"path": "/run"}}],
            "tolerations": [{"operator": "Exists"}],
        }}}});
        let patch = json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [
                {"name": "a", "$setElementOrder/env": [{"name": "Y"}, {"name": "X"}], "env": [{"name": "Y", "value": "2"}]},
                {"name": "c", "image": "c:1"},
                {"$patch": "delete", "name": "b"},
            ],
            "volumes": [{"$retainKeys": ["name", "emptyDir"], "name": "run", "emptyDir": {}, "hostPath": null}],
            "tolerations": [{"key": "k"}],
        }}}});
        let expected = json!({
            "containers": [
                {"name": "c", "image": "c:1"},
                {"name": "a", "image": "a:1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            ],
            "volumes": [{"name": "run", "emptyDir": {}}],
            "tolerations": [{"key": "k"}],
        });
        assert_eq!(patched(set, &patch)["spec"]["template"]["spec"], expected);
    }

    #[test]
    fn others_stay_before_what_they_were_before() {
        let mut list = ["a", "x", "b", "y"].map(Value::from).to_vec();
        in_order(&mut list, |item| {
            ["b", "a"].iter().position(|wanted| item == wanted)
        });
        assert_eq!(list, ["x", "b", "a", "y"]);
    }

    #[test]
    fn what_has_no_key_is_refused() {
        for patch in [
            json!({"status": {"conditions": [{"status": "True"}]}}),
            json!({"status": {"conditions": ["Ready"]}}),
            json!({"status": {"$patch": "spin"}}),
            json!({"status": {"$retainKeys": 1}}),
        ] {
            let mut node = json!({"status": {"conditions": []}});
            assert_eq!(apply(&mut node, &patch).unwrap_err().code, 400, "{patch}");
        }
    }
}
