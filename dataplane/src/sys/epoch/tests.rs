//! Also to be run under Miri, which sees races and leaks that these tests cannot:
//! `MIRIFLAGS="-Zmiri-tree-borrows" cargo +nightly miri test -p weft-dataplane --lib epoch`.
//! (crossbeam-epoch's own list violates Stacked Borrows, Miri's default.)

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Barrier, mpsc};
use std::thread;

/// Miri takes about a thousand times longer.
const REPLACEMENTS: u64 = if cfg!(miri) { 60 } else { 20_000 };

thread_local! {
    static READS_ONLY: Cell<bool> = const { Cell::new(false) };
}

#[derive(Default)]
struct Log {
    drops: AtomicUsize,
    /// Of those, on threads that only read.
    drops_by_readers: AtomicUsize,
}

impl Log {
    fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }
}

/// Words that only belong together while the value lives.
struct Probe {
    number: u64,
    words: [u64; 16],
    log: Arc<Log>,
}

impl Probe {
    fn new(number: u64, log: &Arc<Log>) -> Probe {
        Probe {
            number,
            words: std::array::from_fn(|i| number.wrapping_mul(i as u64 + 3)),
            log: log.clone(),
        }
    }

    fn check(&self) -> u64 {
        for (i, &word) in self.words.iter().enumerate() {
            assert_eq!(word, self.number.wrapping_mul(i as u64 + 3));
        }
        self.number
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.check();
        self.words = [u64::MAX; 16];
        self.log.drops.fetch_add(1, Ordering::SeqCst);
        if READS_ONLY.get() {
            self.log.drops_by_readers.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn nobody_reading_means_nothing_left() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    for number in 1..=10 {
        assert_eq!(cell.replace(Probe::new(number, &log)), 0);
        assert_eq!(log.drops(), number as usize);
    }
    drop(cell);
    assert_eq!(log.drops(), 11);
}

#[test]
fn a_reader_keeps_its_value_until_it_refreshes() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let mut reader = cell.subscribe().into_reader();
    assert!(cell.replace(Probe::new(1, &log)) > 0);
    assert!(cell.replace(Probe::new(2, &log)) > 0);
    assert_eq!(reader.get().check(), 0);
    assert_eq!(log.drops(), 0);
    reader.refresh();
    assert_eq!(reader.get().check(), 2);
    // Two epochs for the first replacement, and two for those made while it was under way.
    for _ in 0..3 {
        cell.reclaim();
        reader.refresh();
    }
    assert_eq!(cell.reclaim(), 0);
    assert_eq!(log.drops(), 2);
    assert_eq!(reader.get().check(), 2);
}

#[test]
fn a_long_backlog_goes_in_one_call() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let reader = cell.subscribe().into_reader();
    for number in 1..=100 {
        cell.replace(Probe::new(number, &log));
    }
    assert_eq!(reader.get().check(), 0);
    drop(reader);
    assert_eq!(cell.reclaim(), 0);
    assert_eq!(log.drops(), 100);
}

#[test]
fn a_waiting_reader_keeps_nothing() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let mut reader = cell.subscribe().into_reader();
    let left = reader.wait(|| cell.replace(Probe::new(1, &log)));
    assert_eq!(left, 0);
    assert_eq!(log.drops(), 1);
    assert_eq!(reader.get().check(), 1);
}

#[test]
fn a_panic_while_waiting_leaves_the_reader_on_a_live_value() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let mut reader = cell.subscribe().into_reader();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        reader.wait(|| {
            assert_eq!(cell.replace(Probe::new(1, &log)), 0);
            panic!("interrupted");
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(reader.get().check(), 1);
    cell.replace(Probe::new(2, &log));
    assert_eq!(reader.get().check(), 1);
}

#[test]
fn the_writer_may_go_first() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let late = cell.subscribe();
    let mut reader = cell.subscribe().into_reader();
    cell.replace(Probe::new(1, &log));
    drop(cell);
    assert_eq!(reader.get().check(), 0);
    assert_eq!(log.drops(), 0);
    reader.refresh();
    assert_eq!(reader.get().check(), 1);
    drop(reader);
    assert_eq!(late.into_reader().get().check(), 1);
    assert_eq!(log.drops(), 2);
}

#[test]
fn the_writer_may_go_last_and_elsewhere() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let reader = cell.subscribe().into_reader();
    let inner = log.clone();
    let cell = thread::spawn(move || {
        cell.replace(Probe::new(1, &inner));
        cell
    })
    .join()
    .unwrap();
    drop(reader);
    assert_eq!(log.drops(), 0);
    assert_eq!(cell.reclaim(), 0);
    assert_eq!(log.drops(), 1);
    drop(cell);
    assert_eq!(log.drops(), 2);
}

/// Readers that refresh and wait all the time, while the writer replaces as fast as it can.
#[test]
fn readers_see_whole_values_in_order_and_drop_none() {
    let log = Arc::default();
    let cell = EpochCell::new(Probe::new(0, &log));
    let done = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(4));
    let (gone, all_gone) = mpsc::channel::<()>();
    let readers: Vec<_> = (1..4_u64)
        .map(|seed| {
            let (subscription, done) = (cell.subscribe(), done.clone());
            let (start, gone) = (start.clone(), gone.clone());
            thread::spawn(move || {
                READS_ONLY.set(true);
                let mut reader = subscription.into_reader();
                start.wait();
                let (mut newest, mut rounds) = (0, seed);
                while !done.load(Ordering::Acquire) {
                    let seen = reader.get().check();
                    assert!(seen >= newest);
                    newest = seen;
                    rounds += 1;
                    match rounds % 7 {
                        0 => reader.wait(thread::yield_now),
                        _ => reader.refresh(),
                    }
                }
                reader.refresh();
                let last = reader.get().check();
                // The last one out drops the rest, which shall be the writer.
                drop(reader);
                drop(gone);
                last
            })
        })
        .collect();
    drop(gone);
    start.wait();
    for number in 1..=REPLACEMENTS {
        cell.replace(Probe::new(number, &log));
    }
    done.store(true, Ordering::Release);
    assert!(all_gone.recv().is_err());
    for reader in readers {
        assert_eq!(reader.join().unwrap(), REPLACEMENTS);
    }
    assert_eq!(cell.reclaim(), 0);
    assert_eq!(log.drops(), REPLACEMENTS as usize);
    assert_eq!(log.drops_by_readers.load(Ordering::SeqCst), 0);
    drop(cell);
    assert_eq!(log.drops(), REPLACEMENTS as usize + 1);
}
