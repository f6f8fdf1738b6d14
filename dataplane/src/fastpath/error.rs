//! Why there is no fast path.

use std::error::Error;
use std::io;

/// What was refused, and what the kernel said. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct FastPathError {
    step: String,
    reason: String,
}

impl FastPathError {
    /// `error` in `step`, with what it came from.
    pub(super) fn new(step: impl Into<String>, error: &(dyn Error + 'static)) -> FastPathError {
        let mut reason = first_line(&error.to_string());
        let mut source = error.source();
        let mut denied = is_denied(error);
        while let Some(cause) = source {
            denied |= is_denied(cause);
            let text = first_line(&cause.to_string());
            // Some errors say what their cause says, too.
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        if denied {
            reason += ": it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a seccomp profile that allows bpf";
        }
        FastPathError::because(step, reason)
    }

    /// A refusal of our own.
    pub(super) fn because(step: impl Into<String>, reason: impl Into<String>) -> FastPathError {
        FastPathError {
            step: step.into(),
            reason: reason.into(),
        }
    }
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The verifier's log is for developers.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Give an error the step that it was made in.
pub(super) trait During<T> {
    /// The value, or what failed in this step.
    fn during(self, step: &str) -> Result<T, FastPathError>;
}

impl<T, E: Error + 'static> During<T> for Result<T, E> {
    fn during(self, step: &str) -> Result<T, FastPathError> {
        self.map_err(|error| FastPathError::new(step, &error))
    }
}
