//! How long things may take.

use crate::lease::Backoff;
use crate::subnets::remote::Retry;
use std::time::Duration;

/// Intervals; the defaults are flannel's where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lives without renewal, in whole seconds.
    pub lease_ttl: Duration,
    /// Pause after a renewal that failed, while the lease lives.
    pub renew_retry: Duration,
    /// How long a server that is asked may be silent; an answer may take longer.
    pub request_timeout: Duration,
    /// Silence after which a server in use is asked for a sign of life; it is given half as
    /// long to answer. etcd closes connections that ask more often than each 5 s.
    pub keep_alive: Duration,
    /// First pause before trying again.
    pub backoff_min: Duration,
    /// Longest pause before trying again; it doubles up to here.
    pub backoff_max: Duration,
    /// How long nodes are sent to that a list does not name any more: longer than a node that
    /// lives takes to see that its lease is gone and to write it again, even if it has to notice first
    /// that its server is gone.
    pub absence: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            lease_ttl: Duration::from_secs(86_400),
            renew_retry: Duration::from_secs(60),
            request_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            absence: Duration::from_secs(30),
        }
    }
}

impl Timing {
    /// The pauses while something cannot be done without.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.backoff_min, self.backoff_max)
    }

    /// Tries with these pauses.
    pub(super) fn retry(&self) -> Retry {
        Retry::new((self.backoff_min, self.backoff_max), "W0202")
    }
}
