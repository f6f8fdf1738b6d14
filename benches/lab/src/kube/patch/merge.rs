//! JSON merge patches (RFC 7386).

use serde_json::{Map, Value};

/// Apply a patch.
pub(super) fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => _ = target.remove(key),
            _ => apply(target.entry(key).or_insert(Value::Null), value),
        }
    }
}
