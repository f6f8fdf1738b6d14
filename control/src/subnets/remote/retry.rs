//! Trying again until a store grants what is asked for.

use crate::lease::Backoff;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{debug, warn};

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No server answered; it has been logged.
    Unreachable,
    /// A server answered with a refusal.
    Refused(String),
    /// What a server had begun to tell has ended; why.
    Broken(String),
}

/// Pauses between tries. Logs each refusal once.
pub(crate) struct Retry {
    backoff: Backoff,
    longest: Duration,
    /// That of a refusal.
    code: &'static str,
    refusal: Option<String>,
    /// Since when there is what was asked for.
    granted: Option<Instant>,
}

impl Retry {
    /// Pauses that double between these two; refusals are logged with this code.
    pub(crate) fn new((shortest, longest): (Duration, Duration), code: &'static str) -> Retry {
        Retry {
            backoff: Backoff::new(shortest, longest),
            longest,
            code,
            refusal: None,
            granted: None,
        }
    }

    /// What was asked for is there. If it lasts, what ends it is another matter than what failed
    /// before; if not, pauses go on growing.
    pub(crate) fn granted(&mut self, now: Instant) {
        self.granted = Some(now);
    }

    /// Start from the shortest pause again.
    pub(crate) fn reset(&mut self) {
        self.backoff.reset();
        self.refusal = None;
    }

    /// Log a failure, and wait before the next try.
    pub(crate) async fn pause(&mut self, failure: Failure) {
        let pause = self.failed();
        self.note(failure);
        sleep(pause).await;
    }

    /// A try has failed: how long to wait before the next one.
    pub(crate) fn failed(&mut self) -> Duration {
        self.next(rand::random(), Instant::now())
    }

    fn next(&mut self, scatter: f64, now: Instant) -> Duration {
        let lasted = |since| now.duration_since(since) > self.longest;
        if self.granted.take().is_some_and(lasted) {
            self.reset();
        }
        self.backoff.pause(scatter)
    }

    /// Log a refusal unless it is the one logged last.
    pub(crate) fn note(&mut self, failure: Failure) {
        match failure {
            Failure::Unreachable => {}
            Failure::Broken(reason) => debug!("the watch ended: {reason}"),
            Failure::Refused(reason) if self.refusal.as_ref() == Some(&reason) => {}
            Failure::Refused(reason) => {
                warn!(code = self.code, "{reason}; retrying");
                self.refusal = Some(reason);
            }
        }
    }
}

/// Ask again and again until it is granted.
pub(crate) async fn insist<T, F, Fut>(mut retry: Retry, ask: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(failure) => retry.pause(failure).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasted_begins_with_the_shortest_pause_again() {
        let ms = Duration::from_millis;
        let mut retry = Retry::new((ms(100), ms(5000)), "W0202");
        let start = Instant::now();
        // A watch that breaks each time soon after its list.
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry.granted(start);
            pauses.push(retry.next(0.0, start + ms(4_900)));
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(ms));
        // One that has been quiet for days.
        retry.granted(start);
        assert_eq!(retry.next(0.0, start + ms(200_000_000)), ms(100));
        // What follows are failures to get it back.
        assert_eq!(retry.next(0.0, start + ms(400_000_000)), ms(200));
    }
}
