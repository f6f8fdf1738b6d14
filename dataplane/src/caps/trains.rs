//! Trains that the kernel refuses: longer ones than it takes, or those for a peer.
//!
//! A fixed number of slots, in which workers note and look up peers without a lock and without
//! memory that comes or goes. While none was ever refused a look costs one load.

use super::Grant;
use crate::offload::plan::MAX_FRAMES;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// For how long the trains of a peer go frame by frame after one was refused, at first. What
/// refused it may be gone: a route changes, a device is replaced.
const SINGLY_MS: u64 = 60_000;

/// The same in the end: it doubles with each refusal.
const SINGLY_MAX_MS: u64 = 64 * SINGLY_MS;

/// Peers that are told apart. If more of them refuse trains, it is hardly the peers' doing.
const PEERS: usize = 64;

/// Trains as the kernel takes them.
pub struct Trains {
    /// Most frames of one: 0 if nobody wants any, and 1 if the kernel has none.
    max_frames: AtomicU16,
    peers: [Peer; PEERS],
    /// All peers' trains go frame by frame until then.
    all_until: AtomicU64,
    /// When the last peer may have trains again, in milliseconds; 0 if none was ever refused.
    until: AtomicU64,
}

/// A peer whose trains go frame by frame. Who looks while another notes, or notes while another
/// does, may be wrong about one train and nothing more.
#[derive(Default)]
struct Peer {
    /// Of its address, see [`key`]; 0 if there is none.
    key: AtomicU64,
    until: AtomicU64,
    /// How long it was the last time; 0 for a peer that was never refused.
    pause: AtomicU64,
}

impl Default for Trains {
    fn default() -> Trains {
        Trains {
            max_frames: AtomicU16::new(0),
            peers: std::array::from_fn(|_| Peer::default()),
            all_until: AtomicU64::new(0),
            until: AtomicU64::new(0),
        }
    }
}

impl Trains {
    /// Have trains of at most `found` frames, as the kernel was seen to take, or of
    /// [`MAX_FRAMES`] where it could not be asked. It never takes more later on.
    pub fn ask(&self, found: Option<u16>) {
        let most = found.unwrap_or(MAX_FRAMES as u16).max(1);
        let _ = self.max_frames.compare_exchange(0, most, Relaxed, Relaxed);
    }

    /// Most frames that a train may have; 1 if there are none.
    #[inline]
    pub fn max_frames(&self) -> u16 {
        self.max_frames.load(Relaxed).max(1)
    }

    /// Note that the kernel takes trains of `frames` frames and no longer ones; whether that is
    /// new.
    pub fn limit(&self, frames: u16) -> bool {
        self.max_frames.fetch_min(frames, Relaxed) > frames
    }

    /// Whether the trains of `peer` must go frame by frame. The time, in milliseconds, is asked for
    /// only if it matters.
    #[inline]
    pub fn are_refused_by(&self, peer: IpAddr, now: impl FnOnce() -> u64) -> bool {
        let until = self.until.load(Relaxed);
        until != 0 && self.look(peer, until, now())
    }

    #[cold]
    fn look(&self, peer: IpAddr, until: u64, now: u64) -> bool {
        let key = key(peer);
        let of_peer =
            |entry: &Peer| entry.key.load(Relaxed) == key && now < entry.until.load(Relaxed);
        now < until && (now < self.all_until.load(Relaxed) || self.peers.iter().any(of_peer))
    }

    /// Note that a train to `peer` was refused; whether it was allowed any.
    pub fn note(&self, peer: IpAddr, now: u64) -> bool {
        let key = key(peer);
        let mut peers = self.peers.iter();
        let own = peers.find(|entry| entry.key.load(Relaxed) == key);
        let Some(entry) = own.or_else(|| self.take(key, now)) else {
            self.note_all(now);
            return true;
        };
        let is_new = entry.until.load(Relaxed) <= now;
        let pause = match entry.pause.load(Relaxed) {
            0 => SINGLY_MS,
            pause if is_new => (pause * 2).min(SINGLY_MAX_MS),
            pause => pause,
        };
        entry.pause.store(pause, Relaxed);
        entry.until.store(now + pause, Relaxed);
        self.until.fetch_max(now + pause, Relaxed);
        is_new
    }

    /// A slot that is free by now.
    fn take(&self, key: u64, now: u64) -> Option<&Peer> {
        let entry = self.peers.iter().find(|entry| {
            let old = entry.key.load(Relaxed);
            let is_free = entry.until.load(Relaxed) <= now;
            let taken = || entry.key.compare_exchange(old, key, Relaxed, Relaxed);
            is_free && taken().is_ok()
        })?;
        entry.pause.store(0, Relaxed);
        Some(entry)
    }

    /// More peers refuse trains than can be told apart.
    fn note_all(&self, now: u64) {
        for entry in &self.peers {
            entry.key.store(0, Relaxed);
            entry.until.store(0, Relaxed);
        }
        self.all_until.store(now + SINGLY_MS, Relaxed);
        self.until.fetch_max(now + SINGLY_MS, Relaxed);
    }

    /// How far they are granted.
    pub fn grant(&self, now: u64) -> Grant {
        match self.max_frames.load(Relaxed) {
            0 => Grant::Off,
            1 => Grant::Refused,
            _ if now < self.until.load(Relaxed) => Grant::Limited,
            _ => Grant::On,
        }
    }
}

/// An address as a number other than 0. That two addresses share one is not to be expected, and
/// would only make one have no trains with the other.
fn key(peer: IpAddr) -> u64 {
    match peer {
        IpAddr::V4(addr) => u64::from(addr.to_bits()) | 1 << 32,
        IpAddr::V6(addr) => {
            let bits = addr.to_bits();
            let mixed = (bits >> 64) as u64 ^ (bits as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed | 1 << 63
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    fn trains() -> Trains {
        let trains = Trains::default();
        trains.ask(None);
        trains
    }

    #[test]
    fn trains_are_as_long_as_the_kernel_was_seen_to_take_and_only_ever_get_shorter() {
        let trains = Trains::default();
        assert_eq!((trains.max_frames(), trains.grant(0)), (1, Grant::Off));
        trains.ask(Some(64));
        assert_eq!((trains.max_frames(), trains.grant(0)), (64, Grant::On));
        trains.ask(None);
        assert_eq!(trains.max_frames(), 64);
        assert!(!trains.limit(64), "that is known");
        assert!(trains.limit(1));
        assert!(!trains.limit(64));
        assert_eq!((trains.max_frames(), trains.grant(0)), (1, Grant::Refused));

        let trains = Trains::default();
        trains.ask(Some(1));
        assert_eq!(trains.grant(0), Grant::Refused);
    }

    #[test]
    fn trains_of_a_peer_are_tried_again_ever_later_and_no_other_peer_pays() {
        let trains = trains();
        assert!(!trains.are_refused_by(peer(1), || 0));
        let mut now = 1000;
        let mut waits = SINGLY_MS;
        for _ in 0..8 {
            assert!(trains.note(peer(1), now));
            assert!(!trains.note(peer(1), now + 1), "that is known");
            assert_eq!(trains.grant(now), Grant::Limited);
            assert!(trains.are_refused_by(peer(1), || now + waits));
            assert!(!trains.are_refused_by(peer(2), || now));
            now += 1 + waits;
            assert!(!trains.are_refused_by(peer(1), || now));
            assert_eq!(trains.grant(now), Grant::On);
            waits = (2 * waits).min(SINGLY_MAX_MS);
        }
    }

    #[test]
    fn more_peers_that_refuse_than_can_be_told_apart_are_all_peers() {
        let refused = trains();
        for n in 0..PEERS as u8 {
            assert!(refused.note(peer(n), 1000));
        }
        assert!(!refused.are_refused_by(peer(200), || 1000));
        assert!(refused.note(peer(200), 1000));
        for n in [1, 200, 201] {
            assert!(refused.are_refused_by(peer(n), || 1000 + SINGLY_MS - 1));
            assert!(!refused.are_refused_by(peer(n), || 1000 + SINGLY_MS));
        }
        // Those of long ago make room for others.
        let refused = trains();
        for n in 0..=PEERS as u8 {
            assert!(refused.note(peer(n), u64::from(n) * SINGLY_MS));
            assert!(!refused.are_refused_by(peer(200), || u64::from(n) * SINGLY_MS));
        }
    }

    #[test]
    fn what_one_worker_was_refused_no_other_tries() {
        let trains = trains();
        let told = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| trains.note(peer(1), 5)).count()))
                .collect();
            let told = workers.into_iter().map(|worker| worker.join().unwrap());
            told.sum::<usize>()
        });
        assert!((1..=4).contains(&told), "{told}");
        assert!(trains.are_refused_by(peer(1), || 5));
        // They may have taken a slot each, but none of another peer's.
        assert!(!trains.are_refused_by(peer(2), || 5));
    }

    #[test]
    fn addresses_have_keys_of_their_own() {
        let v6 = |text: &str| -> IpAddr { text.parse().unwrap() };
        let all = [
            [0, 0, 0, 0].into(),
            peer(1),
            peer(2),
            v6("::"),
            v6("::10.0.0.1"),
            v6("fd00::1"),
            v6("fd00::2"),
            v6("fd00:0:0:1::1"),
        ];
        let mut keys = all.map(key);
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]) && keys[0] != 0);
    }
}
