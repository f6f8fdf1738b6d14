//! Which cores workers may run on, and pinning to one.

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
