//! The internet checksum, with what the processor has and without.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use weft_dataplane::wire::checksum::{Sum, sum, sum_portable};

/// Name and function.
type Way = (&'static str, fn(&[u8]) -> Sum);

const WAYS: [Way; 2] = [("best", sum), ("portable", sum_portable)];

pub(crate) fn benches(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..=u16::MAX).map(|i| (i % 251) as u8).collect();
    let mut group = c.benchmark_group("checksum");
    // Headers, a small packet, a segment, an odd one, a jumbo frame, a super-packet.
    for len in [20, 64, 576, 1398, 1399, 8948, 65_483] {
        group.throughput(Throughput::Bytes(len as u64));
        for (name, way) in WAYS {
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| way(black_box(&bytes[..len])));
            });
        }
    }
    for offset in [1, 2, 8, 31] {
        let run = &bytes[offset..offset + 1398];
        group.throughput(Throughput::Bytes(1398));
        for (name, way) in WAYS {
            let name = format!("{name}, at offset {offset}");
            group.bench_function(BenchmarkId::new(name, 1398), |b| {
                b.iter(|| way(black_box(run)));
            });
        }
    }
    group.finish();
}
