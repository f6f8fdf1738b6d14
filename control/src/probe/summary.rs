//! Round trips in a few numbers.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Of some round trips, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The quickest.
    pub least_seconds: f64,
    /// Half of them took no longer.
    pub median_seconds: f64,
    /// Of a hundred 99 took no longer; of fewer it is the slowest.
    pub p99_seconds: f64,
    /// The slowest.
    pub most_seconds: f64,
}

impl Summary {
    /// Of `times`; `None` if there are none.
    pub fn of(times: &[Duration]) -> Option<Summary> {
        let mut sorted = times.to_vec();
        sorted.sort();
        // The nearest rank.
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map(Duration::as_secs_f64)
        };
        Some(Summary {
            least_seconds: sorted.first()?.as_secs_f64(),
            median_seconds: rank(50)?,
            p99_seconds: rank(99)?,
            most_seconds: sorted.last()?.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_what_was_measured() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[Duration::from_millis(7)]).unwrap();
        assert_eq!((one.median_seconds, one.p99_seconds), (0.007, 0.007));
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_secs).collect();
        let many = Summary::of(&times).unwrap();
        assert_eq!((many.least_seconds, many.most_seconds), (1.0, 200.0));
        assert_eq!((many.median_seconds, many.p99_seconds), (100.0, 198.0));
    }
}
