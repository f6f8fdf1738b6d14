//! What the programs count, and what that is to the workers' counters.

use super::layout::Counts;
use crate::stats::{Count, DropReason, WorkerStats};

/// Where a counter of the programs is added.
#[derive(Clone, Copy, Debug)]
enum Sum {
    /// To these counters.
    Counts(&'static [Count]),
    /// To the drops for this reason.
    Drops(DropReason),
    /// To nothing: it is a message to the agent.
    Nothing,
}

use Sum::{Counts as C, Drops as D};

/// The counters in the order of `enum counter` in `dataplane/bpf/layout.h`.
const SUMS: &[Sum] = &[
    C(&[Count::TunReads, Count::Sends, Count::FastSends]),
    C(&[Count::FramesSent]),
    C(&[Count::TunReadBytes]),
    C(&[Count::Receives, Count::FastReceives]),
    C(&[Count::FramesReceived]),
    C(&[Count::TunWriteBytes]),
    C(&[Count::TunWrites]),
    C(&[Count::SuperFramesReceived]),
    C(&[Count::FastMerges]),
    Sum::Nothing,
    C(&[Count::LeftTrains]),
    C(&[Count::LeftBatches]),
    C(&[Count::LeftFlows]),
    C(&[Count::LeftOdd]),
    C(&[Count::LeftNoPeer]),
    C(&[Count::LeftTooLong]),
    C(&[Count::LeftWhole]),
    C(&[Count::LeftRefused]),
    C(&[Count::LeftExpired]),
    C(&[Count::LeftAlone]),
    D(DropReason::SendFailed),
    D(DropReason::WriteFailed),
];

/// Number of counters.
pub(super) const COUNTERS: usize = SUMS.len();

/// The one by which the programs ask for the merging pair.
const WANT_MERGER: usize = 9;

/// The programs' counters, summed over all cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals([u64; COUNTERS]);

impl Totals {
    /// Sum up what all cores have counted.
    pub(super) fn of<'a>(cores: impl Iterator<Item = &'a Counts>) -> Totals {
        let mut totals = [0u64; COUNTERS];
        for Counts(counts) in cores {
            for (total, count) in totals.iter_mut().zip(counts) {
                *total = total.wrapping_add(*count);
            }
        }
        Totals(totals)
    }

    /// Whether the programs have seen what they would have merged.
    pub(super) fn want_merger(&self) -> bool {
        self.0[WANT_MERGER] > 0
    }

    /// The same as counters of a worker, so that they can be summed up with those.
    pub(super) fn as_stats(&self) -> WorkerStats {
        let stats = WorkerStats::default();
        for (sum, &count) in SUMS.iter().zip(&self.0) {
            match *sum {
                C(counts) => counts.iter().for_each(|&to| stats.add(to, count)),
                D(reason) => stats.count_drops(reason, count),
                Sum::Nothing => {}
            }
        }
        stats
    }
}
