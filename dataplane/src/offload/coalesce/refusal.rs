//! How long a refused kind of super-packet is not tried again.

use super::inspect::Protocol;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Packets that pass before the first retry. There is no clock here, and no need of one: without
/// packets there is nothing to try.
const PAUSE_MIN: u32 = 1 << 16;

/// The same at most, for kernels that take none at all: each retry loses a batch of packets.
const PAUSE_MAX: u32 = 1 << 26;

/// Whether the kernel refuses a kind of super-packet for the time being.
#[derive(Clone, Copy, Debug, Default)]
struct Refusal {
    /// Packets until the next try.
    left: u32,
    /// The last pause.
    pause: u32,
}

impl Refusal {
    /// The kernel refused one; whether that is new.
    fn note(&mut self) -> bool {
        if self.left > 0 {
            return false;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.left = self.pause;
        true
    }

    /// Whether it still does. Asked once for each packet.
    #[inline]
    fn holds(&mut self) -> bool {
        let holds = self.left > 0;
        self.left -= u32::from(holds);
        holds
    }
}

/// What the kernel refused to any coalescer, for all that share it.
#[derive(Debug, Default)]
pub struct MergeRefusals {
    /// How often, by protocol.
    kinds: [AtomicU32; 2],
    /// More UDP segments than kernels before Linux 6.9 take.
    long_udp: AtomicBool,
}

impl MergeRefusals {
    /// Whether there was any.
    pub fn any(&self) -> bool {
        let refused = |kind: &AtomicU32| kind.load(Ordering::Relaxed) != 0;
        self.long_udp() || self.kinds.iter().any(refused)
    }

    fn long_udp(&self) -> bool {
        self.long_udp.load(Ordering::Relaxed)
    }

    fn note_long_udp(&self) {
        self.long_udp.store(true, Ordering::Relaxed);
    }

    fn times(&self, kind: usize) -> u32 {
        self.kinds[kind].load(Ordering::Relaxed)
    }

    /// Note one more; how many there are now.
    fn note(&self, kind: usize) -> u32 {
        self.kinds[kind]
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1)
    }
}

/// What one coalescer goes by.
#[derive(Debug, Default)]
pub(super) struct KnownRefusals {
    /// What the kernel refuses for the time being, by protocol.
    kinds: [Refusal; 2],
    shared: Arc<MergeRefusals>,
    /// How much of `shared` is in `kinds`.
    adopted: [u32; 2],
}

impl KnownRefusals {
    pub(super) fn sharing(shared: Arc<MergeRefusals>) -> KnownRefusals {
        KnownRefusals {
            shared,
            ..KnownRefusals::default()
        }
    }

    /// Whether a protocol's packets are not to be merged. Asked once for each packet.
    #[inline]
    pub(super) fn holds(&mut self, protocol: Protocol) -> bool {
        self.kinds[protocol as usize].holds()
    }

    /// The kernel refused a super-packet of this protocol; whether that is new.
    pub(super) fn note(&mut self, protocol: Protocol) -> bool {
        let kind = protocol as usize;
        let is_new = self.kinds[kind].note();
        if is_new {
            self.adopted[kind] = self.shared.note(kind);
        }
        is_new
    }

    /// The kernel refused more UDP segments than kernels before Linux 6.9 take.
    pub(super) fn note_long_udp(&self) {
        self.shared.note_long_udp();
    }

    /// Take in what it refused to others; whether it refuses many UDP segments.
    pub(super) fn adopt(&mut self) -> bool {
        for (kind, refusal) in self.kinds.iter_mut().enumerate() {
            let times = self.shared.times(kind);
            if times != self.adopted[kind] {
                self.adopted[kind] = times;
                refusal.note();
            }
        }
        self.shared.long_udp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_holds_twice_as_long_up_to_a_limit() {
        let mut refusal = Refusal::default();
        assert!(!refusal.holds());
        let mut pauses = [0; 12];
        for pause in &mut pauses {
            assert!(refusal.note());
            assert!(!refusal.note(), "of the same batch");
            while refusal.holds() {
                *pause += 1;
            }
        }
        assert_eq!(pauses[0], PAUSE_MIN);
        assert!(pauses[..11].is_sorted_by(|a, b| a * 2 == *b));
        assert_eq!(pauses[10..], [PAUSE_MAX; 2]);
    }
}
