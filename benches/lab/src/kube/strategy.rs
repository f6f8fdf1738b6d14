//! What the server itself has to say about objects that clients write.

use super::failure::{About, Failure};
use super::request::Target;
use super::resource::Resource;
use serde_json::{Map, Value, json};
use std::fs;

/// Parts of the metadata that no client changes.
const KEPT: [&str; 5] = [
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "name",
    "namespace",
];

/// Kinds whose objects say how often their `spec` has changed.
fn has_generation(resource: &Resource) -> bool {
    resource.custom || resource.group == "apps"
}

/// Refuse an object that a request is not for, or that could not be read as one of its kind.
pub(super) fn check(resource: &Resource, target: &Target, object: &Value) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, version) = (text(&object["kind"]), text(&object["apiVersion"]));
    let expected = resource.api_version();
    if !version.is_empty() && version != expected {
        let why = format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        );
        return Err(Failure::bad_request(why));
    }
    if !kind.is_empty() && kind != resource.kind {
        let why = format!(
            "{kind} in version {version:?} cannot be handled as a {}",
            resource.kind
        );
        return Err(Failure::bad_request(why));
    }
    let metadata = &object["metadata"];
    if !object.is_object() || !(metadata.is_object() || metadata.is_null()) {
        let why = "the object provided is unrecognized: it or its metadata is no object";
        return Err(Failure::bad_request(why));
    }
    let (name, namespace) = (text(&metadata["name"]), text(&metadata["namespace"]));
    if !target.name.is_empty() && name != target.name {
        let why = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        );
        return Err(Failure::bad_request(why));
    }
    if !namespace.is_empty() && namespace != target.namespace {
        let why =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(why));
    }
    for field in ["annotations", "labels"] {
        check_texts(field, &metadata[field])?;
    }
    Ok(())
}

fn check_texts(field: &str, texts: &Value) -> Result<(), Failure> {
    let wrong = |found: &str| {
        let why = format!(
            "json: cannot unmarshal {found} into Go struct field ObjectMeta.metadata.{field} of type string"
        );
        Failure::bad_request(why)
    };
    match texts {
        Value::Null => Ok(()),
        Value::Object(fields) => match fields.values().find(|value| !value.is_string()) {
            Some(Value::Bool(_)) => Err(wrong("bool")),
            Some(Value::Number(_)) => Err(wrong("number")),
            Some(_) => Err(wrong("object")),
            None => Ok(()),
        },
        _ => Err(wrong("array")),
    }
}

/// An object as it is stored first.
pub(super) fn for_create(
    resource: &Resource,
    target: &Target,
    object: Value,
) -> Result<Value, Failure> {
    let mut object = object;
    if !object["metadata"].is_object() {
        object["metadata"] = Map::new().into();
    }
    let metadata = &mut object["metadata"];
    if !metadata["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .is_empty()
    {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Failure::new(500, "", why));
    }
    let prefix = metadata["generateName"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let unnamed = metadata["name"].as_str().unwrap_or_default().is_empty();
    let uid = uid();
    if unnamed && !prefix.is_empty() {
        metadata["name"] = format!("{prefix}{}", &uid[..5]).into();
    } else if unnamed {
        let why = "Required value: name or generateName is required";
        return Err(Failure::invalid(
            &resource.kind_spelt(),
            "",
            "metadata.name",
            why,
        ));
    }
    metadata["uid"] = uid.into();
    metadata["creationTimestamp"] = now().into();
    if resource.namespaced {
        metadata["namespace"] = target.namespace.as_str().into();
    }
    if has_generation(resource) {
        metadata["generation"] = 1.into();
    }
    remove_empty(metadata);
    // Nodes come with what their kubelet says of them.
    if resource.has_status && resource.plural != "nodes" {
        let status = first_status(resource);
        set(&mut object, "status", Some(status));
    }
    Ok(object)
}

/// What `Value`'s indices left behind.
fn remove_empty(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

fn first_status(resource: &Resource) -> Value {
    match resource.kind.as_str() {
        "Namespace" => json!({"phase": "Active"}),
        "Pod" => json!({"phase": "Pending"}),
        "DaemonSet" => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0,
            "numberMisscheduled": 0, "numberReady": 0,
        }),
        "CustomResourceDefinition" => json!({"conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts"},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted"},
        ]}),
        _ => json!({}),
    }
}

/// What is stored where `new` is to take the place of `old`: the subresource `status` changes
/// that and metadata, the object itself everything else.
pub(super) fn for_update(
    resource: &Resource,
    target: &Target,
    old: &Value,
    new: Value,
) -> Result<Value, Failure> {
    let kind = resource.spelt();
    let about = About {
        kind: &kind,
        name: &target.name,
    };
    check_version(about, resource, old, &new)?;
    let mut result = match target.subresource.as_str() {
        "status" => {
            let mut result = old.clone();
            set(&mut result, "status", new.get("status").cloned());
            // The metadata of custom kinds stays as it is.
            if !resource.custom {
                set(&mut result, "metadata", new.get("metadata").cloned());
            }
            result
        }
        _ => {
            let mut result = new;
            if resource.has_status {
                set(&mut result, "status", old.get("status").cloned());
            }
            result
        }
    };
    let (was, metadata) = (&old["metadata"], &mut result["metadata"]);
    for field in KEPT.into_iter().chain(["uid"]) {
        set(metadata, field, was.get(field).cloned());
    }
    if has_generation(resource) && old["spec"] != result["spec"] {
        let generation = was["generation"].as_u64().unwrap_or(0) + 1;
        result["metadata"]["generation"] = generation.into();
    }
    check_pod_cidrs(resource, target, old, &result)?;
    Ok(result)
}

fn check_version(
    about: About<'_>,
    resource: &Resource,
    old: &Value,
    new: &Value,
) -> Result<(), Failure> {
    let (was, metadata) = (&old["metadata"], &new["metadata"]);
    let version = metadata["resourceVersion"].as_str().unwrap_or_default();
    if version.is_empty() && resource.custom {
        let why = "Invalid value: 0: must be specified for an update";
        return Err(Failure::invalid(
            &resource.kind_spelt(),
            about.name,
            "metadata.resourceVersion",
            why,
        ));
    }
    if !version.is_empty() && was["resourceVersion"] != version {
        return Err(Failure::stale(about));
    }
    match metadata["uid"].as_str() {
        Some(uid) if !uid.is_empty() && was["uid"] != uid => {
            let is = was["uid"].as_str().unwrap_or_default();
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {is}"
            );
            Err(Failure::conflict(about, &why))
        }
        _ => Ok(()),
    }
}

/// A node that has its pod networks keeps them.
fn check_pod_cidrs(
    resource: &Resource,
    target: &Target,
    old: &Value,
    new: &Value,
) -> Result<(), Failure> {
    let (was, is) = (&old["spec"]["podCIDRs"], &new["spec"]["podCIDRs"]);
    let had = was.as_array().is_some_and(|networks| !networks.is_empty());
    if resource.plural == "nodes" && had && was != is {
        let why = "Forbidden: node updates may not change podCIDR except from \"\" to valid";
        return Err(Failure::invalid("Node", &target.name, "spec.podCIDRs", why));
    }
    Ok(())
}

/// Put a field in, or take it out.
fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let Some(fields) = object.as_object_mut() {
        match value {
            Some(value) => _ = fields.insert(field.to_owned(), value),
            None => _ = fields.remove(field),
        }
    }
}

/// A random UUID.
pub(super) fn uid() -> String {
    let uid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{:0>36}", uid.trim())
}

/// The time in whole seconds, as metadata has it.
pub(super) fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
