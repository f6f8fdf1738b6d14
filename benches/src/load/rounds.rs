//! Interleaved rounds: every contestant meets the same minute of the machine.

use super::{Measurement, Workload};
use crate::lab::{Path, Pod, Result, Switch, topology::ping};
use std::time::Duration;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Contestants.
    pub paths: Vec<Path>,
    /// Loads.
    pub workloads: Vec<Workload>,
    /// How often each load meets each contestant.
    pub rounds: usize,
    /// Length of one run.
    pub time: Duration,
}

impl Plan {
    /// Number of single runs.
    pub fn runs(&self) -> usize {
        self.rounds * self.workloads.len() * self.paths.len()
    }

    /// Every run in order: in each round each load, and for each load all contestants, whose
    /// order turns by one from round to round so that none is always first.
    pub fn sequence(&self) -> impl Iterator<Item = (usize, Workload, Path)> {
        (0..self.rounds).flat_map(move |round| {
            self.workloads.iter().flat_map(move |&workload| {
                let count = self.paths.len();
                (0..count).map(move |i| (round, workload, self.paths[(i + round) % count]))
            })
        })
    }
}

/// One run and its result.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Round, from 0.
    pub round: usize,
    /// Load.
    pub workload: Workload,
    /// Contestant.
    pub path: Path,
    /// Result.
    pub measurement: Measurement,
}

/// Run the plan between two pods. `watched` are the agents' process ids; `progress` hears of
/// each run before it starts.
pub fn run(
    plan: &Plan,
    switch: &Switch,
    (from, to): (&Pod, &Pod),
    watched: &[u32],
    mut progress: impl FnMut(usize, Workload, Path),
) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(plan.runs());
    for (round, workload, path) in plan.sequence() {
        progress(round, workload, path);
        switch.choose(path)?;
        // The path is up and its caches are warm.
        ping(&from.ns, to.address, 3, 56, false)?;
        let measurement = workload.measure(from, to, plan.time, watched)?;
        samples.push(Sample {
            round,
            workload,
            path,
            measurement,
        });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_at_being_first() {
        let plan = Plan {
            paths: Path::ALL.to_vec(),
            workloads: vec![Workload::Tcp1, Workload::Udp64],
            rounds: 2,
            time: Duration::from_secs(1),
        };
        let runs: Vec<_> = plan.sequence().collect();
        assert_eq!(runs.len(), plan.runs());
        assert_eq!(runs[0], (0, Workload::Tcp1, Path::Direct));
        assert_eq!(runs[2], (0, Workload::Tcp1, Path::Weft));
        assert_eq!(runs[3], (0, Workload::Udp64, Path::Direct));
        assert_eq!(runs[6], (1, Workload::Tcp1, Path::Kernel));
        assert_eq!(runs[8], (1, Workload::Tcp1, Path::Direct));
    }
}
