//! `SelfSubjectAccessReview`: what a user may do, asked by that user.

use super::access::{allows, allows_path};
use super::failure::Failure;
use super::protobuf::find;
use super::request::Target;
use super::store::Store;
use serde_json::{Value, json};

/// What objects in protobuf begin with.
const MAGIC: &[u8] = b"k8s\0";

/// Names of the fields, from number 1 on, of what a review is about.
const RESOURCE: [&str; 7] = [
    "namespace",
    "verb",
    "group",
    "version",
    "resource",
    "subresource",
    "name",
];
const PATH: [&str; 2] = ["path", "verb"];

/// Read a review. kubectl sends it in protobuf, others in JSON.
pub(super) fn read(body: &[u8]) -> Result<Value, Failure> {
    let read = match body.strip_prefix(MAGIC) {
        Some(message) => from_protobuf(message),
        None => serde_json::from_slice(body).ok(),
    };
    let unreadable = || Failure::bad_request("the body is no SelfSubjectAccessReview");
    read.filter(Value::is_object).ok_or_else(unreadable)
}

fn from_protobuf(message: &[u8]) -> Option<Value> {
    let spec = find(find(message, 2)?, 2)?;
    let fields = |message: &[u8], names: &[&str]| {
        let text = |number: usize| {
            String::from_utf8_lossy(find(message, number as u64).unwrap_or_default()).into_owned()
        };
        let fields = names.iter().enumerate();
        let fields = fields.map(|(index, name)| ((*name).to_owned(), text(index + 1).into()));
        Value::Object(fields.collect())
    };
    let mut read = json!({});
    if let Some(attributes) = find(spec, 1) {
        read["resourceAttributes"] = fields(attributes, &RESOURCE);
    }
    if let Some(attributes) = find(spec, 2) {
        read["nonResourceAttributes"] = fields(attributes, &PATH);
    }
    Some(json!({"spec": read}))
}

/// Answer a review.
pub(super) fn answer(store: &Store, user: &str, review: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &review["spec"];
    let (attributes, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let target = Target {
        group: text(&attributes["group"]),
        version: text(&attributes["version"]),
        plural: text(&attributes["resource"]),
        namespace: text(&attributes["namespace"]),
        name: text(&attributes["name"]),
        subresource: text(&attributes["subresource"]),
    };
    let allowed = match path.is_object() {
        true => allows_path(store, user, &text(&path["verb"]), &text(&path["path"])),
        false => allows(store, user, &text(&attributes["verb"]), &target),
    };
    json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "metadata": {}, "spec": spec, "status": {"allowed": allowed},
    })
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::field;
    use super::*;
    use crate::kube::flannel;
    use crate::kube::store::HISTORY;

    #[test]
    fn both_encodings_are_answered() {
        let store = Store::new(HISTORY);
        flannel::install(&store);
        let allowed = |body: &[u8]| {
            let review = read(body).unwrap();
            answer(&store, flannel::USER, &review)["status"]["allowed"]
                .as_bool()
                .unwrap()
        };
        let attributes = |verb: &str| {
            [
                field(2, verb),
                field(5, "nodes"),
                field(6, "status"),
                field(7, "n1"),
            ]
            .concat()
        };
        let message =
            |spec: Vec<u8>| [MAGIC.to_vec(), field(1, ""), field(2, field(2, spec))].concat();
        assert!(allowed(&message(field(1, attributes("patch")))));
        assert!(!allowed(&message(field(1, attributes("update")))));
        assert!(allowed(&message(field(
            2,
            [field(1, "/version"), field(2, "get")].concat()
        ))));
        let json = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "nodes"}}});
        assert!(allowed(json.to_string().as_bytes()));
        for wrong in [b"".as_slice(), b"[]", b"k8s\0\xff"] {
            assert_eq!(read(wrong).unwrap_err().code, 400);
        }
    }
}
