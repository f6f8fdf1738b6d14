//! How many queues a TUN device has.

use crate::sys::shares::SHARES;

/// The most queues the kernel allows (`MAX_TAP_QUEUES`).
pub const MAX_QUEUES: usize = 256;

/// How many queues a device has, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Groups of queues, each for one worker; 1 to [`MAX_QUEUES`].
    pub lanes: usize,
    /// Queues of each.
    pub shares: usize,
}

impl Queues {
    /// A queue for each lane.
    pub fn single(lanes: usize) -> Queues {
        Queues { lanes, shares: 1 }
    }

    /// [`SHARES`] for each lane, or as many as the kernel allows.
    pub fn shared(lanes: usize) -> Queues {
        let shares = (MAX_QUEUES / lanes.max(1)).clamp(1, SHARES);
        Queues { lanes, shares }
    }

    /// How many in all.
    pub fn count(self) -> usize {
        self.lanes.saturating_mul(self.shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_what_queues_the_kernel_allows() {
        let counts = [1, 2, 32, 33, 64, 128, 129, 256].map(Queues::shared);
        let counts = counts.map(|queues| (queues.shares, queues.count()));
        let expected = [
            (8, 8),
            (8, 16),
            (8, 256),
            (7, 231),
            (4, 256),
            (2, 256),
            (1, 129),
            (1, 256),
        ];
        assert_eq!(counts, expected);
    }
}
