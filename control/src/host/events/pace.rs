//! How soon to look, so that a storm of changes, or somebody who undoes what is put right, costs a
//! bounded part of the control thread.

use std::time::Duration;
use tokio::time::Instant;

/// How long changes may gather: what one command does comes within it, and nobody notices it.
const GATHER: Duration = Duration::from_millis(50);

/// Looks that may follow each other at once. One repair makes for two or three.
const LOOKS_MAX: u32 = 20;

/// Pause between looks when there have been as many: two a second.
const PAUSE: Duration = Duration::from_millis(500);

/// For how many times its own length there is no other look after one, so that looks take a fifth of
/// the time at most: on a router with a million routes one takes a while.
const REST: u32 = 4;

/// When looks were taken, as far as it matters.
#[derive(Debug)]
pub(super) struct Pace {
    /// Looks that may be taken at once, and when that was so.
    left: u32,
    counted: Instant,
    /// When the rest after the last one is over.
    rested: Instant,
}

impl Pace {
    /// There has been no look.
    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            left: LOOKS_MAX,
            counted: now,
            rested: now,
        }
    }

    /// When to look at what begins to happen `now`.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.count(now);
        let allowed = match self.left {
            0 => self.counted + PAUSE,
            _ => now,
        };
        (now + GATHER).max(self.rested).max(allowed)
    }

    /// A look was taken from `began` to `now`.
    pub(super) fn looked(&mut self, began: Instant, now: Instant) {
        self.count(began);
        self.left = self.left.saturating_sub(1);
        self.rested = now + REST * now.duration_since(began);
    }

    /// Allow one more for each pause that is over.
    fn count(&mut self, now: Instant) {
        let pauses = now.duration_since(self.counted).as_nanos() / PAUSE.as_nanos();
        let pauses = u32::try_from(pauses).unwrap_or(u32::MAX);
        if pauses >= LOOKS_MAX - self.left {
            (self.left, self.counted) = (LOOKS_MAX, now);
        } else {
            self.left += pauses;
            self.counted += pauses * PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many looks of this length there are within this time if something happens all the time.
    fn looks_within(limit: Duration, length: Duration) -> u32 {
        let start = Instant::now();
        let (mut pace, mut now, mut looks) = (Pace::new(start), start, 0);
        loop {
            let due = pace.next(now);
            if due - start >= limit {
                return looks;
            }
            (now, looks) = (due + length, looks + 1);
            pace.looked(due, now);
        }
    }

    #[test]
    fn what_happens_after_a_quiet_time_is_looked_at_when_all_of_it_has_come() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.next(start), start + GATHER);
        pace.looked(start + GATHER, start + GATHER);
        assert_eq!(pace.next(start + SECOND), start + SECOND + GATHER);
    }

    #[test]
    fn a_storm_has_a_few_looks_and_then_two_a_second() {
        assert!(looks_within(SECOND, Duration::ZERO) >= 15);
        let hour = 3_600;
        let looks = looks_within(hour * SECOND, Duration::ZERO);
        assert!(
            (2 * hour - 2..=2 * hour + LOOKS_MAX).contains(&looks),
            "{looks}"
        );
    }

    #[test]
    fn looks_that_take_long_take_a_fifth_of_the_time() {
        let looks = looks_within(1_000 * SECOND, SECOND);
        assert!((195..=200).contains(&looks), "{looks}");
    }

    #[test]
    fn a_quiet_time_gives_back_no_more_than_there_were() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..2 * LOOKS_MAX {
            pace.looked(start, start);
        }
        assert_eq!(pace.next(start), start + PAUSE);
        assert_eq!(pace.next(start + PAUSE), start + PAUSE + GATHER);
        pace.count(start + 3_600 * SECOND);
        assert_eq!(pace.left, LOOKS_MAX);
    }
}
