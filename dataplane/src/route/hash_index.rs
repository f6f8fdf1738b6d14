//! Numbers of things, found by a hash of the things.

use std::net::IpAddr;

/// Open addressing with linear probing, at most half full. It holds numbers alone: whoever asks
/// knows the things.
pub(super) struct HashIndex {
    /// Numbers or [`HashIndex::FREE`]; the length is a power of two.
    slots: Box<[u32]>,
    /// 64 minus the binary logarithm of the length.
    shift: u32,
}

impl HashIndex {
    const FREE: u32 = u32::MAX;

    /// Room for so many numbers.
    pub(super) fn with_room(count: usize) -> HashIndex {
        let len = (count * 2).next_power_of_two().max(2);
        HashIndex {
            slots: vec![Self::FREE; len].into(),
            shift: u64::BITS - len.ilog2(),
        }
    }

    /// The number of the first thing of this `hash` that `is_it`.
    #[inline]
    pub(super) fn get(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let number = self.slots[self.probe(hash, is_it)];
        (number != Self::FREE).then_some(number)
    }

    /// The same, or `new` from now on, if there is none.
    pub(super) fn get_or_insert(
        &mut self,
        hash: u64,
        is_it: impl Fn(u32) -> bool,
        new: u32,
    ) -> u32 {
        let slot = self.probe(hash, is_it);
        if self.slots[slot] == Self::FREE {
            self.slots[slot] = new;
        }
        self.slots[slot]
    }

    /// The slot of the first thing that `is_it`, or the free one where it would lie.
    ///
    /// Ends because at least half of the slots are free.
    #[inline]
    fn probe(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> self.shift) as usize;
        loop {
            let number = self.slots[slot & mask];
            if number == Self::FREE || is_it(number) {
                return slot & mask;
            }
            slot += 1;
        }
    }
}

/// Odd, and its bits are in no order: 2^64 over the golden ratio.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplicative hashing; the high bits are the good ones.
///
/// Needs no secret: only leases are ever inserted, and a miss costs a few probes.
#[inline]
pub(crate) fn hash_addr(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => u64::from(v4.to_bits()).wrapping_mul(HASH_FACTOR),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let high = ((bits >> 64) as u64).wrapping_mul(HASH_FACTOR);
            (high.rotate_left(32) ^ bits as u64).wrapping_mul(HASH_FACTOR)
        }
    }
}

/// The hash of an address and of eight bytes more.
pub(super) fn hash_addr_and(ip: IpAddr, rest: u64) -> u64 {
    (hash_addr(ip).rotate_left(32) ^ rest).wrapping_mul(HASH_FACTOR)
}
