//! Time that the machine spends suspended.
//!
//! Timers and [`std::time::Instant`] go by CLOCK_MONOTONIC, which stands still meanwhile;
//! CLOCK_BOOTTIME goes on (clock_gettime(2)). Neither is moved when the time of day is set.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Differences below this are the time between two readings.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Notices suspends after the fact.
#[derive(Clone, Debug)]
pub(crate) struct SuspendClock {
    /// How far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC.
    ahead: Duration,
}

impl SuspendClock {
    /// Suspends from now on.
    pub(crate) fn start() -> SuspendClock {
        SuspendClock { ahead: ahead() }
    }

    /// How long the machine was suspended since the last call that said so; zero if not.
    pub(crate) fn slept(&mut self) -> Duration {
        self.advance(ahead())
    }

    fn advance(&mut self, ahead: Duration) -> Duration {
        match ahead.checked_sub(self.ahead) {
            Some(slept) if slept >= NOTICEABLE => {
                self.ahead = ahead;
                slept
            }
            _ => Duration::ZERO,
        }
    }
}

/// Since the machine was booted, suspends and all.
pub(crate) fn since_boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

fn ahead() -> Duration {
    since_boot().saturating_sub(duration(clock_gettime(ClockId::Monotonic)))
}

/// Neither clock is ever negative.
fn duration(time: Timespec) -> Duration {
    let (seconds, nanos) = (time.tv_sec.try_into(), time.tv_nsec.try_into());
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_machine_was_not_suspended() {
        assert_eq!(SuspendClock::start().slept(), Duration::ZERO);
    }

    #[test]
    fn each_suspend_is_told_once() {
        let seconds = Duration::from_secs_f64;
        let mut clock = SuspendClock {
            ahead: seconds(5.0),
        };
        assert_eq!(clock.advance(seconds(5.5)), Duration::ZERO);
        assert_eq!(clock.advance(seconds(4.9)), Duration::ZERO);
        assert_eq!(clock.advance(seconds(95.0)), seconds(90.0));
        assert_eq!(clock.advance(seconds(95.0)), Duration::ZERO);
        // Many short ones count, too.
        assert_eq!(clock.advance(seconds(95.6)), Duration::ZERO);
        assert_eq!(clock.advance(seconds(96.2)), seconds(96.2) - seconds(95.0));
    }
}
