//! What stores that are asked over a network have in common: outages, refusals and pauses.

mod pulse;
mod reach;
mod retry;

pub(crate) use reach::Reach;
pub(crate) use retry::{Failure, Retry, insist};

use std::time::Instant;

/// Wait for a moment; for ever if there is none.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
