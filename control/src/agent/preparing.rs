//! A successor before it is its turn, and what two agents tell each other's logs by.

use super::name::AgentName;
use super::options::AgentOptions;
use crate::hand_over::{self, Claim, Successor};
use rustix::time::{ClockId, clock_gettime};
use std::future::pending;
use tracing::warn;

/// A successor that prepares itself, if there is one.
#[derive(Default)]
pub(super) struct Preparing(pub(super) Option<Successor>);

impl Preparing {
    /// Wait until it is ready, or why it will not be; for ever if there is none, or none any more.
    /// May be dropped and begun anew.
    pub(super) async fn ready(&mut self) -> Result<Successor, (Successor, String)> {
        if let Some(successor) = &mut self.0 {
            let outcome = successor.ready().await;
            if let Some(successor) = self.0.take() {
                return match outcome {
                    Ok(()) => Ok(successor),
                    Err(reason) => Err((successor, reason.to_string())),
                };
            }
        }
        pending().await
    }
}

/// What this agent would say of itself if it were to take over.
pub(super) fn claim(options: &AgentOptions) -> Claim {
    let dir = &options.backend.state_dir;
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    Claim {
        hand_over: hand_over::VERSION,
        weft: hand_over::WEFT.to_owned(),
        agent: AgentName::of(options).to_string(),
        state_dir: dir.display().to_string(),
    }
}

/// Tell a successor, and the log, that it comes to nothing.
pub(super) async fn decline(successor: Successor, reason: &str) {
    warn!(
        code = "W0906",
        "{} does not take over: {reason}; this one goes on",
        successor.name()
    );
    successor.refuse(reason).await;
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes share.
pub(super) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, rest) = (now.tv_sec as u64, now.tv_nsec as u64);
    seconds * 1_000_000_000 + rest
}

/// Nanoseconds, for a log.
pub(super) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
