//! Why a request brought nothing, in one line with what to do about it.

use super::request::ApiRequest;
use crate::subnets::remote;
use crate::text::one_line;
use serde::Deserialize;
use std::error::Error;

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::subnets::kube) enum ApiFailure {
    /// No server answered; it has been logged.
    Unreachable,
    /// The server said no.
    Refused(ApiRefusal),
    /// What the server had begun to tell has ended; why.
    Broken(String),
}

/// A server's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::subnets::kube) struct ApiRefusal {
    /// The status of HTTP.
    pub(in crate::subnets::kube) status: u16,
    /// Whether it is said as the API says such, and not by a web server or a proxy.
    is_of_api: bool,
    /// For people.
    pub(in crate::subnets::kube) line: String,
}

impl ApiFailure {
    /// The status of a refusal.
    pub(in crate::subnets::kube) fn status(&self) -> Option<u16> {
        match self {
            ApiFailure::Refused(refusal) => Some(refusal.status),
            ApiFailure::Unreachable | ApiFailure::Broken(_) => None,
        }
    }

    /// Whether the API says that it has no such object.
    pub(in crate::subnets::kube) fn is_not_found(&self) -> bool {
        matches!(self, ApiFailure::Refused(refusal) if refusal.status == 404 && refusal.is_of_api)
    }

    /// An answer that is none of an API server's. Said as a refusal: it does not end by itself.
    pub(in crate::subnets::kube) fn unreadable(what: &str, reason: &str) -> ApiFailure {
        let reason = one_line(reason);
        ApiFailure::Refused(ApiRefusal {
            status: 200,
            is_of_api: false,
            line: format!("the API server's {what} cannot be read: {reason}"),
        })
    }
}

impl From<ApiFailure> for remote::Failure {
    fn from(failure: ApiFailure) -> remote::Failure {
        match failure {
            ApiFailure::Unreachable => remote::Failure::Unreachable,
            ApiFailure::Refused(refusal) => remote::Failure::Refused(refusal.line),
            ApiFailure::Broken(reason) => remote::Failure::Broken(reason),
        }
    }
}

/// The API's `Status`, as far as it is for people.
#[derive(Deserialize)]
struct ApiStatus {
    message: String,
}

/// The message of the API's `Status`, if there is one.
fn message(body: &[u8]) -> Option<String> {
    let said: Option<ApiStatus> = serde_json::from_slice(body).ok();
    let message = said.map(|said| said.message);
    message.filter(|message| !message.is_empty())
}

/// What a server says with a status of HTTP that is no success.
pub(super) fn said(status: u16, body: &[u8]) -> String {
    match message(body) {
        Some(message) => one_line(&message),
        None => format!(
            "HTTP status {status}, and no reason that the API would give: is this an API server?"
        ),
    }
}

/// Whether a status means that the server could not answer, rather than that it says no.
pub(super) fn is_no_answer(status: u16) -> bool {
    status == 408 || status == 429 || status >= 500
}

impl ApiRefusal {
    /// Of a request that a server answers with no.
    pub(super) fn new(request: &ApiRequest, status: u16, body: &[u8]) -> ApiRefusal {
        let (verb, resource) = (request.verb, request.resource);
        let said = said(status, body);
        let remedy = match status {
            401 => {
                "; the token or certificate is not one of this cluster's, or has expired".to_owned()
            }
            403 => format!(
                "; its ClusterRole needs the rule apiGroups [\"\"], resources [\"{resource}\"], verbs [\"{verb}\"]"
            ),
            _ => String::new(),
        };
        ApiRefusal {
            status,
            is_of_api: message(body).is_some(),
            line: format!("the API server refused to {verb} {resource}: {said}{remedy}"),
        }
    }
}

/// Why there is no answer at all: the cause that lies deepest.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    one_line(&deepest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> String {
        let request = ApiRequest::get("list", "nodes", "/api/v1/nodes".to_owned());
        ApiRefusal::new(&request, status, body.as_bytes()).line
    }

    #[test]
    fn a_missing_rule_is_named() {
        let forbidden = r#"{"kind":"Status","status":"Failure","code":403,"reason":"Forbidden",
            "message":"nodes is forbidden: User \"system:serviceaccount:kube-flannel:flannel\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"}"#;
        let line = refusal(403, forbidden);
        assert!(line.starts_with("the API server refused to list nodes: nodes is forbidden"));
        let rule = r#"needs the rule apiGroups [""], resources ["nodes"], verbs ["list"]"#;
        assert!(line.ends_with(rule), "{line}");
        assert!(refusal(401, r#"{"message":"Unauthorized"}"#).contains("has expired"));
        assert!(refusal(400, "<html>").contains("is this an API server?"));
    }

    #[test]
    fn what_a_web_server_does_not_find_may_well_be_there() {
        let request = ApiRequest::get("get", "nodes", "/api/v1/nodes/n".to_owned());
        let failure =
            |body: &str| ApiFailure::Refused(ApiRefusal::new(&request, 404, body.as_bytes()));
        assert!(failure(r#"{"kind":"Status","message":"nodes \"n\" not found"}"#).is_not_found());
        for body in ["", "404 page not found", "{}", r#"{"message":""}"#] {
            assert!(!failure(body).is_not_found(), "{body}");
        }
    }

    #[test]
    fn what_a_server_cannot_do_now_is_no_refusal() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_no_answer(status));
        }
        for status in [400, 401, 403, 404, 409, 410, 422] {
            assert!(!is_no_answer(status));
        }
    }
}
