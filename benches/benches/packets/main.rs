//! What is done to packets between system calls.
//!
//! `cargo bench -p weft-benches --bench packets -- checksum`, or another group's name.

mod checksum;
mod coalesce;
mod parse;
mod segment;
mod worker;

use criterion::{Bencher, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use weft_benches::replay::Replay;

/// Time `work` without its rewinding.
fn replay(bencher: &mut Bencher<'_>, work: &mut [impl Replay]) {
    bencher.iter_custom(|times| {
        let mut total = Duration::ZERO;
        for _ in 0..times {
            for batch in &mut *work {
                batch.rewind();
                let start = Instant::now();
                batch.run();
                total += start.elapsed();
            }
        }
        total
    });
}

criterion_group!(
    benches,
    checksum::benches,
    parse::benches,
    segment::benches,
    coalesce::benches,
    worker::benches
);
criterion_main!(benches);
