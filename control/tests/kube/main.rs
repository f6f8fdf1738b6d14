//! The subnet manager on the Kubernetes API against the lab's API server.

// Helpers of tests are not seen as tests by clippy.toml's allow-unwrap-in-tests.
#![allow(clippy::unwrap_used)]

mod acquire;
mod keep;
mod lab;
mod outage;
mod scale;
mod watch;

use std::time::Duration;
use tokio::time::timeout;

/// Longest that anything may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest that something is watched for not happening.
const QUIET: Duration = Duration::from_millis(500);

/// The outcome of a future that must not take long.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}
