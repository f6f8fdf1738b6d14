//! Interleaved rounds: every contestant meets the same minute of the machine.

use super::{Measurement, Workload};
use std::time::Duration;
use weft_lab::{Arena, Contestant, Error, Result, guard};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Contestants.
    pub contestants: Vec<&'static Contestant>,
    /// Loads.
    pub workloads: Vec<Workload>,
    /// How often each load meets each contestant.
    pub rounds: usize,
    /// Length of one run.
    pub time: Duration,
}

/// One run: which load meets whom, in which round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Round, from 0.
    pub round: usize,
    /// Load.
    pub workload: Workload,
    /// Contestant.
    pub contestant: &'static Contestant,
}

impl std::fmt::Display for Run {
    /// `round 2: TCP 1 stream, weft`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (load, who) = (self.workload.title(), self.contestant.name);
        write!(f, "round {}: {load}, {who}", self.round + 1)
    }
}

impl Plan {
    /// Number of single runs.
    pub fn runs(&self) -> usize {
        self.rounds * self.workloads.len() * self.contestants.len()
    }

    /// Every run in order: in each round each load, and for each load all contestants, whose
    /// order turns by one from round to round so that none is always first.
    pub fn sequence(&self) -> impl Iterator<Item = Run> {
        (0..self.rounds).flat_map(move |round| {
            self.workloads.iter().flat_map(move |&workload| {
                let count = self.contestants.len();
                (0..count).map(move |i| Run {
                    round,
                    workload,
                    contestant: self.contestants[(i + round) % count],
                })
            })
        })
    }
}

/// One run and its result.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What was run.
    pub run: Run,
    /// Result.
    pub measurement: Measurement,
}

/// What happens while a plan is carried out.
#[derive(Debug)]
pub enum Event {
    /// A run begins.
    Begins(Run),
    /// A run has ended well.
    Measured(Sample),
    /// A run gave nothing; the contestant's later runs take place all the same.
    Failed(Run, Error),
    /// A contestant carries no traffic: neither this run of its takes place nor any later one.
    Out(Run, Error),
}

/// Carry out the plan. `tell` hears of everything; an error of its own ends it all.
pub fn run(
    plan: &Plan,
    arena: &mut Arena,
    mut tell: impl FnMut(Event) -> Result<()>,
) -> Result<()> {
    let mut out: Vec<&Contestant> = Vec::new();
    for run in plan.sequence() {
        if out.contains(&run.contestant) {
            continue;
        }
        tell(Event::Begins(run))?;
        let event = match arena.choose(run.contestant) {
            Ok(()) => measure(plan, arena, run),
            Err(error) => {
                out.push(run.contestant);
                Event::Out(run, error)
            }
        };
        // A signal takes the lab away: what fails from then on is no one's fault.
        if guard::interrupted() {
            return Err(Error::new("interrupted"));
        }
        tell(event)?;
    }
    Ok(())
}

fn measure(plan: &Plan, arena: &Arena, run: Run) -> Event {
    let measured = arena.pods().and_then(|(from, to)| {
        let watched = arena.cluster.agent_pids();
        run.workload.measure(&from, &to, plan.time, &watched)
    });
    match measured {
        Ok(measurement) => Event::Measured(Sample { run, measurement }),
        Err(error) => Event::Failed(run, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_take_turns_at_being_first() {
        let (direct, kernel) = (Contestant::direct(), Contestant::kernel());
        let weft = Contestant::weft();
        let plan = Plan {
            contestants: vec![direct, kernel, weft],
            workloads: vec![Workload::Tcp1, Workload::Udp64],
            rounds: 2,
            time: Duration::from_secs(1),
        };
        let runs: Vec<_> = plan.sequence().collect();
        assert_eq!(runs.len(), plan.runs());
        let at = |i: usize| (runs[i].round, runs[i].workload, runs[i].contestant);
        assert_eq!(at(0), (0, Workload::Tcp1, direct));
        assert_eq!(at(2), (0, Workload::Tcp1, weft));
        assert_eq!(at(3), (0, Workload::Udp64, direct));
        assert_eq!(at(6), (1, Workload::Tcp1, kernel));
        assert_eq!(at(8), (1, Workload::Tcp1, direct));
    }
}
