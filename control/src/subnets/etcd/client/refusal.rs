//! Errors of etcd in one line, with what to do about them.

use crate::subnets::etcd::options::EtcdOptions;
use crate::text::one_line;
use etcd_client::Error;
use rustls::{AlertDescription, CertificateError};
use std::error::Error as StdError;
use std::io;
use tonic::{Code, Status};

/// Texts of etcd that mean: authenticate anew (etcd client/v3/retry_interceptor.go,
/// `shouldRefreshToken`). The token has expired, or its server has been started again; roles
/// have changed since; there was no token yet when authentication was turned on.
const STALE_TOKEN: [&str; 3] = [
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
];

/// What etcd says to somebody who authenticates although nobody needs to.
const NOT_ENABLED: &str = "authentication is not enabled";

/// What etcd says to every write when its quota is used up.
const NO_SPACE: &str = "database space exceeded";

/// What tokio-rustls says when a server hangs up instead of answering in TLS.
const HANDSHAKE_EOF: &str = "tls handshake eof";

/// What hyper, h2 and the kernel say of a connection that the other side has closed.
const CLOSED: [&str; 4] = [
    "connection closed",
    "broken pipe",
    "Connection reset",
    "fatal alert",
];

/// What tonic says of an answer over HTTP/2 that is none in gRPC, as of a web server or a proxy. It
/// makes up a status from the one of HTTP.
const NO_GRPC: &str = "grpc-status header missing";

/// What tonic says, with the status by which etcd tells that it lacks a revision, of an answer
/// that is longer than this client takes.
const TOO_LONG: &str = "message length too large";

/// gRPC status codes by which a server answers "no" (grpc/doc/statuscodes.md). All others mean
/// that it did not get to an answer, or is no etcd.
const ANSWERS: [Code; 9] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// Whether an error is a server's answer rather than the lack of one.
pub(crate) fn is_answer(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return false;
    };
    ANSWERS.contains(&status.code()) && !is_foreign(status)
}

/// Whether a status is that of a server that does not know etcd's requests.
fn is_foreign(status: &Status) -> bool {
    status.code() == Code::Unimplemented || status.message().starts_with(NO_GRPC)
}

/// Whether a refusal may end if this client says anew who it is. A watch is refused for lack
/// of permission also when only the token has expired (etcd 3.4 server/etcdserver/api/v3rpc).
pub(crate) fn is_about_identity(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return false;
    };
    let stale = |text: &&str| status.message().contains(*text);
    matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated
    ) || STALE_TOKEN.iter().any(stale)
}

/// Whether a server does not have the revision that it is asked for: it is too old, or of
/// another history.
pub(crate) fn is_about_revision(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() == Code::OutOfRange)
        && !is_about_length(error)
}

/// Whether an answer is longer than this client takes.
pub(crate) fn is_about_length(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() == Code::OutOfRange
        && status.message().contains(TOO_LONG))
}

/// Whether it is too old.
pub(crate) fn is_of_compacted(error: &Error) -> bool {
    is_about_revision(error) && error.to_string().contains("compacted")
}

/// Whether a server wants no password from anybody.
pub(crate) fn wants_no_user(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(NOT_ENABLED))
}

/// The refusal that stands in a cancelled watch's reason, if it is one that a request would
/// have been answered with.
pub(crate) fn of_cancelled_watch(reason: &str) -> Option<Error> {
    let stale = STALE_TOKEN.iter().any(|text| reason.contains(text));
    let code = match reason {
        _ if stale => Code::Unauthenticated,
        reason if reason.contains("permission denied") => Code::PermissionDenied,
        _ => return None,
    };
    Some(Error::GRpcStatus(Status::new(code, reason)))
}

/// A cancelled watch's reason, for people.
pub(crate) fn cancelled(reason: &str) -> String {
    format!("etcd ended the watch: {}", one_line(reason))
}

/// Who asks, for what is said of refusals.
pub(crate) struct Asker {
    /// Name of the user; `None`: the client certificate tells, if anything does.
    user: Option<String>,
    by_certificate: bool,
    /// The keys that are asked for.
    prefix: String,
}

impl Asker {
    pub(crate) fn new(options: &EtcdOptions, prefix: &str) -> Asker {
        Asker {
            user: options.login().map(|(name, _)| name.to_owned()),
            by_certificate: options.cert_file.is_some() && options.key_file.is_some(),
            prefix: prefix.to_owned(),
        }
    }

    /// A refusal in one line. `what` completes "etcd refused to ...".
    pub(crate) fn explain(&self, what: &str, error: &Error) -> String {
        let reason = describe(error);
        let Error::GRpcStatus(status) = error else {
            return format!("etcd refused to {what}: {reason}");
        };
        let who = match (&self.user, self.by_certificate) {
            (Some(name), _) => format!("user {name:?}"),
            (None, true) => "the user that the client certificate names (its CN)".to_owned(),
            (None, false) => "the user".to_owned(),
        };
        let prefix = &self.prefix;
        if status.code() == Code::PermissionDenied {
            return format!(
                "etcd refused to {what}: {reason}; {who} needs a role that may read and write \
                 all keys under {prefix}: etcdctl role grant-permission ROLE readwrite --prefix \
                 {prefix}"
            );
        }
        if reason.contains("authentication failed") {
            return format!(
                "etcd refused to let {who} in: {reason}; check -etcd-username and -etcd-password"
            );
        }
        if reason.contains(NO_SPACE) {
            return format!(
                "etcd refused to {what}: {reason}; it takes no writes until it has room: compact \
                 and defragment it, then etcdctl alarm disarm"
            );
        }
        if self.user.is_none() && is_about_identity(error) {
            return format!(
                "etcd refused to {what}: {reason}; it wants to know who asks: give \
                 -etcd-username and -etcd-password, or a client certificate whose CN is a user"
            );
        }
        format!("etcd refused to {what}: {reason}")
    }
}

/// An error in one line: what etcd says, what is wrong with a certificate, or the innermost
/// cause.
pub(crate) fn describe(error: &Error) -> String {
    one_line(&cause(error))
}

fn cause(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else {
        return error.to_string();
    };
    let mut innermost = None;
    let mut source = StdError::source(status);
    while let Some(error) = source {
        if let Some(tls) = tls_error(error) {
            return describe_tls(tls);
        }
        innermost = Some(error.to_string());
        source = error.source();
    }
    match innermost {
        Some(text) if text == HANDSHAKE_EOF => {
            format!("no TLS ({text}): is it an http:// endpoint?")
        }
        Some(text) => text,
        None if is_foreign(status) => format!("{}: is this etcd?", status.message()),
        None => status.message().to_owned(),
    }
}

/// As [`describe`], for the first request over a new connection with TLS. In TLS 1.3 a server
/// looks at the client's certificate after the client's side of the handshake is over, and the
/// alert by which it refuses it is often lost with the connection (RFC 8446, 4.4.2.4 and 6.2).
pub(crate) fn describe_first(error: &Error) -> String {
    let text = describe(error);
    match CLOSED.iter().any(|closed| text.contains(closed)) {
        // Which of these it was is chance.
        true => "the server ended the connection after the TLS handshake: if it wants a \
                 certificate of this client, check -etcd-certfile and -etcd-keyfile, and whether \
                 the certificate has expired"
            .to_owned(),
        false => text,
    }
}

/// The error of rustls that an I/O error carries; `source` passes over it.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

fn describe_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is not signed by any authority of -etcd-cafile (or, \
             without it, of this system)"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(reason) => {
            format!("the server's certificate cannot be accepted: {reason}")
        }
        rustls::Error::AlertReceived(alert) if is_about_certificate(*alert) => format!(
            "the server does not accept the certificate of this client ({alert:?}): check \
             -etcd-certfile and -etcd-keyfile, and whether the certificate has expired"
        ),
        rustls::Error::InvalidMessage(_) => {
            format!("no TLS ({error}): is it an http:// endpoint?")
        }
        error => format!("TLS: {error}"),
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_etcd_can_refuse() {
        for (code, message, answer) in [
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                true,
            ),
            (Code::Unavailable, "etcdserver: no leader", false),
            (
                Code::Unimplemented,
                "unknown service etcdserverpb.KV",
                false,
            ),
            // As made up by tonic from the statuses 401, 403 and 404 of HTTP.
            (
                Code::Unauthenticated,
                "grpc-status header missing, mapped",
                false,
            ),
            (
                Code::PermissionDenied,
                "grpc-status header missing, mapped",
                false,
            ),
            (
                Code::Unimplemented,
                "grpc-status header missing, mapped",
                false,
            ),
        ] {
            let error = Error::GRpcStatus(Status::new(code, message));
            assert_eq!(is_answer(&error), answer, "{error}");
            let doubted = describe(&error).ends_with(": is this etcd?");
            assert_eq!(doubted, !message.starts_with("etcdserver:"), "{error}");
        }
    }
}
