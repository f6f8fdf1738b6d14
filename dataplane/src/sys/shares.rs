//! Several queues for each worker, so that who floods fills one of them and not all.

/// Queues of each worker, on either side; a power of two. So many bound the memory that floods can
/// take, and one pod or peer in so many shares its queue with one that floods.
pub const SHARES: usize = 8;

/// The queues of one worker, which take turns to be read.
pub(super) struct Shares<T> {
    shares: Vec<Share<T>>,
    /// The one that is read before all others the next time.
    first: usize,
}

/// A queue, and whether there may be something to read.
struct Share<T> {
    queue: T,
    ready: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The number of the queue.
    pub(super) share: usize,
    /// No other has anything to read, as far as is known.
    pub(super) alone: bool,
}

impl<T> Shares<T> {
    /// All of these, of which each may have something to read.
    pub(super) fn new(queues: impl IntoIterator<Item = T>) -> Shares<T> {
        let shares = queues.into_iter().map(|queue| Share { queue, ready: true });
        Shares {
            shares: shares.collect(),
            first: 0,
        }
    }

    /// Whose turn it is; nobody's if all are empty.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        let count = self.shares.len();
        let turns = (self.first..count).chain(0..self.first);
        let mut ready = turns.filter(|&share| self.shares[share].ready);
        let share = ready.next()?;
        let alone = ready.next().is_none();
        self.first = (share + 1) % count;
        Some(Turn { share, alone })
    }

    /// Queue number `share`.
    pub(super) fn queue(&self, share: usize) -> &T {
        &self.shares[share].queue
    }

    /// Whether there may be something to read from queue number `share`.
    pub(super) fn set_ready(&mut self, share: usize, ready: bool) {
        if let Some(share) = self.shares.get_mut(share) {
            share.ready = ready;
        }
    }

    /// Whether all were empty when they were last read.
    pub(super) fn are_empty(&self) -> bool {
        !self.shares.iter().any(|share| share.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_something_take_turns_and_the_rest_is_passed_over() {
        let mut shares = Shares::new(["a", "b", "c", "d"]);
        assert!(!shares.are_empty());
        shares.set_ready(1, false);
        let turns: Vec<_> = (0..5).filter_map(|_| shares.next_turn()).collect();
        let numbers = turns.iter().map(|turn| turn.share);
        assert_eq!(numbers.collect::<Vec<_>>(), [0, 2, 3, 0, 2]);
        assert!(turns.iter().all(|turn| !turn.alone));
        shares.set_ready(0, false);
        shares.set_ready(2, false);
        let alone = |share| Some(Turn { share, alone: true });
        assert_eq!(shares.next_turn(), alone(3));
        assert_eq!(shares.next_turn(), alone(3));
        shares.set_ready(3, false);
        assert_eq!(shares.next_turn(), None);
        assert!(shares.are_empty());
        shares.set_ready(1, true);
        assert_eq!(shares.next_turn(), alone(1));
        assert_eq!(*shares.queue(1), "b");
    }

    #[test]
    fn a_share_that_there_is_not_is_nobodys() {
        let mut shares = Shares::new([(); 0]);
        shares.set_ready(3, true);
        assert!(shares.are_empty());
        assert_eq!(shares.next_turn(), None);
    }
}
