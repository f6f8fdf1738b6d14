//! What the kernel drops before a worker can see it.

use super::holdings::Holdings;
use crate::stats::{DropReason, WorkerStats};
use crate::sys::port::Port;
use crate::wire::frame::Wire;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the kernel tells what devices have dropped: those of this thread's network namespace.
const DEVICES: &str = "/proc/thread-self/net/dev";

/// Fields of a line there, behind the name, up to the one of packets that were not sent.
const FIELDS_BEFORE_DROPPED: usize = 11;

/// What was dropped in the queues that packets wait in for the workers of a device, since these were
/// started.
pub(super) struct Unseen {
    port: Arc<Port>,
    wire: Wire,
    device: String,
    /// What the device had dropped before.
    before: u64,
    drops: Mutex<Drops>,
}

impl Unseen {
    /// Begin with the queues as they are now.
    pub(super) fn new(holdings: &Holdings, wire: Wire) -> Unseen {
        let device = holdings.tun.name().to_owned();
        let before = dropped(&device).unwrap_or(0);
        let seen = holdings.port.dropped(wire).map(|(_, count)| count);
        let drops = Drops {
            seen: seen.collect(),
            sums: WorkerStats::default(),
        };
        Unseen {
            port: holdings.port.clone(),
            wire,
            device,
            before,
            drops: Mutex::new(drops),
        }
    }

    /// See what the sockets have dropped since the last look.
    pub(super) fn note(&self) -> MutexGuard<'_, Drops> {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        drops.note(self.port.dropped(self.wire));
        drops
    }

    /// The drops so far, as counters of a worker.
    pub(super) fn as_stats(&self) -> WorkerStats {
        let stats = WorkerStats::default();
        stats.absorb(&self.note().sums);
        let packets = dropped(&self.device).unwrap_or(self.before);
        // One that was made anew has counted from 0.
        let grown = packets.checked_sub(self.before).unwrap_or(packets);
        stats.count_drops(DropReason::TunQueueFull, grown);
        stats
    }
}

/// What the sockets have dropped.
pub(super) struct Drops {
    /// What each said when it was last asked; it begins anew after 2^32.
    seen: Vec<u32>,
    sums: WorkerStats,
}

impl Drops {
    /// What the sockets say now.
    fn note(&mut self, dropped: impl Iterator<Item = (DropReason, u32)>) {
        for (seen, (reason, count)) in self.seen.iter_mut().zip(dropped) {
            let grown = count.wrapping_sub(std::mem::replace(seen, count));
            self.sums.count_drops(reason, grown.into());
        }
    }
}

/// Packets that `device` was to send and dropped; none if there is no such device.
fn dropped(device: &str) -> Option<u64> {
    find(&std::fs::read_to_string(DEVICES).ok()?, device)
}

fn find(devices: &str, device: &str) -> Option<u64> {
    devices.lines().find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let number = || numbers.split_whitespace().nth(FIELDS_BEFORE_DROPPED);
        (name.trim() == device).then(number)??.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_of_a_device_are_found_among_others() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
flannel.1:  91 92 93 94 95 96 97 98 99 100 101 102 103 104 105 106
flannel.10: 0 0 0 0 0 0 0 0 0 0 0 7 0 0 0 0
";
        assert_eq!(find(text, "flannel.1"), Some(102));
        assert_eq!(find(text, "flannel.10"), Some(7));
        assert_eq!(find(text, "flannel"), None);
        assert_eq!(find("lo: 1 2", "lo"), None);
    }

    #[test]
    fn counters_of_sockets_may_begin_anew() {
        let mut drops = Drops {
            seen: vec![7, 0],
            sums: WorkerStats::default(),
        };
        let (full, junk) = (DropReason::ReceiveQueueFull, DropReason::WrongVni);
        for [one, two] in [[7, 10], [u32::MAX, 10], [3, 11]] {
            drops.note([(full, one), (junk, two)].into_iter());
        }
        assert_eq!(drops.sums.drops(full), (1 << 32) + 3 - 7);
        assert_eq!(drops.sums.drops(junk), 11);
    }

    #[test]
    fn this_kernel_tells() {
        assert!(dropped("lo").is_some());
    }
}
