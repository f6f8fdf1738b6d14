//! Which cores the workers of all devices have, and how many queues those are.

use crate::sys::affinity::{self, CpuList, NoCpuList};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// More queues than this only spread the flows of one node too thinly to coalesce.
const QUEUES_MAX: usize = 8;

/// Which cores the workers are pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// Each worker to a core of its own, where the machine has cores to spare.
    #[default]
    Auto,
    /// None.
    None,
    /// Always to these.
    List(CpuList),
}

impl FromStr for Cpus {
    type Err = NoCpuList;

    fn from_str(text: &str) -> Result<Cpus, NoCpuList> {
        match text {
            "auto" => Ok(Cpus::Auto),
            "none" => Ok(Cpus::None),
            list => list.parse().map(Cpus::List),
        }
    }
}

/// Cores that workers cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "-cpus names CPUs that this process may not use: {missing}; it may use {allowed} (see the cpuset of its cgroup, and `taskset`)"
)]
pub struct CpusError {
    missing: CpuList,
    allowed: CpuList,
}

/// TUN queues of a device on `cores` cores if nobody names a number.
///
/// A queue has two workers. On a list of cores each has one. Otherwise there is a queue for every
/// four cores, so that half of them are left to pods and interrupts, and from four cores on two, so
/// that two flows can run side by side. With 2 cores, two queues carried one stream 10 to 20 %
/// slower than one.
pub fn default_queues(cpus: &Cpus, cores: usize) -> usize {
    let queues = match cpus {
        Cpus::List(list) => list.numbers().len() / 2,
        Cpus::Auto | Cpus::None => (cores / 4).max((cores / 2).min(2)),
    };
    queues.clamp(1, QUEUES_MAX)
}

/// Queues of one device, and the cores that its workers are pinned to (none where they are not), if
/// nobody says anything about either. `underlay` is the device that packets leave by.
pub fn cores_by_default(underlay: &str) -> (usize, CpuList) {
    let (allowed, near) = (affinity::allowed(), affinity::near(underlay));
    let queues = default_queues(&Cpus::Auto, allowed.numbers().len());
    let cores = assign(&Cpus::Auto, &allowed, &near, 2 * queues).unwrap_or_default();
    (queues, cores.into_iter().flatten().collect())
}

/// The core of each of `workers` workers, if it is to have one. `allowed` are those that there are,
/// of which those `near` the underlay device are taken first.
///
/// Left to itself, a worker is pinned only where all have a core each and as many are left, two at
/// least: a pinned worker cannot move away from a busy pod or softirq, which has to find another
/// core for itself. With 2 cores pinning cost 10 to 20 %.
pub(super) fn assign(
    cpus: &Cpus,
    allowed: &CpuList,
    near: &CpuList,
    workers: usize,
) -> Result<Vec<Option<usize>>, CpusError> {
    match cpus {
        Cpus::None => Ok(vec![None; workers]),
        Cpus::Auto if allowed.numbers().len() < workers + workers.max(2) => Ok(vec![None; workers]),
        Cpus::Auto => {
            let (near, far) = split(allowed, near);
            let far_count = workers.saturating_sub(near.len());
            // The first cores often take the interrupts: leave them to the rest of the machine.
            let last = |cpus: Vec<usize>, count| cpus.into_iter().rev().take(count).rev();
            let near = last(near, workers);
            let cores = near
                .collect::<Vec<_>>()
                .into_iter()
                .chain(last(far, far_count));
            Ok(cores.map(Some).collect())
        }
        Cpus::List(list) => {
            let mut missing = list.numbers().iter().copied();
            let missing: CpuList = missing.by_ref().filter(|&cpu| !allowed.has(cpu)).collect();
            if !missing.numbers().is_empty() {
                let allowed = allowed.clone();
                return Err(CpusError { missing, allowed });
            }
            let (near, far) = split(list, near);
            let cores = near.into_iter().chain(far).collect::<Vec<_>>();
            Ok(cores.into_iter().cycle().map(Some).take(workers).collect())
        }
    }
}

/// Those of `cpus` that are `near`, all if none is known to be, and the others.
fn split(cpus: &CpuList, near: &CpuList) -> (Vec<usize>, Vec<usize>) {
    cpus.numbers()
        .iter()
        .partition(|&&cpu| near.numbers().is_empty() || near.has(cpu))
}

/// The cores of all devices, shared out once: a device that is made anew has those again that it
/// had.
pub(super) struct Seats(Arc<Mutex<Vec<Seat>>>);

struct Seat {
    cores: Vec<Option<usize>>,
    taken: bool,
}

/// The cores of one device as long as it runs, by worker.
pub(super) struct Taken {
    pub(super) cores: Vec<Option<usize>>,
    seats: Arc<Mutex<Vec<Seat>>>,
    index: Option<usize>,
}

impl Seats {
    /// Share out `cores` in runs of `workers`, one for each device.
    pub(super) fn new(cores: &[Option<usize>], workers: usize) -> Seats {
        let seats = cores.chunks(workers.max(1)).map(|cores| Seat {
            cores: cores.to_vec(),
            taken: false,
        });
        Seats(Arc::new(Mutex::new(seats.collect())))
    }

    /// The first that is free; no cores if there is none.
    pub(super) fn take(&self) -> Taken {
        let mut seats = lock(&self.0);
        let index = seats.iter().position(|seat| !seat.taken);
        let cores = match index {
            Some(index) => {
                seats[index].taken = true;
                seats[index].cores.clone()
            }
            None => Vec::new(),
        };
        Taken {
            cores,
            seats: self.0.clone(),
            index,
        }
    }
}

impl Taken {
    /// The cores that workers are pinned to.
    pub(super) fn pinned(&self) -> CpuList {
        self.cores.iter().copied().flatten().collect()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            lock(&self.seats)[index].taken = false;
        }
    }
}

fn lock(seats: &Mutex<Vec<Seat>>) -> MutexGuard<'_, Vec<Seat>> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
