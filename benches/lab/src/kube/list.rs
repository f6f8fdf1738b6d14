//! Lists, whole or page by page.

use super::failure::Failure;
use super::request::{Query, Target};
use super::resource::Resource;
use super::selector::Selector;
use super::store::{Scope, Store, Stored};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Continue {
    /// `None`: as it is by then.
    version: Option<u64>,
    /// Namespace and name.
    start: (String, String),
}

impl Continue {
    fn token(&self) -> String {
        let (namespace, name) = &self.start;
        let version = self.version.map_or(json!(-1), |version| json!(version));
        let token =
            json!({"v": "meta.k8s.io/v1", "rv": version, "start": format!("{namespace}/{name}")});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(token: &str) -> Option<Continue> {
        let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (namespace, name) = json["start"].as_str()?.split_once('/')?;
        Some(Continue {
            version: json["rv"].as_u64(),
            start: (namespace.to_owned(), name.to_owned()),
        })
    }
}

/// Which version a list is to be of.
fn version(query: &Query, latest: u64) -> Result<Option<u64>, Failure> {
    let (wanted, rule) = (
        query.get("resourceVersion"),
        query.get("resourceVersionMatch"),
    );
    let refused =
        |field, why: &str| Err(Failure::invalid("ListOptions.meta.k8s.io", "", field, why));
    let field = "resourceVersionMatch";
    match rule {
        "" => {}
        _ if wanted.is_empty() => {
            return refused(
                field,
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        _ if !query.get("continue").is_empty() => {
            return refused(
                field,
                "Forbidden: resourceVersionMatch is forbidden when continue is provided",
            );
        }
        "Exact" if wanted == "0" => {
            return refused(
                field,
                "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        "Exact" | "NotOlderThan" => {}
        other => {
            let why = format!(
                "Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\", \"\""
            );
            return refused(field, &why);
        }
    }
    if !query.get("sendInitialEvents").is_empty() {
        return refused(
            "sendInitialEvents",
            "Forbidden: sendInitialEvents is forbidden for list",
        );
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    if !query.get("continue").is_empty() && wanted != "0" {
        let why = "specifying resource version is not allowed when using continue";
        return Err(Failure::bad_request(why));
    }
    let wanted = parse_version(wanted)?;
    if wanted > latest {
        return Err(Failure::too_new(wanted, latest));
    }
    let exact = rule == "Exact" || rule.is_empty() && wanted > 0 && limit(query).is_some();
    Ok(exact.then_some(wanted))
}

/// Read a version that a client gives.
pub(super) fn parse_version(text: &str) -> Result<u64, Failure> {
    let wrong = |_| Failure::bad_request(format!("invalid resource version {text:?}"));
    text.parse().map_err(wrong)
}

/// How many objects a page has. A list of any version comes from a cache, which knows no pages.
fn limit(query: &Query) -> Option<usize> {
    if query.get("resourceVersion") == "0" {
        return None;
    }
    query.get("limit").parse().ok().filter(|limit| *limit > 0)
}

/// The objects that a request selects.
pub(super) fn selector(resource: &Resource, query: &Query) -> Result<Selector, Failure> {
    let (labels, fields) = (query.get("labelSelector"), query.get("fieldSelector"));
    Selector::parse(&resource.spelt(), labels, fields)
}

/// Where a request looks for objects.
pub(super) fn scope(resource: &Resource, target: &Target) -> Scope {
    let everywhere = target.namespace.is_empty();
    Scope {
        kind: resource.spelt(),
        namespace: (!everywhere).then(|| target.namespace.clone()),
    }
}

/// A list, or a page of it, as JSON.
pub(super) fn list(
    store: &Store,
    resource: &Resource,
    target: &Target,
    query: &Query,
) -> Result<Bytes, Failure> {
    let selector = selector(resource, query)?;
    let mut at = version(query, store.version())?;
    let mut start = None;
    let token = query.get("continue");
    if !token.is_empty() {
        let wrong = || Failure::bad_request("continue key is not valid");
        let next = Continue::parse(token).ok_or_else(wrong)?;
        at = next.version;
        start = Some(next.start);
    }
    let snapshot = store
        .list(&scope(resource, target), at)
        .map_err(|_| match &start {
            Some(start) => Failure::expired_page(
                Continue {
                    version: None,
                    start: start.clone(),
                }
                .token(),
            ),
            None => Failure::expired("The resourceVersion for the provided list is too old."),
        })?;
    let place = |object: &Stored| (object.key.namespace.clone(), object.key.name.clone());
    let rest = snapshot.objects.iter().filter(|object| {
        start.as_ref().is_none_or(|start| place(object) >= *start) && selector.selects(object)
    });
    let rest: Vec<&Arc<Stored>> = rest.collect();
    let page = limit(query).unwrap_or(rest.len()).min(rest.len());
    let mut metadata = json!({"resourceVersion": snapshot.version.to_string()});
    if let Some(next) = rest.get(page) {
        let next = Continue {
            version: Some(snapshot.version),
            start: place(next),
        };
        metadata["continue"] = next.token().into();
        if selector == Selector::default() {
            metadata["remainingItemCount"] = (rest.len() - page).into();
        }
    }
    Ok(text(resource, &metadata, &rest[..page]))
}

fn text(resource: &Resource, metadata: &Value, objects: &[&Arc<Stored>]) -> Bytes {
    let (kind, api_version) = (&resource.kind, resource.api_version());
    let head = format!(
        r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{metadata},"items":["#
    );
    let size: usize = objects.iter().map(|object| object.json.len() + 64).sum();
    let mut text = Vec::with_capacity(head.len() + size);
    text.extend_from_slice(head.as_bytes());
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        // Items of built-in kinds say neither kind nor version.
        match resource.custom {
            true => text.extend_from_slice(&object.typed(kind, &api_version)),
            false => text.extend_from_slice(&object.json),
        }
    }
    text.extend_from_slice(b"]}\n");
    text.into()
}
