//! One request, and what it is called.

use kube::client::Body;
use std::fmt::Write;

/// The part of a patch that merges maps, and lists by their keys.
const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";

/// What the server sees of this program.
const USER_AGENT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// A request to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::subnets::kube) struct ApiRequest {
    /// As RBAC has it: `get`, `list`, `watch` or `patch`.
    pub(super) verb: &'static str,
    /// As RBAC has it: `nodes`, `nodes/status` or `pods`.
    pub(super) resource: &'static str,
    /// Path and query.
    path: String,
    patch: Option<Vec<u8>>,
}

impl ApiRequest {
    /// Something is asked for.
    pub(in crate::subnets::kube) fn get(
        verb: &'static str,
        resource: &'static str,
        path: String,
    ) -> ApiRequest {
        ApiRequest {
            verb,
            resource,
            path,
            patch: None,
        }
    }

    /// The state of a node is changed.
    pub(in crate::subnets::kube) fn patch_status(node: &str, patch: Vec<u8>) -> ApiRequest {
        ApiRequest {
            verb: "patch",
            resource: "nodes/status",
            path: format!("/api/v1/nodes/{}/status", escape(node)),
            patch: Some(patch),
        }
    }

    /// As it is sent.
    pub(super) fn http(&self) -> Result<hyper::Request<Body>, hyper::http::Error> {
        let request = hyper::Request::builder()
            .uri(&self.path)
            .header("accept", "application/json")
            .header("user-agent", USER_AGENT);
        match &self.patch {
            None => request.body(Body::empty()),
            Some(patch) => request
                .method("PATCH")
                .header("content-type", STRATEGIC_MERGE)
                .body(Body::from(patch.clone())),
        }
    }
}

/// A text as part of a path or query.
pub(in crate::subnets::kube) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            // Writing to a String cannot fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_their_part_of_the_path() {
        assert_eq!(escape("node-1.example.com"), "node-1.example.com");
        assert_eq!(escape("../a?b=c d"), "..%2Fa%3Fb%3Dc%20d");
        let request = ApiRequest::patch_status("a/b", b"{}".to_vec())
            .http()
            .unwrap();
        assert_eq!(request.uri().path(), "/api/v1/nodes/a%2Fb/status");
        assert_eq!(request.headers()["content-type"], STRATEGIC_MERGE);
    }
}
