//! Frames that could not leave, for each peer: a shared queue that is full says nothing of whom
//! it is full of.
//!
//! A fixed number of slots, which workers take and count in without a lock and without memory
//! that comes or goes. Nothing is counted here unless a frame is lost, so the common path pays
//! nothing for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Peers that are told apart. The losses of further ones are added up in one number.
const SLOTS: usize = 256;

/// Slots that an address may lie in.
const PROBES: usize = 8;

/// What a slot is: free, being taken, or of the peer whose address it holds.
const FREE: u8 = 0;
const TAKING: u8 = 1;
const TAKEN: u8 = 2;

#[derive(Default)]
struct Slot {
    state: AtomicU8,
    high: AtomicU64,
    low: AtomicU64,
    frames: AtomicU64,
}

impl Slot {
    /// Whether this is the slot of `key`, which takes it if it is free.
    fn is_of(&self, key: u128) -> bool {
        let taken = match self.state.load(Ordering::Acquire) {
            FREE => self
                .state
                .compare_exchange(FREE, TAKING, Ordering::Acquire, Ordering::Acquire),
            state => Err(state),
        };
        match taken {
            Ok(_) => {
                self.high.store((key >> 64) as u64, Ordering::Relaxed);
                self.low.store(key as u64, Ordering::Relaxed);
                self.state.store(TAKEN, Ordering::Release);
                true
            }
            // Two that take a slot for one peer at a time count in two; readers add them up.
            Err(state) => state == TAKEN && self.key() == key,
        }
    }

    fn key(&self) -> u128 {
        let high = u128::from(self.high.load(Ordering::Relaxed));
        high << 64 | u128::from(self.low.load(Ordering::Relaxed))
    }
}

/// Lost frames by peer. Any thread may count and read.
pub struct PeerLosses {
    slots: Box<[Slot]>,
    others: AtomicU64,
}

impl Default for PeerLosses {
    fn default() -> PeerLosses {
        PeerLosses {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            others: AtomicU64::new(0),
        }
    }
}

impl PeerLosses {
    /// Count `frames` lost frames of the peer with this underlay address.
    pub fn count(&self, peer: IpAddr, frames: u64) {
        let key = key(peer);
        // Neighbouring addresses must not share a run of slots.
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = (mixed >> (u64::BITS - SLOTS.ilog2())) as usize;
        let mut run = (0..PROBES).map(|i| &self.slots[(start + i) % SLOTS]);
        let cell = match run.find(|slot| slot.is_of(key)) {
            Some(slot) => &slot.frames,
            None => &self.others,
        };
        cell.fetch_add(frames, Ordering::Relaxed);
    }

    /// Peers that lost frames, and how many so far, in no order.
    pub fn by_peer(&self) -> Vec<(IpAddr, u64)> {
        let taken = |slot: &&Slot| slot.state.load(Ordering::Acquire) == TAKEN;
        let mut all: Vec<(IpAddr, u64)> = Vec::new();
        for slot in self.slots.iter().filter(taken) {
            let peer = IpAddr::V6(slot.key().into()).to_canonical();
            let frames = slot.frames.load(Ordering::Relaxed);
            match all.iter_mut().find(|(other, _)| *other == peer) {
                Some((_, sum)) => *sum += frames,
                None => all.push((peer, frames)),
            }
        }
        all
    }

    /// Frames lost of peers that found no slot.
    pub fn of_others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }
}

/// The address as a number; IPv4 addresses as they are mapped into IPv6.
fn key(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> IpAddr {
        IpAddr::V4((0x0a63_0000 + n).into())
    }

    #[test]
    fn each_peer_has_its_own_count() {
        let losses = PeerLosses::default();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        for _ in 0..3 {
            losses.count(peer(1), 2);
            losses.count(v6, 5);
        }
        losses.count(peer(2), 1);
        let mut all = losses.by_peer();
        all.sort();
        assert_eq!(all, [(peer(1), 6), (peer(2), 1), (v6, 15)]);
        assert_eq!(losses.of_others(), 0);
    }

    #[test]
    fn more_peers_than_slots_lose_no_count() {
        let losses = PeerLosses::default();
        for n in 0..1000 {
            losses.count(peer(n), 1);
        }
        let told: u64 = losses.by_peer().iter().map(|(_, frames)| frames).sum();
        assert!(losses.by_peer().len() > SLOTS / 2);
        assert_eq!(told + losses.of_others(), 1000);
    }

    #[test]
    fn workers_that_count_at_a_time_lose_nothing() {
        let losses = PeerLosses::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| losses.count(peer(n % 7), 1)));
            }
        });
        assert_eq!(losses.by_peer().len(), 7);
        let told: u64 = losses.by_peer().iter().map(|(_, frames)| frames).sum();
        assert_eq!(told, 40_000);
    }
}
