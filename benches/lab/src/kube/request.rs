//! What a request asks for.

use hyper::Method;
use std::collections::HashMap;

/// The parameters of a request; of one that is there twice, the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let mut parameters = HashMap::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            parameters
                .entry(decoded(name))
                .or_insert_with(|| decoded(value));
        }
        Query(parameters)
    }

    /// A parameter; empty if it is absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1" | "True" | "TRUE" | "t" | "T")
    }

    /// Whether nothing is to be stored.
    pub(super) fn is_dry_run(&self) -> bool {
        self.get("dryRun") == "All"
    }
}

/// Text of a query as it was before it was escaped.
fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit().unwrap_or(0), digit().unwrap_or(0));
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The objects, or the object, that a path stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// Empty: of the cluster, or of all namespaces.
    pub(super) namespace: String,
    /// Empty: all of them.
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Target {
    /// Read a path; `None` for those of discovery, of health and others.
    pub(super) fn parse(path: &str) -> Option<Target> {
        let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // A namespace itself.
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        };
        (!plural.is_empty()).then_some(target)
    }

    /// As rules and messages spell it: `nodes`, `nodes/status`.
    pub(super) fn resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.plural.clone(),
            subresource => format!("{}/{subresource}", self.plural),
        }
    }

    /// What is done to it, in the words of rules.
    pub(super) fn verb(&self, method: &Method, query: &Query) -> &'static str {
        let one = !self.name.is_empty();
        match method.as_str() {
            "GET" | "HEAD" if one => "get",
            "GET" | "HEAD" if query.is_true("watch") => "watch",
            "GET" | "HEAD" => "list",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if one => "delete",
            "DELETE" => "deletecollection",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(path: &str) -> Option<String> {
        let target = Target::parse(path)?;
        let Target {
            group,
            version,
            namespace,
            name,
            ..
        } = &target;
        Some(format!(
            "{group}|{version}|{namespace}|{}|{name}",
            target.resource()
        ))
    }

    #[test]
    fn paths_name_objects() {
        for (path, expected) in [
            ("/api/v1/nodes", "|v1||nodes|"),
            ("/api/v1/nodes/n1/status", "|v1||nodes/status|n1"),
            ("/api/v1/namespaces", "|v1||namespaces|"),
            ("/api/v1/namespaces/x", "|v1||namespaces|x"),
            ("/api/v1/namespaces/x/status", "|v1||namespaces/status|x"),
            ("/api/v1/namespaces/x/pods", "|v1|x|pods|"),
            (
                "/apis/apps/v1/namespaces/x/daemonsets/y",
                "apps|v1|x|daemonsets|y",
            ),
            ("/apis/apps/v1/daemonsets", "apps|v1||daemonsets|"),
        ] {
            assert_eq!(spelt(path).as_deref(), Some(expected), "{path}");
        }
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps/v1",
            "/healthz",
            "/api/v1/",
            "/api/v1/a/b/c/d",
        ] {
            assert_eq!(spelt(path), None, "{path}");
        }
    }

    #[test]
    fn parameters_are_unescaped() {
        let query = Query::parse("labelSelector=a%20in+%28b%29&watch=1&limit&limit=2&bad=%zz%");
        assert_eq!(query.get("labelSelector"), "a in (b)");
        assert!(query.is_true("watch") && !query.is_true("follow"));
        assert_eq!(query.get("limit"), "");
    }
}
