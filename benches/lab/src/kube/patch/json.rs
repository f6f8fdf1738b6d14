//! JSON patches (RFC 6902).

use crate::kube::failure::Failure;
use serde_json::Value;

/// Apply all operations of a patch, in their order.
pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let mut operations = patch.as_array().into_iter().flatten();
    operations.try_for_each(|operation| step(object, operation).ok_or_else(Failure::unprocessable))
}

/// `None` if the operation makes no sense, or not here.
fn step(object: &mut Value, operation: &Value) -> Option<()> {
    let text = |field: &str| operation[field].as_str();
    let value = || operation.get("value").cloned();
    let path = text("path")?;
    match text("op")? {
        "add" => add(object, path, value()?),
        "remove" => remove(object, path).map(drop),
        "replace" => {
            *object.pointer_mut(path)? = value()?;
            Some(())
        }
        "move" => {
            let moved = remove(object, text("from")?)?;
            add(object, path, moved)
        }
        "copy" => {
            let copied = object.pointer(text("from")?)?.clone();
            add(object, path, copied)
        }
        "test" => (object.pointer(path).unwrap_or(&Value::Null) == &value()?).then_some(()),
        _ => None,
    }
}

/// What holds a path's end, and the end's name.
fn parent<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((
        object.pointer_mut(parent)?,
        name.replace("~1", "/").replace("~0", "~"),
    ))
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, name) = parent(object, path)?;
    match parent {
        Value::Object(fields) => _ = fields.insert(name, value),
        Value::Array(items) if name == "-" => items.push(value),
        Value::Array(items) => {
            let index = name.parse().ok().filter(|index| *index <= items.len())?;
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, name) = parent(object, path)?;
    match parent {
        Value::Object(fields) => fields.remove(&name),
        Value::Array(items) => {
            let index = name.parse().ok().filter(|index| *index < items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_follow_one_another() {
        let mut object = json!({"metadata": {"annotations": {"a/b": "1"}}, "list": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/metadata/annotations/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "copy", "from": "/list/0", "path": "/first"},
            {"op": "move", "from": "/first", "path": "/moved"},
            {"op": "remove", "path": "/list/0"},
        ]);
        apply(&mut object, &patch).unwrap();
        let expected =
            json!({"metadata": {"annotations": {"a/b": "2"}}, "list": [2, 3, 4], "moved": 1});
        assert_eq!(object, expected);
    }

    #[test]
    fn what_does_not_apply_is_refused() {
        for operation in [
            json!({"op": "test", "path": "/a", "value": 2}),
            json!({"op": "remove", "path": "/b"}),
            json!({"op": "replace", "path": "/b", "value": 1}),
            json!({"op": "add", "path": "/b/c", "value": 1}),
            json!({"op": "add", "path": "/list/9", "value": 1}),
            json!({"op": "spin", "path": "/a"}),
            json!({"op": "add", "path": "/a"}),
            json!({"path": "/a"}),
            json!(1),
        ] {
            let mut object = json!({"a": 1, "list": []});
            let refused = apply(&mut object, &json!([operation])).unwrap_err();
            assert_eq!(refused.code, 422, "{operation}");
        }
    }
}
