//! What has been learned of the MTU of the paths to peers, for all workers.
//!
//! A fixed number of slots, written by whoever learns something and read by everybody,
//! without a lock and without memory that comes or goes. Time is passed in, in milliseconds
//! from any fixed moment. The control thread has no part in it.

use crate::route::hash_index::hash_addr;
use crate::wire::{ipv4, ipv6};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How long a lesson about a path is believed that nobody needs, in milliseconds. One that is
/// needed is confirmed again and again, see [`ASK_EVERY_MS`].
pub const LIFETIME_MS: u64 = 60 * 1000;

/// How often the kernel is asked whether a lesson that is needed still holds, in milliseconds:
/// it keeps what routers report itself, for ten minutes (RFC 1191 section 6.3), and may be told
/// to forget it, or be given another route.
pub const ASK_EVERY_MS: u64 = 2 * 1000;

/// Slots that an address may lie in.
const WAYS: usize = 4;

/// Groups of slots, named by eight bits of an address's hash.
const SETS: usize = 256;

/// One lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lesson {
    addr: u128,
    mtu: u16,
    /// When it ends; 0 in a slot that was never used.
    until: u64,
}

/// What is known of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownMtu {
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The kernel is to be asked whether that still holds. One caller hears that at a time.
    pub is_due: bool,
}

/// A lesson behind a version number, which is odd while it is being written.
#[derive(Default)]
struct Slot {
    version: AtomicU32,
    mtu: AtomicU32,
    until: AtomicU64,
    addr_high: AtomicU64,
    addr_low: AtomicU64,
    /// When to ask whether it still holds. Not behind the version: to ask once too often or
    /// once too little costs nothing.
    ask: AtomicU64,
}

impl Slot {
    /// The lesson, unless it is just being replaced.
    fn read(&self) -> Option<Lesson> {
        let before = self.version.load(Ordering::Acquire);
        let high = u128::from(self.addr_high.load(Ordering::Relaxed));
        let low = u128::from(self.addr_low.load(Ordering::Relaxed));
        let lesson = Lesson {
            addr: high << 64 | low,
            mtu: self.mtu.load(Ordering::Relaxed) as u16,
            until: self.until.load(Ordering::Relaxed),
        };
        // The fields before the second look at the version.
        fence(Ordering::Acquire);
        let after = self.version.load(Ordering::Relaxed);
        (before & 1 == 0 && before == after).then_some(lesson)
    }

    /// Whether its lesson may be about the address `key`: a cheap look before [`Slot::read`]. One
    /// that is just being replaced may be missed, as `read` misses it.
    #[inline]
    fn may_be(&self, key: u128) -> bool {
        self.addr_low.load(Ordering::Relaxed) == key as u64
    }

    /// Replace the lesson, unless another thread is at it: then that one's stands.
    fn write(&self, lesson: Lesson) {
        let before = self.version.load(Ordering::Relaxed) & !1;
        let begun = before.wrapping_add(1);
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        let claimed = self
            .version
            .compare_exchange(before, begun, acquire, relaxed);
        if claimed.is_err() {
            return;
        }
        // The odd version before the fields.
        fence(Ordering::Release);
        let high = (lesson.addr >> 64) as u64;
        self.addr_high.store(high, Ordering::Relaxed);
        self.addr_low.store(lesson.addr as u64, Ordering::Relaxed);
        self.mtu.store(u32::from(lesson.mtu), Ordering::Relaxed);
        self.until.store(lesson.until, Ordering::Relaxed);
        self.version.store(begun.wrapping_add(1), Ordering::Release);
    }

    /// Whether it is time to ask, and the caller is to do it.
    fn claim(&self, now: u64) -> bool {
        let (due, next) = (self.ask.load(Ordering::Relaxed), now + ASK_EVERY_MS);
        let relaxed = Ordering::Relaxed;
        due <= now
            && self
                .ask
                .compare_exchange(due, next, relaxed, relaxed)
                .is_ok()
    }
}

/// MTUs by address: those of the paths to peers, in bytes of the outer IP packet, by underlay
/// address; and those of pods, see [`pods`](super::pods).
///
/// It holds 1,024 addresses; where four share a hash, a fifth takes the place of the one
/// that was learned first, which then has to be learned again.
pub struct PathMtus {
    slots: Box<[Slot]>,
    /// Milliseconds that a lesson is believed.
    lifetime: u64,
    /// When the last lesson ends.
    until: AtomicU64,
}

impl Default for PathMtus {
    fn default() -> PathMtus {
        PathMtus::new()
    }
}

impl PathMtus {
    /// Nothing learned yet.
    pub fn new() -> PathMtus {
        PathMtus::believed_for(LIFETIME_MS)
    }

    /// Nothing learned yet; each lesson is believed for so many milliseconds.
    pub fn believed_for(lifetime: u64) -> PathMtus {
        PathMtus {
            lifetime,
            slots: (0..SETS * WAYS).map(|_| Slot::default()).collect(),
            until: AtomicU64::new(0),
        }
    }

    /// Whether anything was ever learned: while not, no clock need be read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.until.load(Ordering::Relaxed) == 0
    }

    /// Whether anything learned is still believed.
    #[inline]
    pub fn any(&self, now: u64) -> bool {
        now < self.until.load(Ordering::Relaxed)
    }

    /// The MTU of the path to `addr`, if it is known to be smaller than the way out allows.
    pub fn get(&self, addr: IpAddr, now: u64) -> Option<u16> {
        Some(self.find(addr, now)?.1.mtu)
    }

    /// As [`PathMtus::get`], for one who can ask the kernel. Whoever is told to must
    /// [`PathMtus::learn`] or [`PathMtus::forget`] what it says.
    pub fn look(&self, addr: IpAddr, now: u64) -> Option<KnownMtu> {
        let (slot, lesson) = self.find(addr, now)?;
        Some(KnownMtu {
            mtu: lesson.mtu,
            is_due: slot.claim(now),
        })
    }

    fn find(&self, addr: IpAddr, now: u64) -> Option<(&Slot, Lesson)> {
        if !self.any(now) {
            return None;
        }
        let key = key(addr);
        let slots = self.set(addr).iter().filter(|slot| slot.may_be(key));
        let mut lessons = slots.filter_map(|slot| Some((slot, slot.read()?)));
        lessons.find(|(_, lesson)| lesson.addr == key && now < lesson.until)
    }

    /// The path to `addr` is as large as the way out allows.
    pub fn forget(&self, addr: IpAddr, now: u64) {
        if let Some((slot, lesson)) = self.find(addr, now) {
            slot.write(Lesson { until: 0, ..lesson });
        }
    }

    /// Believe for a lifetime that the path to `addr` has this MTU, or the least that is
    /// believed if it is smaller.
    pub fn learn(&self, addr: IpAddr, mtu: u16, now: u64) {
        // Below, a forged report would buy too many packets for its price.
        let least = match addr.to_canonical() {
            IpAddr::V4(_) => ipv4::MIN_PATH_MTU,
            IpAddr::V6(_) => ipv6::MIN_MTU,
        };
        let lesson = Lesson {
            addr: key(addr),
            mtu: mtu.max(least),
            until: now.saturating_add(self.lifetime),
        };
        // A slot that is being written counts as young: it has just been taken.
        let age = |slot: &&Slot| match slot.read() {
            Some(old) if old.addr == lesson.addr => 0,
            Some(old) => old.until.saturating_add(1),
            None => u64::MAX,
        };
        if let Some(slot) = self.set(addr).iter().min_by_key(age) {
            slot.write(lesson);
            slot.ask.store(now + ASK_EVERY_MS, Ordering::Relaxed);
            self.until.fetch_max(lesson.until, Ordering::Relaxed);
        }
    }

    fn set(&self, addr: IpAddr) -> &[Slot] {
        let set = (hash_addr(addr.to_canonical()) >> (u64::BITS - SETS.ilog2())) as usize;
        &self.slots[set * WAYS..][..WAYS]
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
mod tests;
