//! The times that are remembered, whatever is done to the host's clock.
//!
//! People and programs set the time of day. Nobody sets the time since the boot, but it ends with
//! that. So what is remembered are times of day, which are moved as the clock was: while the
//! node runs, and at a start in the boot in which they were written.

use crate::suspend;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What two readings in whole seconds may differ by without anybody having set a clock.
const ROUNDING: u64 = 2;

/// The clocks of the host at one moment, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The time of day: since 1970.
    pub(super) now: u64,
    /// Since the boot, suspends and all.
    pub(super) up: u64,
}

impl Clock {
    pub(super) fn read() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Clock {
            now: since.unwrap_or_default().as_secs(),
            up: suspend::since_boot().as_secs(),
        }
    }

    /// By how much the time of day was set between a moment of the same boot and this one.
    pub(super) fn set_since(self, before: Clock) -> i64 {
        let ahead = |clock: Clock| signed(clock.now).saturating_sub(signed(clock.up));
        let set = ahead(self).saturating_sub(ahead(before));
        if set.unsigned_abs() <= ROUNDING {
            0
        } else {
            set
        }
    }
}

fn signed(seconds: u64) -> i64 {
    seconds.try_into().unwrap_or(i64::MAX)
}

/// A moment of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SinceBoot {
    /// The kernel's name for the boot.
    id: String,
    /// Seconds since then.
    up: u64,
}

impl SinceBoot {
    /// This moment; `None` where the kernel gives boots no names.
    pub(super) fn at(clock: Clock) -> Option<SinceBoot> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(SinceBoot {
            id: id.trim().to_owned(),
            up: clock.up,
        })
    }

    /// By how much the time of day was set since this moment, at which it was `then`; 0 if
    /// that cannot be known, as after a boot.
    pub(super) fn set_since(&self, then: u64, now: Clock) -> i64 {
        let is_same = SinceBoot::at(now).is_some_and(|this| this.id == self.id);
        let before = Clock {
            now: then,
            up: self.up,
        };
        match is_same && self.up <= now.up {
            true => now.set_since(before),
            false => 0,
        }
    }
}

/// When an instant is, or was, by the time of day, in seconds since 1970.
pub(super) fn seconds_at(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now()).as_secs();
    let past = Instant::now().saturating_duration_since(at).as_secs();
    (Clock::read().now + left).saturating_sub(past)
}

/// The instant of a time of day; what is over is now.
pub(super) fn instant_at(seconds: u64) -> Instant {
    let left = Duration::from_secs(seconds.saturating_sub(Clock::read().now));
    let now = Instant::now();
    now.checked_add(left).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn the_end_of_a_lease_is_the_same_moment_on_both_clocks() {
        let (now, seconds) = (Instant::now(), Clock::read().now);
        for hours in [0, 1, 24] {
            let at = now + Duration::from_secs(hours * HOUR);
            let told = seconds_at(at);
            assert!(told.abs_diff(seconds + hours * HOUR) <= 2, "{hours}");
            let again = instant_at(told);
            let apart = again.max(at) - again.min(at);
            assert!(apart < Duration::from_secs(3), "{apart:?}");
        }
        assert!(instant_at(seconds - HOUR) <= Instant::now(), "over is now");
    }

    #[test]
    fn a_clock_that_is_set_differs_from_one_that_runs() {
        let before = Clock { now: 1000, up: 10 };
        let at = |now, up| Clock { now, up }.set_since(before);
        assert_eq!(at(1000 + HOUR, 10 + HOUR), 0, "it has run");
        assert_eq!(at(1002 + HOUR, 10 + HOUR), 0, "rounded");
        assert_eq!(at(1000 + 3 * HOUR, 10 + HOUR), 7200);
        assert_eq!(at(400, 10), -600);
        // Whatever a file says.
        for (now, up) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            at(now, up);
            before.set_since(Clock { now, up });
        }
    }

    #[test]
    fn what_was_before_a_boot_is_not_compared() {
        let now = Clock::read();
        let earlier = Clock {
            now: now.now - 100,
            up: now.up - 10,
        };
        let Some(here) = SinceBoot::at(earlier) else {
            return eprintln!("skipped: boots have no names here");
        };
        assert_eq!(here.set_since(earlier.now, now), 90);
        let other = SinceBoot {
            id: "another".to_owned(),
            ..here.clone()
        };
        assert_eq!(other.set_since(earlier.now, now), 0);
        let later = SinceBoot {
            up: now.up + HOUR,
            ..here
        };
        assert_eq!(later.set_since(earlier.now, now), 0);
    }
}
