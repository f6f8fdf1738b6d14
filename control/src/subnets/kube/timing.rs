//! How long things may take.

use crate::subnets::remote::Retry;
use std::time::Duration;

/// Intervals; the defaults are for clusters of thousands of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeTiming {
    /// How long the server may be silent while it owes something.
    pub request_timeout: Duration,
    /// How long a watch goes on before the server ends it; half of that is added at random, so that
    /// the nodes of a cluster do not come back at once.
    pub watch: Duration,
    /// Pause between two looks at the files with credentials.
    pub reread: Duration,
    /// Pause between two looks whether the cluster knows this node and its subnet by now.
    pub wait: Duration,
    /// Pause between two times that this node writes its annotations because somebody else has
    /// changed them.
    pub rewrite: Duration,
    /// First pause before trying again.
    pub backoff_min: Duration,
    /// Longest pause before trying again; it doubles up to here.
    pub backoff_max: Duration,
}

impl Default for KubeTiming {
    fn default() -> KubeTiming {
        KubeTiming {
            request_timeout: Duration::from_secs(10),
            watch: Duration::from_secs(400),
            reread: Duration::from_secs(10),
            wait: Duration::from_secs(2),
            rewrite: Duration::from_secs(60),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }
}

impl KubeTiming {
    /// Tries with these pauses.
    pub(super) fn retry(&self) -> Retry {
        Retry::new((self.backoff_min, self.backoff_max), "W1002")
    }
}
