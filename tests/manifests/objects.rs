//! Objects of manifests.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Where the manifests are.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes"))
}

/// The objects of a manifest.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let values = documents.map(|one| serde::Deserialize::deserialize(one).unwrap());
    values.collect()
}

/// Those of `weft.yml`.
pub(crate) fn of_base() -> Vec<Value> {
    parse(&fs::read_to_string(folder().join("base/weft.yml")).unwrap())
}

/// The one object of this kind.
pub(crate) fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there are several {kind}");
    object
}

/// The pod that a DaemonSet runs.
pub(crate) fn pod(objects: &[Value]) -> &Value {
    &only(objects, "DaemonSet")["spec"]["template"]["spec"]
}

/// All containers of a pod, the agent's last.
pub(crate) fn containers(pod: &Value) -> Vec<&Value> {
    let list = |key: &str| pod[key].as_array().unwrap().iter();
    list("initContainers").chain(list("containers")).collect()
}

/// The agent's container.
pub(crate) fn agent(pod: &Value) -> &Value {
    let found = &pod["containers"][0];
    assert_eq!(found["name"], "kube-flannel");
    found
}

/// A list of texts.
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    let list = list
        .as_array()
        .unwrap_or_else(|| panic!("{list} is no list"));
    list.iter().map(|text| text.as_str().unwrap()).collect()
}
