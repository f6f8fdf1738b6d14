//! What the programs count, and what that is to the workers' counters.

use super::layout::{COUNTERS, Counts};
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

/// The counters by the names and in the order of `enum counter` in `dataplane/bpf/layout.h`.
const SUMS: [(&str, Sum); COUNTERS] = [
    (
        "OUT_PACKETS",
        C(&[Count::TunReads, Count::Sends, Count::FastSends]),
    ),
    ("OUT_FRAMES", C(&[Count::FramesSent])),
    ("OUT_BYTES", C(&[Count::TunReadBytes])),
    ("IN_PACKETS", C(&[Count::Receives, Count::FastReceives])),
    ("IN_FRAMES", C(&[Count::FramesReceived])),
    ("IN_BYTES", C(&[Count::TunWriteBytes])),
    ("IN_WRITES", C(&[Count::TunWrites])),
    ("IN_SUPER", C(&[Count::SuperFramesReceived])),
    ("IN_MERGED", C(&[Count::FastMerges])),
    ("WANT_MERGER", Sum::Nothing),
    ("LEFT_TRAINS", C(&[Count::LeftTrains])),
    ("LEFT_BATCHES", C(&[Count::LeftBatches])),
    ("LEFT_FLOWS", C(&[Count::LeftFlows])),
    ("LEFT_ODD", C(&[Count::LeftOdd])),
    ("LEFT_NO_PEER", C(&[Count::LeftNoPeer])),
    ("LEFT_TOO_LONG", C(&[Count::LeftTooLong])),
    ("LEFT_WHOLE", C(&[Count::LeftWhole])),
    ("LEFT_REFUSED", C(&[Count::LeftRefused])),
    ("LEFT_EXPIRED", C(&[Count::LeftExpired])),
    ("LEFT_ALONE", C(&[Count::LeftAlone])),
    ("DROP_SEND_FAILED", D(DropReason::SendFailed)),
    ("DROP_WRITE_FAILED", D(DropReason::WriteFailed)),
];

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

    /// The counter of this name.
    #[cfg(test)]
    pub(super) fn named(&self, name: &str) -> u64 {
        let at = SUMS.iter().position(|(own, _)| *own == name);
        self.0[at.unwrap()]
    }

    /// Whether the programs have seen what they would have merged.
    pub(super) fn want_merger(&self) -> bool {
        self.0[WANT_MERGER] > 0
    }

    /// The same as counters of a worker, so that they can be summed up with those.
    pub(super) fn as_stats(&self) -> WorkerStats {
        let stats = WorkerStats::default();
        for ((_, sum), &count) in SUMS.iter().zip(&self.0) {
            match *sum {
                C(counts) => counts.iter().for_each(|&to| stats.add(to, count)),
                D(reason) => stats.count_drops(reason, count),
                Sum::Nothing => {}
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_and_the_order_of_the_programs() {
        let header = include_str!("../../bpf/layout.h");
        let (_, body) = header.split_once("enum counter {").unwrap();
        let (names, _) = body.split_once('}').unwrap();
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let ours = SUMS.iter().map(|(name, _)| *name);
        let ours: Vec<&str> = ours.chain(["COUNTERS", ""]).collect();
        assert_eq!(names, ours);
        assert_eq!(SUMS[WANT_MERGER].0, "WANT_MERGER");
    }

    #[test]
    fn what_is_left_or_dropped_is_counted_by_its_own_name() {
        for (name, sum) in SUMS {
            let wanted = match sum {
                D(reason) => format!("DROP_{}", reason.name()),
                C([count]) if name.starts_with("LEFT_") => count.name().to_owned(),
                C(_) | Sum::Nothing => continue,
            };
            assert_eq!(*name, wanted.to_uppercase());
        }
    }
}
