//! A value that one thread replaces while others read it, without a lock on either side.
//!
//! crossbeam-epoch tells when no reader can see an old value any more. It may find that out
//! on any thread, also on a reader that pins: `pin` collects once in 128 times. So the
//! deferred function frees nothing: it only raises a number, and the writer, which keeps the
//! old values in a list, drops those up to that number. Readers never run a destructor.

#![allow(unsafe_code)]

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An old value, with the number of the replacement that retired it.
///
/// `AtomicPtr` because the values move between threads as the writer does; `T: Send + Sync`
/// is demanded where a cell is made.
struct Retired<T> {
    number: u64,
    value: AtomicPtr<T>,
}

/// What the writer and the readers hold together; the last of them frees it.
struct Shared<T> {
    /// From `Box::into_raw`; never null.
    current: AtomicPtr<T>,
    /// One of its own, so that other users of crossbeam-epoch delay nothing here.
    collector: Collector,
    /// Values retired by replacements up to this number have no readers.
    unseen: Arc<AtomicU64>,
    /// In the order of their numbers. Only the writer and `drop` touch this list; it lies
    /// here because readers may outlive the writer.
    retired: Mutex<Vec<Retired<T>>>,
    owns: PhantomData<T>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let retired = std::mem::take(
            self.retired
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let current = AtomicPtr::new(*self.current.get_mut());
        let values = retired.into_iter().map(|old| old.value).chain([current]);
        for value in values {
            // SAFETY: all values come from `Box::into_raw` and each lies in exactly one of
            // `current` and `retired`. Every reader holds an `Arc` of this, so none is left.
            drop(unsafe { Box::from_raw(value.into_inner()) });
        }
    }
}

/// The writer's side. There is one; readers come from [`EpochCell::subscribe`].
pub struct EpochCell<T> {
    participant: LocalHandle,
    /// How many there were, and so the number of the latest.
    replacements: Cell<u64>,
    /// Up to which of them `unseen` is raised, or going to be.
    marked: Cell<u64>,
    shared: Arc<Shared<T>>,
}

// SAFETY: only `participant` is not `Send`, for its memory is reached through `Cell`s. It is
// private to this cell, and the guards made from it live no longer than the calls below,
// which borrow the cell; so no other thread can reach it while or after the cell moves.
unsafe impl<T: Send + Sync> Send for EpochCell<T> {}

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> EpochCell<T> {
        let collector = Collector::new();
        EpochCell {
            participant: collector.register(),
            replacements: Cell::new(0),
            marked: Cell::new(0),
            shared: Arc::new(Shared {
                current: AtomicPtr::new(Box::into_raw(Box::new(value))),
                collector,
                unseen: Arc::new(AtomicU64::new(0)),
                retired: Mutex::new(Vec::new()),
                owns: PhantomData,
            }),
        }
    }

    /// What a new reader needs, to be sent to its thread.
    pub fn subscribe(&self) -> EpochSubscription<T> {
        EpochSubscription {
            shared: self.shared.clone(),
        }
    }

    /// Replace the value and drop, on this thread, what no reader can see any more.
    ///
    /// Waits for nobody: an old value that a reader still holds is dropped by a later call
    /// of this or of [`EpochCell::reclaim`]. Returns how many are left.
    pub fn replace(&self, value: T) -> usize {
        let new = Box::into_raw(Box::new(value));
        let old = self.shared.current.swap(new, Ordering::AcqRel);
        let number = self.replacements.get() + 1;
        self.replacements.set(number);
        self.retired().push(Retired {
            number,
            value: AtomicPtr::new(old),
        });
        self.reclaim()
    }

    /// Drop, on this thread, what no reader can see any more; returns how many are left.
    pub fn reclaim(&self) -> usize {
        let mut unseen = self.unseen();
        while unseen < self.replacements.get() {
            if self.marked.get() == unseen {
                self.mark();
            }
            // A deferred function is due two epochs after it was deferred, and each flush
            // advances the epoch by one, if the readers allow it; but every 128th pin does
            // so before the flush, which then finds itself pinned an epoch behind.
            for _ in 0..3 {
                self.participant.pin().flush();
            }
            let before = unseen;
            unseen = self.unseen();
            if unseen == before {
                break;
            }
        }
        self.drop_unseen(unseen)
    }

    /// Have `unseen` raised once every reader that may have loaded one of the values
    /// retired so far has repinned or unpinned.
    ///
    /// One such mark is under way at a time, whatever the number of replacements: each
    /// takes 2 KiB in the collector, and a reader may be busy for long.
    fn mark(&self) {
        let number = self.replacements.get();
        self.marked.set(number);
        let unseen = self.shared.unseen.clone();
        let guard = self.participant.pin();
        guard.defer(move || unseen.store(number, Ordering::Release));
    }

    fn unseen(&self) -> u64 {
        self.shared.unseen.load(Ordering::Acquire)
    }

    fn drop_unseen(&self, unseen: u64) -> usize {
        let mut retired = self.retired();
        let free = retired.partition_point(|old| old.number <= unseen);
        let left = retired.len() - free;
        let values: Vec<_> = retired.drain(..free).collect();
        drop(retired);
        for old in values {
            // SAFETY: from `Box::into_raw`, and out of the list, so dropped once. A mark
            // set after the value was retired has run, so all readers that could have
            // loaded it have let go, and their reads happened before.
            drop(unsafe { Box::from_raw(old.value.into_inner()) });
        }
        left
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Retired<T>>> {
        let lock = self.shared.retired.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader before it has reached its thread.
pub struct EpochSubscription<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + Sync + 'static> EpochSubscription<T> {
    /// Become a reader, on the thread that will read.
    pub fn into_reader(self) -> EpochReader<T> {
        let participant = self.shared.collector.register();
        let guard = participant.pin();
        EpochReader {
            current: self.shared.current.load(Ordering::Acquire),
            guard,
            _participant: participant,
            shared: self.shared,
        }
    }
}

/// The reader's side: one value, the same until [`EpochReader::refresh`] or
/// [`EpochReader::wait`].
///
/// ```compile_fail,E0502
/// # use weft_dataplane::sys::epoch::EpochCell;
/// let mut reader = EpochCell::new(7).subscribe().into_reader();
/// let value = reader.get();
/// reader.refresh();
/// println!("{value}");
/// ```
///
/// ```compile_fail,E0502
/// # use weft_dataplane::sys::epoch::EpochCell;
/// let mut reader = EpochCell::new(7).subscribe().into_reader();
/// let value = reader.get();
/// reader.wait(|| ());
/// println!("{value}");
/// ```
pub struct EpochReader<T> {
    /// Loaded from `shared.current` under `guard` as it is pinned now.
    current: *const T,
    /// The only guard of `_participant`; dropped before it.
    guard: Guard,
    /// Keeps the registration alive while `wait` has the guard unpinned.
    _participant: LocalHandle,
    shared: Arc<Shared<T>>,
}

impl<T: Send + Sync + 'static> EpochReader<T> {
    /// The value as of the latest refresh.
    #[inline]
    pub fn get(&self) -> &T {
        // SAFETY: `current` was loaded while `guard` was pinned as it is now, and a value
        // is not dropped before the guards pinned when it was retired have moved on. That
        // takes `&mut self`, so the result's borrow of `self` ends before.
        unsafe { &*self.current }
    }

    /// Take the newest value and let go of the one before. No lock, no wait, no collection.
    #[inline]
    pub fn refresh(&mut self) {
        self.guard.repin();
        // `repin` has no fence of its own. Without one the load below may be done before
        // the new epoch is announced, and yield a value that the writer, seeing the
        // announcement, takes for unseen. Pairs with the fence in the writer's flush.
        fence(Ordering::SeqCst);
        self.reload();
    }

    /// Run `f`, which may block, while holding no value; then take the newest one.
    ///
    /// As long as `f` runs this reader keeps no old value alive.
    #[inline]
    pub fn wait<R>(&mut self, f: impl FnOnce() -> R) -> R {
        /// Reloads also when `f` panics: by then the value from before may be gone.
        struct Reload<'a, T: Send + Sync + 'static>(&'a mut EpochReader<T>);

        impl<T: Send + Sync + 'static> Drop for Reload<'_, T> {
            fn drop(&mut self) {
                self.0.reload();
            }
        }

        let reload = Reload(self);
        // Pins again, with a full fence, before it returns or unwinds.
        reload.0.guard.repin_after(f)
    }

    #[inline]
    fn reload(&mut self) {
        self.current = self.shared.current.load(Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests;
