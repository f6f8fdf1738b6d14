//! How a store has answered so far.

use crate::status::StoreHealth;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Upper bounds in seconds that answers are sorted by: from what a server near by takes to the
/// time after which none is waited for.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Answers whose time is told one by one.
const LATEST: usize = 16;

/// The answers to all requests.
#[derive(Default)]
pub(super) struct Pulse {
    requests: u64,
    failures: u64,
    answered: Option<Instant>,
    latest: VecDeque<Duration>,
    sum: Duration,
    within: [u64; BOUNDS.len()],
}

impl Pulse {
    /// A request that had begun then was answered at `now`.
    pub(super) fn answered(&mut self, begun: Instant, now: Instant) {
        let took = now.saturating_duration_since(begun);
        self.requests += 1;
        self.answered = Some(now);
        self.sum += took;
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
        let bound = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        if let Some(bound) = bound {
            self.within[bound] += 1;
        }
    }

    /// A request was answered by no server.
    pub(super) fn failed(&mut self) {
        self.requests += 1;
        self.failures += 1;
    }

    /// What there is to tell at `now`; `outage`: the last request was answered by none.
    pub(super) fn health(&self, outage: bool, now: Instant) -> StoreHealth {
        let ago = |at| now.saturating_duration_since(at).as_secs_f64();
        StoreHealth {
            reachable: !outage && self.answered.is_some(),
            answered_seconds_ago: self.answered.map(ago),
            latest_seconds: self.latest.iter().map(Duration::as_secs_f64).collect(),
            requests: self.requests,
            failures: self.failures,
            answer_seconds: self.sum.as_secs_f64(),
            answers_within: BOUNDS.into_iter().zip(self.within).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_how_long_they_took() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        let ms = Duration::from_millis;
        let health = pulse.health(false, start);
        assert_eq!(
            (health.answered_seconds_ago, health.reachable),
            (None, false)
        );
        for took in [0, 1, 7, 7000] {
            pulse.answered(start, start + ms(took));
        }
        pulse.failed();
        let health = pulse.health(true, start + ms(9000));
        assert_eq!((health.requests, health.failures), (5, 1));
        assert_eq!(health.answered_seconds_ago, Some(2.0));
        assert_eq!(health.latest_seconds, [0.0, 0.001, 0.007, 7.0]);
        assert_eq!(health.answer_seconds, 7.008);
        let within: Vec<u64> = health.answers_within.iter().map(|(_, n)| *n).collect();
        assert_eq!(within, [2, 0, 1, 0, 0, 0, 0, 0], "the slowest is in none");
        assert!(!health.reachable);
    }

    #[test]
    fn only_the_latest_are_told_one_by_one() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        for took in 0..100 {
            pulse.answered(start, start + Duration::from_secs(took));
        }
        let health = pulse.health(false, start);
        assert!(health.reachable);
        assert_eq!(health.latest_seconds.len(), LATEST);
        assert_eq!(health.latest_seconds.last(), Some(&99.0));
        assert_eq!(health.requests, 100);
    }
}
