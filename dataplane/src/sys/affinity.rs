//! Where and how workers are scheduled.
#![allow(unsafe_code)]

use core_affinity::CoreId;

/// The cores this process may use, in ascending order; empty when the kernel does not say.
pub fn allowed_cores() -> Vec<CoreId> {
    // On Linux core_affinity reads sched_getaffinity, so a cpuset is already respected.
    let mut cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.sort_by_key(|core| core.id);
    cores
}

/// Pin the calling thread to `core`; `false` when the kernel refused.
pub fn pin(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}

/// Make the calling thread one that does not preempt others when it wakes (`SCHED_BATCH`).
///
/// A worker that preempts whoever just made it runnable finds one packet; one that waits for
/// its turn finds several, and a batch of them costs little more than one. On an idle core
/// nothing changes. `false` when the kernel refused, which does no harm.
pub fn schedule_as_batch() -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters, which outlive the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) == 0 }
}

/// The core for each of `threads` workers, or none.
///
/// Pinning pays only where every worker can have a core and the rest of the machine still
/// has as many: on smaller machines it cost 10 to 20 % (measured with 2 cores), because a
/// pinned worker cannot move away from a busy pod or softirq.
pub fn assign(allowed: &[CoreId], threads: usize) -> Vec<Option<CoreId>> {
    if allowed.len() <= threads * 2 {
        return vec![None; threads];
    }
    // The first cores often take the interrupts: leave them to the rest of the machine.
    let first = allowed.len() - threads;
    allowed[first..].iter().copied().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(n: usize) -> Vec<CoreId> {
        (0..n).map(|id| CoreId { id }).collect()
    }

    #[test]
    fn small_machines_are_not_pinned() {
        assert_eq!(assign(&cores(2), 1), [None]);
        assert_eq!(assign(&cores(4), 2), [None, None]);
        assert_eq!(assign(&[], 1), [None]);
    }

    #[test]
    fn large_machines_give_each_worker_its_own_core() {
        let assigned = assign(&cores(8), 2);
        assert_eq!(assigned, [Some(CoreId { id: 6 }), Some(CoreId { id: 7 })]);
    }
}
