//! So many lines of one kind at a time: what is said again and again must not fill a disk, nor hide
//! what is said once.

use std::time::Duration;

/// After this, lines of a kind may be said again.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines of a kind in a window: each of a cluster's racks may have its own.
const FIRST: u32 = 20;

/// The same in a window that follows one in which lines were left out.
const AGAIN: u32 = 10;

/// What has been said, for each kind of line. Its memory is that of the start.
pub(super) struct Limiter {
    kinds: Vec<Kind>,
}

#[derive(Clone, Default)]
struct Kind {
    /// When the window began; none: nothing has been said.
    since: Option<Duration>,
    /// How many lines this window has room for.
    room: u32,
    left_out: u32,
}

/// What a window did not say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The number of the kind.
    pub(super) kind: usize,
    /// How many lines.
    pub(super) lines: u32,
    /// In this time.
    pub(super) time: Duration,
}

impl Limiter {
    /// For so many kinds of lines.
    pub(super) fn new(kinds: usize) -> Limiter {
        Limiter {
            kinds: vec![Kind::default(); kinds],
        }
    }

    /// The windows that have ended by `now`, a time since some start, and left lines out; each once.
    pub(super) fn ended(&mut self, now: Duration) -> impl Iterator<Item = LeftOut> {
        let kinds = self.kinds.iter_mut().enumerate();
        kinds.filter_map(move |(index, kind)| {
            let time = now.saturating_sub(kind.since?);
            if time < WINDOW || kind.left_out == 0 {
                return None;
            }
            let lines = std::mem::take(&mut kind.left_out);
            (kind.since, kind.room) = (Some(now), AGAIN);
            Some(LeftOut {
                kind: index,
                lines,
                time,
            })
        })
    }

    /// Whether a line of this kind may be said at `now`.
    pub(super) fn admits(&mut self, kind: usize, now: Duration) -> bool {
        let Some(kind) = self.kinds.get_mut(kind) else {
            return true;
        };
        let is_over = |since| now.saturating_sub(since) >= WINDOW;
        if kind.since.is_none_or(is_over) {
            (kind.since, kind.room) = (Some(now), FIRST);
        }
        let admitted = kind.room > 0;
        match admitted {
            true => kind.room -= 1,
            false => kind.left_out = kind.left_out.saturating_add(1),
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many of `lines` a second from `from` to `to` are said, and what is told of the others.
    fn storm(limiter: &mut Limiter, from: u64, to: u64, lines: usize) -> (usize, Vec<LeftOut>) {
        let (mut said, mut told) = (0, Vec::new());
        for now in (from..to).map(seconds) {
            told.extend(limiter.ended(now));
            said += (0..lines).filter(|_| limiter.admits(0, now)).count();
        }
        (said, told)
    }

    #[test]
    fn a_storm_is_a_burst_and_then_a_few_lines_and_a_count_each_minute() {
        let mut limiter = Limiter::new(1);
        assert_eq!(storm(&mut limiter, 0, 60, 100), (20, vec![]));
        let (said, told) = storm(&mut limiter, 60, 180, 100);
        assert_eq!(said, 20, "ten a minute");
        let counts: Vec<_> = told.iter().map(|left| (left.lines, left.time)).collect();
        assert_eq!(counts, [(5980, seconds(60)), (5990, seconds(60))]);
        assert_eq!(
            limiter
                .ended(seconds(240))
                .map(|left| left.lines)
                .sum::<u32>(),
            5990
        );
    }

    #[test]
    fn what_was_left_out_is_told_once_whenever_something_is_said_next() {
        let mut limiter = Limiter::new(2);
        assert_eq!(storm(&mut limiter, 0, 1, 77).0, 20);
        assert_eq!(limiter.ended(seconds(59)).count(), 0);
        let told: Vec<_> = limiter.ended(seconds(3600)).collect();
        let left = LeftOut {
            kind: 0,
            lines: 57,
            time: seconds(3600),
        };
        assert_eq!(told, [left]);
        assert_eq!(limiter.ended(seconds(7200)).count(), 0);
    }

    #[test]
    fn a_quiet_minute_brings_the_burst_back() {
        let mut limiter = Limiter::new(1);
        storm(&mut limiter, 0, 1, 100);
        assert_eq!(storm(&mut limiter, 60, 61, 100).0, 10);
        assert_eq!(limiter.ended(seconds(120)).count(), 1);
        assert_eq!(storm(&mut limiter, 180, 181, 100).0, 20);
        assert_eq!(storm(&mut limiter, 181, 182, 100).0, 0);
    }

    #[test]
    fn one_kind_takes_no_room_from_another() {
        let mut limiter = Limiter::new(2);
        storm(&mut limiter, 0, 1, 100);
        assert!(limiter.admits(1, seconds(0)));
        assert!(!limiter.admits(0, seconds(0)));
    }
}
