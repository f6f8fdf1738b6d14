//! When the own lease is to be renewed, and when it is over.

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
    },
    /// The key holds another node's lease.
    Taken {
        /// That node's public address.
        by: IpAddr,
    },
}

/// Why a lease is no longer this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseEnd {
    /// Someone deleted the key: the operators' way to take a node out.
    #[error("the lease was revoked")]
    Revoked,
    /// It could not be renewed in time and the store dropped it.
    #[error("the lease expired before it could be renewed")]
    Expired,
    /// Another node holds the subnet.
    #[error("the subnet is leased by {by}")]
    Taken {
        /// That node's public address.
        by: IpAddr,
    },
}

/// The schedule of one lease: renew `margin` before its end; after a failure try again every
/// `retry`, for ever, since only the store can say that a lease is over.
#[derive(Clone, Debug)]
pub struct Keeper {
    margin: Duration,
    retry: Duration,
    expires: Option<Instant>,
    due: Option<Instant>,
}

impl Keeper {
    /// A schedule for a lease that ends at `expires`; `None`: it never does.
    pub fn new(
        expires: Option<Instant>,
        margin: Duration,
        retry: Duration,
        now: Instant,
    ) -> Keeper {
        let mut keeper = Keeper {
            margin,
            retry,
            expires: None,
            due: None,
        };
        keeper.extended(expires, now);
        keeper
    }

    /// When to renew; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The lease's end has moved.
    pub fn extended(&mut self, expires: Option<Instant>, now: Instant) {
        self.expires = expires;
        self.due = expires.map(|expires| {
            let left = expires.saturating_duration_since(now);
            // A lease shorter than the margin would be renewed without a pause.
            let pause = self.retry.min(left / 3);
            now + left.saturating_sub(self.margin).max(pause)
        });
    }

    /// A renewal did not reach the store.
    pub fn failed(&mut self, now: Instant) {
        self.due = self.expires.map(|_| now + self.retry);
    }

    /// Take in what the store says; `Some` if the lease is over.
    pub fn observe(&mut self, seen: &Seen, now: Instant) -> Option<LeaseEnd> {
        match *seen {
            Seen::Own { expires } => {
                self.extended(expires, now);
                None
            }
            Seen::Taken { by } => Some(LeaseEnd::Taken { by }),
            Seen::Absent if self.expires.is_some_and(|expires| expires <= now) => {
                Some(LeaseEnd::Expired)
            }
            Seen::Absent => Some(LeaseEnd::Revoked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn keeper(now: Instant) -> Keeper {
        Keeper::new(Some(now + 24 * HOUR), HOUR, MINUTE, now)
    }

    #[test]
    fn renewal_is_due_one_margin_before_the_end() {
        let now = Instant::now();
        assert_eq!(keeper(now).due(), Some(now + 23 * HOUR));
    }

    #[test]
    fn the_widest_margin_renews_every_minute() {
        let now = Instant::now();
        let keeper = Keeper::new(Some(now + 24 * HOUR), 1439 * MINUTE, MINUTE, now);
        assert_eq!(keeper.due(), Some(now + MINUTE));
    }

    #[test]
    fn failures_are_retried_each_minute_even_past_the_end() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        for hours in [23, 24, 48] {
            keeper.failed(now + hours * HOUR);
            assert_eq!(keeper.due(), Some(now + hours * HOUR + MINUTE));
        }
        let seen = Seen::Own {
            expires: Some(now + 72 * HOUR),
        };
        assert_eq!(keeper.observe(&seen, now + 48 * HOUR), None);
        assert_eq!(keeper.due(), Some(now + 71 * HOUR));
    }

    #[test]
    fn a_lease_shorter_than_the_margin_is_renewed_with_pauses() {
        let now = Instant::now();
        let keeper = Keeper::new(Some(now + MINUTE), HOUR, MINUTE, now);
        assert_eq!(keeper.due(), Some(now + Duration::from_secs(20)));
    }

    #[test]
    fn a_reservation_is_never_renewed_but_can_be_revoked() {
        let now = Instant::now();
        let mut keeper = Keeper::new(None, HOUR, MINUTE, now);
        assert_eq!(keeper.due(), None);
        keeper.failed(now);
        assert_eq!(keeper.due(), None);
        assert_eq!(
            keeper.observe(&Seen::Absent, now + 100 * HOUR),
            Some(LeaseEnd::Revoked)
        );
    }

    #[test]
    fn absence_means_revoked_before_the_end_and_expired_after() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        let before = keeper.observe(&Seen::Absent, now + HOUR);
        let after = keeper.observe(&Seen::Absent, now + 24 * HOUR);
        assert_eq!(before, Some(LeaseEnd::Revoked));
        assert_eq!(after, Some(LeaseEnd::Expired));
    }

    #[test]
    fn another_nodes_lease_ends_ours() {
        let now = Instant::now();
        let by = IpAddr::from([192, 0, 2, 9]);
        let end = keeper(now).observe(&Seen::Taken { by }, now);
        assert_eq!(end, Some(LeaseEnd::Taken { by }));
    }
}
