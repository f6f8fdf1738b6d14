//! Label and field selectors.

use super::failure::Failure;
use super::resource::selectable_fields;
use super::store::Stored;
use serde_json::Value;

/// Which objects a request is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    /// Path of a field, value, and whether it is to be that.
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    label: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Also where the label is absent.
    NotIn(Vec<String>),
}

impl Selector {
    /// Read both selectors of a request for objects of this kind (`nodes`, `daemonsets.apps`).
    pub(super) fn parse(kind: &str, labels: &str, fields: &str) -> Result<Selector, Failure> {
        let labels = split(labels).into_iter().map(requirement);
        let fields = split(fields).into_iter().map(|part| field(kind, part));
        Ok(Selector {
            labels: labels.collect::<Result<_, _>>()?,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn selects(&self, object: &Stored) -> bool {
        self.labels.iter().all(|wanted| wanted.fits(object)) && self.selects_fields(object)
    }

    fn selects_fields(&self, object: &Stored) -> bool {
        let mut parsed = None;
        self.fields.iter().all(|(path, value, is)| {
            let found = match path.as_str() {
                "metadata.name" => object.key.name.clone(),
                "metadata.namespace" => object.key.namespace.clone(),
                path => text_at(parsed.get_or_insert_with(|| object.value()), path),
            };
            (found == *value) == *is
        })
    }
}

impl Requirement {
    fn fits(&self, object: &Stored) -> bool {
        let found = object.labels.get(&self.label);
        match (&self.test, found) {
            (Test::Exists, found) => found.is_some(),
            (Test::Absent, found) => found.is_none(),
            (Test::In(values), Some(found)) => values.contains(found),
            (Test::In(_), None) => false,
            (Test::NotIn(values), Some(found)) => !values.contains(found),
            (Test::NotIn(_), None) => true,
        }
    }
}

/// A field as text; nothing, and what is no plain value, is empty.
fn text_at(object: &Value, path: &str) -> String {
    let found = path.split('.').fold(object, |value, part| &value[part]);
    match found {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => found.to_string(),
        _ => String::new(),
    }
}

/// Parts between commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

fn field(kind: &str, part: &str) -> Result<(String, String, bool), Failure> {
    let cut = [("!=", false), ("==", true), ("=", true)];
    let cut = cut
        .into_iter()
        .find_map(|(sign, is)| Some((part.split_once(sign)?, is)));
    let Some(((path, value), is)) = cut else {
        let why = format!("invalid field selector: {part}");
        return Err(Failure::bad_request(why));
    };
    let common = ["metadata.name", "metadata.namespace"];
    if !common.contains(&path) && !selectable_fields(kind).contains(&path) {
        return Err(Failure::bad_request(format!(
            "field label not supported: {path}"
        )));
    }
    Ok((path.to_owned(), value.to_owned(), is))
}

fn requirement(part: &str) -> Result<Requirement, Failure> {
    let new = |label: &str, test| Requirement {
        label: label.trim().to_owned(),
        test,
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    let read = if let Some((label, values)) = part.split_once(" notin ") {
        list(values).map(|values| new(label, Test::NotIn(values)))
    } else if let Some((label, values)) = part.split_once(" in ") {
        list(values).map(|values| new(label, Test::In(values)))
    } else if let Some((label, value)) = part.split_once("!=") {
        Some(new(label, Test::NotIn(one(value))))
    } else if let Some((label, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Some(new(label, Test::In(one(value))))
    } else if let Some(label) = part.strip_prefix('!') {
        Some(new(label, Test::Absent))
    } else {
        Some(new(part, Test::Exists))
    };
    let valid = read.filter(|read| !read.label.is_empty() && !read.label.contains([' ', '(', ')']));
    valid.ok_or_else(|| {
        let why = format!("unable to parse requirement: {part}");
        Failure::bad_request(why)
    })
}

/// `(a, b)`.
fn list(text: &str) -> Option<Vec<String>> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(
        inside
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::store::Key;
    use super::*;
    use serde_json::json;

    fn node(name: &str, labels: &Value) -> Stored {
        let value =
            json!({"metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": true}});
        Stored::new(Key::new("nodes", "", name), 1, value)
    }

    #[test]
    fn labels_are_selected_as_kubectl_does() {
        let object = node("n1", &json!({"zone": "a", "edge": ""}));
        let selects = |labels| {
            Selector::parse("nodes", labels, "")
                .unwrap()
                .selects(&object)
        };
        for fits in [
            "",
            "zone",
            "zone=a",
            "zone==a",
            "zone in (b, a),edge",
            "!gpu",
            "zone!=b",
            "gpu notin (x)",
            "edge=",
        ] {
            assert!(selects(fits), "{fits}");
        }
        for other in [
            "gpu",
            "zone=b",
            "zone!=a",
            "zone in (b,c)",
            "zone notin (a)",
            "!zone",
            "zone,gpu",
        ] {
            assert!(!selects(other), "{other}");
        }
        for wrong in ["zone in a", "=a", "a b"] {
            let refused = Selector::parse("nodes", wrong, "").unwrap_err();
            assert_eq!(refused.code, 400, "{wrong}");
        }
    }

    #[test]
    fn only_some_fields_select() {
        let object = node("n1", &json!({}));
        let selects = |fields| {
            Selector::parse("nodes", "", fields)
                .unwrap()
                .selects(&object)
        };
        assert!(selects("metadata.name=n1,spec.unschedulable=true"));
        assert!(selects("metadata.name!=n2"));
        assert!(!selects("metadata.name=n2"));
        let refused = Selector::parse("nodes", "", "spec.podCIDR=10.0.0.0/24").unwrap_err();
        assert_eq!(refused.message, "field label not supported: spec.podCIDR");
    }
}
