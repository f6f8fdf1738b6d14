//! When the own lease is to be renewed, and when it is over.

use super::{Backoff, SubnetKey};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What the store says about the own lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing is stored under the key.
    Absent,
    /// The key holds this node's lease.
    Own {
        /// When the store drops it; `None`: never (a reservation).
        expires: Option<Instant>,
        /// Whether the value is the one that this node wrote.
        intact: bool,
    },
    /// The key holds another node's lease.
    Taken {
        /// That node's public address.
        by: IpAddr,
    },
    /// The key is gone, and one whose value cannot be read has some of its addresses.
    Overlapped {
        /// That key.
        by: SubnetKey,
    },
}

impl LeaseEnd {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            LeaseEnd::Revoked => "W0318",
            LeaseEnd::Changed { .. } => "W0319",
            LeaseEnd::Outdated => "W0320",
            LeaseEnd::Reassigned => "W1013",
            LeaseEnd::Taken { .. } => "W0321",
            LeaseEnd::Overlapped { .. } => "W0322",
        }
    }
}

/// How a lease got lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It was not renewed in time.
    Expired,
    /// Someone deleted its key.
    Deleted,
    /// Someone deleted its key, which would have stayed for ever.
    ReservationDeleted,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Expired => "has expired",
            Loss::Deleted => "was deleted",
            Loss::ReservationDeleted => "was deleted, and it was a reservation",
        })
    }
}

/// Why a lease is no longer this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseEnd {
    /// Who decides about leases has taken it away.
    #[error("the lease was revoked")]
    Revoked,
    /// It says something else than this node does.
    #[error("this node's entry in the subnets file has another {key}")]
    Changed {
        /// What differs.
        key: &'static str,
    },
    /// The cluster has given the node other subnets.
    #[error("the cluster has given this node another podCIDR")]
    Reassigned,
    /// It was gone by from memory, and the store says something else.
    #[error("what was remembered of the lease is outdated")]
    Outdated,
    /// Another node holds the subnet.
    #[error("the subnet is leased by {by}")]
    Taken {
        /// That node's public address.
        by: IpAddr,
    },
    /// A lease that cannot be read has some of its addresses.
    #[error("the lease {by}, whose value cannot be read, overlaps the subnet")]
    Overlapped {
        /// Its key.
        by: SubnetKey,
    },
}

/// The schedule of one lease: renew `margin` before its end; after a failure try again every
/// `retry`, for ever, since only the store can say that a lease is over. A value that someone
/// else wrote is written back at once, but at most every `retry`: two nodes that share an
/// address by mistake would else never stop.
///
/// A lease that is lost, past its end or written over cuts the node off: what fails then is
/// tried again like the first lease, by `backoff`.
#[derive(Clone, Debug)]
pub struct Keeper {
    margin: Duration,
    retry: Duration,
    backoff: Backoff,
    expires: Option<Instant>,
    due: Option<Instant>,
    /// When this node last wrote the lease.
    written: Instant,
    /// Whether the key was last heard to be gone, which may be old news.
    absent: bool,
    /// How the lease got lost, since it is sure that it did; `None` while the node has it.
    lost: Option<Loss>,
    /// Whether the value is the one that this node wrote.
    intact: bool,
}

impl Keeper {
    /// A schedule for a lease that ends at `expires`; `None`: it never does.
    pub fn new(
        expires: Option<Instant>,
        margin: Duration,
        retry: Duration,
        backoff: Backoff,
        now: Instant,
    ) -> Keeper {
        let mut keeper = Keeper {
            margin,
            retry,
            backoff,
            expires: None,
            due: None,
            written: now,
            absent: false,
            lost: None,
            intact: true,
        };
        keeper.extended(expires, now);
        keeper
    }

    /// When to renew; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The lease's end has moved.
    fn extended(&mut self, expires: Option<Instant>, now: Instant) {
        self.expires = expires;
        self.due = expires.map(|expires| {
            let left = expires.saturating_duration_since(now);
            // A lease shorter than the margin would be renewed without a pause.
            let pause = self.retry.min(left / 3);
            now + left.saturating_sub(self.margin).max(pause)
        });
    }

    /// This node has written the lease.
    pub fn written(&mut self, now: Instant) {
        self.written = now;
    }

    /// A write did not reach the store. `scatter`, from 0 to 1, is for [`Backoff::pause`].
    pub fn failed(&mut self, now: Instant, scatter: f64) {
        let lives = !self.absent && self.intact && self.expires.is_none_or(|expires| expires > now);
        self.due = Some(match lives {
            true => now + self.retry,
            false => now + self.backoff.pause(scatter),
        });
    }

    /// Time went by that the clock of `now` does not show: the machine was suspended.
    pub fn slept(&mut self, time: Duration, now: Instant) {
        // Both stay at or before `now` if there is no earlier instant.
        let earlier = |at: Instant| at.checked_sub(time).unwrap_or(now.min(at));
        self.expires = self.expires.map(earlier);
        self.due = self.due.map(earlier);
    }

    /// Take in that the key holds this node's lease, which ends at `expires`. How it had been
    /// lost, if it had.
    pub fn observe(
        &mut self,
        expires: Option<Instant>,
        intact: bool,
        now: Instant,
    ) -> Option<Loss> {
        self.extended(expires, now);
        self.absent = false;
        self.intact = intact;
        if intact {
            self.backoff.reset();
        } else {
            let soonest = now.max(self.written + self.retry);
            self.due = Some(self.due.map_or(soonest, |due| due.min(soonest)));
        }
        self.lost.take()
    }

    /// Take in that the key is said to be gone.
    pub fn absent(&mut self) {
        self.absent = true;
    }

    /// Take in that the key is gone.
    pub fn lost(&mut self, now: Instant) {
        self.absent = true;
        self.lost.get_or_insert(match self.expires {
            None => Loss::ReservationDeleted,
            Some(expires) if expires <= now => Loss::Expired,
            Some(_) => Loss::Deleted,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    const SECOND: Duration = Duration::from_secs(1);

    fn keeper(now: Instant) -> Keeper {
        with(Some(24 * HOUR), HOUR, now)
    }

    fn with(life: Option<Duration>, margin: Duration, now: Instant) -> Keeper {
        let backoff = Backoff::new(SECOND / 10, 5 * SECOND);
        Keeper::new(life.map(|life| now + life), margin, MINUTE, backoff, now)
    }

    fn how_lost(keeper: &mut Keeper) -> Option<Loss> {
        keeper.observe(None, true, Instant::now())
    }

    /// How long after each of so many failures in a row it is tried again.
    fn pauses(keeper: &mut Keeper, mut now: Instant, failures: usize) -> Vec<Duration> {
        let mut pause = || {
            keeper.failed(now, 0.0);
            let pause = keeper.due().unwrap() - now;
            now += pause;
            pause
        };
        (0..failures).map(|_| pause()).collect()
    }

    #[test]
    fn renewal_is_due_one_margin_before_the_end() {
        let now = Instant::now();
        assert_eq!(keeper(now).due(), Some(now + 23 * HOUR));
    }

    #[test]
    fn the_widest_margin_renews_every_minute() {
        let now = Instant::now();
        let keeper = with(Some(24 * HOUR), 1439 * MINUTE, now);
        assert_eq!(keeper.due(), Some(now + MINUTE));
    }

    #[test]
    fn a_lease_that_lives_is_retried_each_minute_and_one_past_its_end_as_at_a_start() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        assert_eq!(pauses(&mut keeper, now + 23 * HOUR, 3), [MINUTE; 3]);
        for hours in [24, 48] {
            let pauses = pauses(&mut keeper, now + hours * HOUR, 9);
            assert_eq!(pauses[8], 5 * SECOND);
        }
        keeper.observe(Some(now + 72 * HOUR), true, now + 48 * HOUR);
        assert_eq!(keeper.due(), Some(now + 71 * HOUR));
        assert_eq!(pauses(&mut keeper, now + 71 * HOUR, 2), [MINUTE; 2]);
    }

    #[test]
    fn a_lost_lease_is_tried_for_as_at_a_start() {
        let now = Instant::now();
        let expires = Some(now + 24 * HOUR);
        let mut keeper = keeper(now);
        for _ in 0..2 {
            keeper.lost(now);
            let pauses = pauses(&mut keeper, now, 8);
            let tenths = [1, 2, 4, 8, 16, 32, 50, 50].map(|tenths| tenths * SECOND / 10);
            assert_eq!(pauses, tenths);
            assert_eq!(keeper.observe(expires, true, now), Some(Loss::Deleted));
        }
        keeper.lost(now);
        keeper.failed(now, 1.0);
        assert_eq!(keeper.due(), Some(now + 3 * SECOND / 40));
        // What was said of it was old news.
        keeper.observe(expires, true, now);
        keeper.absent();
        assert_eq!(pauses(&mut keeper, now, 1), [SECOND / 10]);
        assert_eq!(keeper.observe(expires, true, now), None);
        // Back again, and only a renewal fails.
        keeper.observe(expires, true, now);
        assert_eq!(pauses(&mut keeper, now, 2), [MINUTE; 2]);
    }

    #[test]
    fn a_lease_shorter_than_the_margin_is_renewed_with_pauses() {
        let now = Instant::now();
        let keeper = with(Some(MINUTE), HOUR, now);
        assert_eq!(keeper.due(), Some(now + 20 * SECOND));
    }

    #[test]
    fn a_reservation_is_never_renewed() {
        let now = Instant::now();
        let mut keeper = with(None, HOUR, now);
        assert_eq!(keeper.due(), None);
        keeper.observe(None, true, now + 100 * HOUR);
        assert_eq!(keeper.due(), None);
        // To take it again is tried until it works.
        keeper.lost(now);
        assert_eq!(pauses(&mut keeper, now, 9)[8], 5 * SECOND);
        let loss = keeper.observe(Some(now + HOUR), true, now);
        assert_eq!(loss, Some(Loss::ReservationDeleted));
    }

    #[test]
    fn a_lost_lease_was_deleted_before_its_end_and_expired_after() {
        let now = Instant::now();
        for (hours, loss) in [(1, Loss::Deleted), (24, Loss::Expired)] {
            let mut keeper = keeper(now);
            keeper.lost(now + hours * HOUR);
            assert_eq!(how_lost(&mut keeper), Some(loss));
        }
    }

    #[test]
    fn a_foreign_value_is_written_back_at_once_but_not_over_and_over() {
        let now = Instant::now();
        let expires = Some(now + 24 * HOUR);
        let mut keeper = keeper(now);
        keeper.observe(expires, false, now + HOUR);
        assert_eq!(keeper.due(), Some(now + HOUR));
        keeper.written(now + HOUR);
        keeper.observe(expires, true, now + HOUR);
        assert_eq!(keeper.due(), Some(now + 23 * HOUR));
        keeper.observe(expires, false, now + HOUR);
        assert_eq!(keeper.due(), Some(now + HOUR + MINUTE));
        // Peers may not find the node by it, so a failure is not left for a minute.
        assert_eq!(
            pauses(&mut keeper, now + HOUR, 2),
            [SECOND / 10, SECOND / 5]
        );
        // A reservation has no other reason to be written.
        keeper.observe(None, false, now + 2 * HOUR);
        assert_eq!(keeper.due(), Some(now + 2 * HOUR));
    }

    #[test]
    fn a_suspended_machine_renews_when_it_wakes() {
        let now = Instant::now() + 48 * HOUR;
        let mut keeper = keeper(now);
        keeper.slept(10 * HOUR, now + HOUR);
        assert_eq!(keeper.due(), Some(now + 13 * HOUR));
        keeper.slept(20 * HOUR, now + 2 * HOUR);
        assert!(keeper.due() < Some(now + 2 * HOUR));
        keeper.lost(now + 2 * HOUR);
        assert_eq!(how_lost(&mut keeper.clone()), Some(Loss::Expired));
        // Longer than the clock has run.
        keeper.slept(Duration::MAX, now + 2 * HOUR);
        assert!(keeper.due() < Some(now + 2 * HOUR));
    }
}
