//! Packets that programs had changed already when the kernel refused to go on with them. They are
//! lost: no worker can have them any more. Now and then one may be, for want of memory; where many
//! are, the workers do better.

use weft_dataplane::stats::{Count, DropReason, WorkerStats};

/// Packets that are judged at once, at least: one of few says little.
const JUDGED_MIN: u64 = 10;

/// One in so many is too much.
const SHARE: u64 = 10;

/// Both ways through the programs.
const WAYS: [(&str, Count, DropReason); 2] = [
    ("out", Count::FastSends, DropReason::SendFailed),
    ("in", Count::FastReceives, DropReason::WriteFailed),
];

/// What programs had counted when it was last judged.
#[derive(Default)]
pub(super) struct Failures {
    seen: [Counted; WAYS.len()],
}

/// Packets of one way.
#[derive(Clone, Copy, Default)]
struct Counted {
    passed: u64,
    failed: u64,
}

impl Failures {
    /// The reason to give the programs up, if what they have counted by now is one.
    pub(super) fn look(&mut self, stats: &WorkerStats) -> Result<(), String> {
        for ((way, passed, failed), seen) in WAYS.into_iter().zip(&mut self.seen) {
            let now = Counted {
                passed: stats.get(passed),
                failed: stats.drops(failed),
            };
            let failed = now.failed.saturating_sub(seen.failed);
            let all = failed + now.passed.saturating_sub(seen.passed);
            if all < JUDGED_MIN {
                continue;
            }
            *seen = now;
            if failed * SHARE >= all {
                return Err(format!(
                    "the kernel lost {failed} of {all} packets on their way {way}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What programs have counted, each time they are looked at: passed and failed, out and in.
    fn judged(looks: &[[(u64, u64); 2]]) -> Vec<Result<(), String>> {
        let mut failures = Failures::default();
        let look = |counted: &[(u64, u64); 2]| {
            let stats = WorkerStats::default();
            for ((_, passed, failed), counted) in WAYS.into_iter().zip(counted) {
                stats.add(passed, counted.0);
                stats.count_drops(failed, counted.1);
            }
            failures.look(&stats)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn programs_that_lose_one_packet_of_many_stay_and_those_that_lose_a_tenth_go() {
        let lost = Err("the kernel lost 100 of 1000 packets on their way in".to_owned());
        let looks = [
            [(0, 0), (0, 0)],
            [(10_000, 1), (1_000, 0)],
            [(20_000, 2), (2_000, 1)],
            [(30_000, 3), (2_900, 101)],
        ];
        assert_eq!(judged(&looks), [Ok(()), Ok(()), Ok(()), lost]);
    }

    /// All that a quiet node sends may be lost, each second one packet.
    #[test]
    fn few_packets_are_judged_once_they_are_many() {
        let looks: Vec<_> = (0..=10).map(|failed| [(5, failed), (0, 0)]).collect();
        let judged = judged(&looks);
        assert!(judged[..5].iter().all(Result::is_ok));
        let lost = "the kernel lost 5 of 10 packets on their way out";
        assert_eq!(judged[5], Err(lost.to_owned()));
    }
}
