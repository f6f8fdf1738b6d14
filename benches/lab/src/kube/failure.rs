//! What the server says when it does not do what it was asked: `Status` objects.

use serde_json::{Value, json};

/// A refusal. Its body is a `Status` object, as `metav1.Status` has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) code: u16,
    reason: &'static str,
    pub(super) message: String,
    /// `{}` where there is nothing to add.
    details: Value,
    /// Fields of the list that a continue token belonged to.
    metadata: Value,
    /// Seconds after which to try again.
    pub(super) retry_after: Option<u32>,
    /// Whether it is sent as plain text.
    pub(super) plain: bool,
}

/// What a refusal is about: a resource as messages spell it (`nodes`, `daemonsets.apps`) and
/// the name of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
}

impl About<'_> {
    fn details(&self) -> Value {
        let (plural, group) = self.kind.split_once('.').unwrap_or((self.kind, ""));
        let mut details = json!({"kind": plural});
        if !self.name.is_empty() {
            details["name"] = self.name.into();
        }
        if !group.is_empty() {
            details["group"] = group.into();
        }
        details
    }
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason,
            message: message.into(),
            details: json!({}),
            metadata: json!({}),
            retry_after: None,
            plain: false,
        }
    }

    fn about(mut self, about: About<'_>) -> Failure {
        self.details = about.details();
        self
    }

    /// The request itself makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    /// Too much is asked at a time. Who is told so is told before anything is known of the
    /// request, and in plain text.
    pub(super) fn too_many_requests(retry_after: u32) -> Failure {
        let message = "Too many requests, please try again later.\n";
        let mut failure = Failure::new(429, "TooManyRequests", message);
        failure.retry_after = Some(retry_after);
        failure.plain = true;
        failure
    }

    pub(super) fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    /// `why` comes after "is forbidden: ".
    pub(super) fn forbidden(about: About<'_>, why: &str) -> Failure {
        let About { kind, name } = about;
        let message = match name {
            "" => format!("{kind} is forbidden: {why}"),
            _ => format!("{kind} \"{name}\" is forbidden: {why}"),
        };
        Failure::new(403, "Forbidden", message).about(about)
    }

    pub(super) fn not_found(about: About<'_>) -> Failure {
        let message = format!("{} \"{}\" not found", about.kind, about.name);
        Failure::new(404, "NotFound", message).about(about)
    }

    /// Nothing is served under this path.
    pub(super) fn no_such_path() -> Failure {
        let message = "the server could not find the requested resource";
        Failure::new(404, "NotFound", message)
    }

    pub(super) fn method_not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        Failure::new(405, "MethodNotAllowed", message)
    }

    pub(super) fn already_exists(about: About<'_>) -> Failure {
        let message = format!("{} \"{}\" already exists", about.kind, about.name);
        Failure::new(409, "AlreadyExists", message).about(about)
    }

    pub(super) fn conflict(about: About<'_>, why: &str) -> Failure {
        let About { kind, name } = about;
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}");
        Failure::new(409, "Conflict", message).about(about)
    }

    /// What was read has changed since.
    pub(super) fn stale(about: About<'_>) -> Failure {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Failure::conflict(about, why)
    }

    /// The history that this would take is gone.
    pub(super) fn expired(message: impl Into<String>) -> Failure {
        Failure::new(410, "Expired", message)
    }

    /// A page of a list whose token is too old; `rest` is a token for what follows in the
    /// present list.
    pub(super) fn expired_page(rest: String) -> Failure {
        let message = "The provided continue parameter is too old to display a consistent list \
                       result. You can start a new list without the continue parameter, or use \
                       the continue token in this response to retrieve the remainder of the \
                       results. Continuing with the provided token results in an inconsistent \
                       list - objects that were created, modified, or deleted between the time \
                       the first chunk was returned and now may show up in the list.";
        let mut failure = Failure::expired(message);
        failure.metadata = json!({"continue": rest});
        failure
    }

    pub(super) fn unsupported_media_type(accepted: &[&str]) -> Failure {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Failure::new(415, "UnsupportedMediaType", message)
    }

    /// The object would break a rule. `field` and `why` as in `spec.podCIDRs` and
    /// `Forbidden: ...`; `kind` as in `Node` or `DaemonSet.apps`.
    pub(super) fn invalid(kind: &str, name: &str, field: &str, why: &str) -> Failure {
        let message = format!("{kind} \"{name}\" is invalid: {field}: {why}");
        let (plain, group) = kind.split_once('.').unwrap_or((kind, ""));
        let mut failure = Failure::new(422, "Invalid", message);
        failure.details = json!({
            "name": name, "group": group, "kind": plain,
            "causes": [{"message": why, "field": field}],
        });
        failure
    }

    /// A patch that cannot be applied to what is there. Real servers do not say why, either.
    pub(super) fn unprocessable() -> Failure {
        let message = "the server rejected our request due to an error in our request";
        Failure::new(422, "Invalid", message)
    }

    /// The client knows a version that this server has not reached.
    pub(super) fn too_new(wanted: u64, latest: u64) -> Failure {
        let message = format!("Too large resource version: {wanted}, current: {latest}");
        let mut failure = Failure::new(504, "Timeout", format!("Timeout: {message}"));
        failure.details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        failure.retry_after = Some(1);
        failure
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata,
            "status": "Failure", "message": self.message, "reason": self.reason,
            "code": self.code,
        });
        if self.details != json!({}) {
            status["details"] = self.details.clone();
        }
        status
    }
}
