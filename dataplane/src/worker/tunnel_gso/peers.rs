//! What is known of tunnel GSO to each peer, for all workers.
//!
//! A fixed number of slots, without a lock and without memory that comes or goes. Workers
//! take slots for peers that they have super-packets for; the prober alone says what is known
//! of a peer, and gives slots back.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of tunnel GSO to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerState {
    /// No probe has told yet.
    #[default]
    Untried,
    /// The last probe left in one piece: super-packets leave uncut.
    Open,
    /// The last probe left in frames: trains are better.
    Segmented,
    /// The last probe did not leave.
    Blocked,
}

impl PeerState {
    const ALL: [PeerState; 4] = [
        PeerState::Untried,
        PeerState::Open,
        PeerState::Segmented,
        PeerState::Blocked,
    ];

    fn of(peer: u64) -> PeerState {
        PeerState::ALL[peer as usize % PeerState::ALL.len()]
    }
}

/// Slots that a peer may lie in.
const WAYS: usize = 4;

/// Groups of slots, named by eight bits of an address's hash.
const SETS: usize = 256;

/// Slots in all.
pub(super) const SLOTS: usize = SETS * WAYS;

/// Set by workers beside the address and the state: there was a super-packet.
const WANTED: u64 = 1 << 8;

const STATE: u64 = 0xff;

/// One peer.
#[derive(Default)]
struct Slot {
    /// Its address in the upper half, [`WANTED`] and its [`PeerState`] in the lower; 0 if the
    /// slot is free.
    peer: AtomicU64,
    /// Super-packets that left whole since the last probe that did. All workers write to it, at
    /// most once for each of 64 kB.
    sent: AtomicU64,
}

fn address(peer: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits((peer >> 32) as u32)
}

/// The peers that super-packets were for of late: 1,024, four of one hash. A further one is as
/// one that was never tried, until a slot is given back.
pub(super) struct TunnelGsoPeers(Box<[Slot]>);

impl TunnelGsoPeers {
    pub(super) fn new() -> TunnelGsoPeers {
        TunnelGsoPeers((0..SLOTS).map(|_| Slot::default()).collect())
    }

    /// Note a super-packet to `to`: whether it may leave whole, and whether it is the first
    /// since the prober last looked.
    pub(super) fn ask(&self, to: Ipv4Addr) -> (bool, bool) {
        let Some((slot, peer)) = self.find(to).or_else(|| self.take(to)) else {
            return (false, false);
        };
        let open = PeerState::of(peer) == PeerState::Open;
        if open {
            slot.sent.fetch_add(1, Ordering::Relaxed);
        }
        // Most find it set. One whose slot was just given back, or judged, leaves it to the next.
        let wanted = peer | WANTED;
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let note = || slot.peer.compare_exchange(peer, wanted, success, failure);
        (open, peer != wanted && note().is_ok())
    }

    fn find(&self, to: Ipv4Addr) -> Option<(&Slot, u64)> {
        let slots = self.set(to).iter();
        slots
            .map(|slot| (slot, slot.peer.load(Ordering::Acquire)))
            .find(|&(_, peer)| peer != 0 && address(peer) == to)
    }

    /// A free slot for `to`. Where two workers take one each, only the first is found, and the
    /// second given back.
    #[cold]
    fn take(&self, to: Ipv4Addr) -> Option<(&Slot, u64)> {
        let new = u64::from(to.to_bits()) << 32;
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        self.set(to).iter().find_map(|slot| {
            match slot.peer.compare_exchange(0, new, success, failure) {
                Ok(_) => Some((slot, new)),
                Err(other) => (address(other) == to).then_some((slot, other)),
            }
        })
    }

    fn set(&self, to: Ipv4Addr) -> &[Slot] {
        // Neighbours, and those with a subnet each, must not share a set.
        let mixed = to.to_bits().wrapping_mul(0x9e37_79b1);
        let set = (mixed >> (u32::BITS - SETS.ilog2())) as usize;
        &self.0[set * WAYS..][..WAYS]
    }

    /// All peers and what is known of them, each once.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.0.chunks(WAYS).flat_map(|set| {
            let peers = set.iter().map(|slot| slot.peer.load(Ordering::Relaxed));
            let mut known = [None; WAYS];
            for (n, peer) in peers.enumerate().filter(|&(_, peer)| peer != 0) {
                let found = (address(peer), PeerState::of(peer));
                let is_new = known[..n]
                    .iter()
                    .flatten()
                    .all(|&(addr, _)| addr != found.0);
                known[n] = is_new.then_some(found);
            }
            known.into_iter().flatten()
        })
    }

    /// Forget what is known of all peers. Only the prober may.
    pub(super) fn close(&self) {
        for slot in 0..SLOTS {
            self.set_state(slot, PeerState::Untried);
        }
    }

    /// The peer in a slot, and whether there was a super-packet for it since this was last
    /// asked.
    pub(super) fn look(&self, slot: usize) -> Option<(Ipv4Addr, bool)> {
        let slot = &self.0[slot].peer;
        let peer = match slot.load(Ordering::Acquire) {
            0 => return None,
            peer if peer & WANTED == 0 => peer,
            _ => slot.fetch_and(!WANTED, Ordering::AcqRel),
        };
        Some((address(peer), peer & WANTED != 0))
    }

    /// Say what is known of the peer in a slot, if there is one. Only the prober may.
    pub(super) fn set_state(&self, slot: usize, state: PeerState) {
        let set = |peer: u64| (peer != 0).then_some(peer & !STATE | state as u64);
        let _ = self.0[slot]
            .peer
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, set);
    }

    /// Super-packets to the peer in a slot that left whole since this was last asked.
    pub(super) fn take_sent(&self, slot: usize) -> u64 {
        self.0[slot].sent.swap(0, Ordering::Relaxed)
    }

    /// Give back a slot, unless its peer is just wanted again. Only the prober may.
    pub(super) fn give_back(&self, slot: usize) {
        let slot = &self.0[slot];
        slot.sent.store(0, Ordering::Relaxed);
        let free = |peer: u64| (peer & WANTED == 0).then_some(0);
        let _ = slot
            .peer
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn slot_of(peers: &TunnelGsoPeers, to: Ipv4Addr) -> usize {
        let found = (0..SLOTS).find(|&slot| peers.look(slot).is_some_and(|(peer, _)| peer == to));
        found.unwrap()
    }

    #[test]
    fn a_peer_that_was_never_probed_is_closed_whatever_others_are() {
        let peers = TunnelGsoPeers::new();
        let [one, two] = [1, 2].map(|n| Ipv4Addr::new(10, 0, 0, n));
        assert_eq!(peers.ask(one), (false, true));
        peers.set_state(slot_of(&peers, one), PeerState::Open);
        assert_eq!(peers.ask(one), (true, true));
        assert_eq!(peers.ask(one), (true, false), "the prober knows already");
        assert_eq!(peers.ask(two), (false, true));
        peers.set_state(slot_of(&peers, two), PeerState::Blocked);
        assert!(peers.ask(one).0);
        assert!(!peers.ask(two).0);
        assert_eq!(peers.take_sent(slot_of(&peers, one)), 3);
        assert_eq!(peers.take_sent(slot_of(&peers, two)), 0);
    }

    #[test]
    fn a_slot_is_free_again_when_its_peer_is_not_wanted() {
        let peers = TunnelGsoPeers::new();
        let peer = Ipv4Addr::new(10, 0, 0, 1);
        peers.ask(peer);
        let slot = slot_of(&peers, peer);
        peers.set_state(slot, PeerState::Open);
        peers.ask(peer);
        peers.give_back(slot);
        assert_eq!(peers.look(slot), Some((peer, true)), "it is in use");
        peers.give_back(slot);
        assert_eq!(peers.look(slot), None);
        assert_eq!(peers.ask(peer), (false, true), "nothing is remembered");
    }

    /// Ask for `wanted` again and again, as a worker.
    fn ask_all(peers: &TunnelGsoPeers, wanted: &[Ipv4Addr], done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            for &peer in wanted {
                peers.ask(peer);
            }
        }
    }

    #[test]
    fn workers_and_the_prober_at_once_make_no_peer_up_and_list_none_twice() {
        let peers = TunnelGsoPeers::new();
        let all = (0..).map(|n| Ipv4Addr::from_bits(0x0a00_0001 + n));
        let same = |peer: &Ipv4Addr| std::ptr::eq(peers.set(*peer), &peers.0[..WAYS]);
        let wanted: Vec<Ipv4Addr> = all.filter(same).take(WAYS + 1).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| ask_all(&peers, &wanted, &done));
            }
            let mut wrong = None;
            for _ in 0..20_000 {
                let known: Vec<Ipv4Addr> = peers.iter().map(|(peer, _)| peer).collect();
                let strange = known.iter().any(|peer| !wanted.contains(peer));
                if strange || (1..known.len()).any(|n| known[..n].contains(&known[n])) {
                    wrong = Some(known);
                    break;
                }
                for slot in 0..WAYS {
                    peers.look(slot);
                    peers.set_state(slot, PeerState::Open);
                    peers.give_back(slot);
                }
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(wrong, None);
        });
        // Nothing is left of any.
        for slot in 0..WAYS {
            peers.look(slot);
            peers.give_back(slot);
        }
        assert_eq!(peers.iter().count(), 0);
    }

    #[test]
    fn neighbours_all_have_a_slot_and_strangers_find_none_when_all_are_taken() {
        let peers = TunnelGsoPeers::new();
        let neighbours: Vec<Ipv4Addr> = (1..=250).map(|n| [10, 0, 0, n].into()).collect();
        for &peer in neighbours.iter().chain(&neighbours) {
            peers.ask(peer);
        }
        let mut known: Vec<Ipv4Addr> = peers.iter().map(|(peer, _)| peer).collect();
        known.sort();
        assert_eq!(known, neighbours);
        for n in 0..100_000 {
            peers.ask(Ipv4Addr::from_bits(0x0b00_0000 + n));
        }
        assert_eq!(peers.iter().count(), SLOTS);
        assert_eq!(peers.ask([12, 0, 0, 1].into()), (false, false));
    }
}
