//! Why there is no fast path.

use std::error::Error;

/// What was refused, and what the kernel said. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct FastPathError {
    step: String,
    reason: String,
}

impl FastPathError {
    /// `error` in `step`, with what it came from.
    pub(super) fn new(step: impl Into<String>, error: &dyn Error) -> FastPathError {
        let mut reason = first_line(&error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = first_line(&cause.to_string());
            // Some errors say what their cause says, too.
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
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

/// The verifier's log is for developers.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Give an error the step that it was made in.
pub(super) trait During<T> {
    /// The value, or what failed in this step.
    fn during(self, step: &str) -> Result<T, FastPathError>;
}

impl<T, E: Error> During<T> for Result<T, E> {
    fn during(self, step: &str) -> Result<T, FastPathError> {
        self.map_err(|error| FastPathError::new(step, &error))
    }
}
