//! Trying again until etcd grants what is asked for.

use super::Timing;
use super::connection::Failure;
use crate::lease::Backoff;
use tokio::time::sleep;
use tracing::{debug, warn};

/// Pauses between tries. Logs each refusal once.
pub(super) struct Retry {
    backoff: Backoff,
    refusal: Option<String>,
}

impl Retry {
    pub(super) fn new(timing: &Timing) -> Retry {
        Retry {
            backoff: timing.backoff(),
            refusal: None,
        }
    }

    /// Start from the shortest pause again.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.refusal = None;
    }

    /// Wait before the next try.
    pub(super) async fn pause(&mut self, failure: Failure) {
        self.note(failure);
        sleep(self.backoff.pause(rand::random())).await;
    }

    /// Log a refusal unless it is the one logged last.
    pub(super) fn note(&mut self, failure: Failure) {
        match failure {
            Failure::Unreachable => {}
            Failure::Broken(reason) => debug!("the watch ended: {reason}"),
            Failure::Refused(reason) if self.refusal.as_ref() == Some(&reason) => {}
            Failure::Refused(reason) => {
                warn!("{reason}; retrying");
                self.refusal = Some(reason);
            }
        }
    }
}
