//! Super-packets to segments.

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use weft_benches::replay::Spec;
use weft_dataplane::offload::segment::{MAX_HEADER_LEN, Segmenter};

pub(crate) fn benches(c: &mut Criterion) {
    let tcp4 = Spec::tcp_super();
    let tcp6 = Spec::tcp_super_v6();
    let udp4 = Spec {
        payload: 44 * 1400,
        gso_size: 1400,
        ..Spec::udp(0)
    };
    let udp6 = Spec { v6: true, ..udp4 };
    let mut group = c.benchmark_group("segment");
    for (name, spec) in [
        ("TCP over IPv4", tcp4),
        ("TCP over IPv6", tcp6),
        ("UDP over IPv4", udp4),
        ("UDP over IPv6", udp6),
        (
            "TCP over IPv4",
            Spec {
                gso_size: 536,
                ..tcp4
            },
        ),
        (
            "TCP over IPv4",
            Spec {
                gso_size: 8948,
                ..tcp4
            },
        ),
        (
            "TCP over IPv4",
            Spec {
                payload: 10 * 1398,
                ..tcp4
            },
        ),
        (
            "TCP over IPv4",
            Spec {
                payload: 2 * 1398,
                ..tcp4
            },
        ),
    ] {
        let read = spec.build();
        let mut slot = [0; MAX_HEADER_LEN];
        let Ok(segmenter) = Segmenter::new(&read.offload, &read.ip) else {
            panic!("{spec:?} cannot be segmented");
        };
        let segments = segmenter.remaining();
        let (payload, size) = (spec.payload, spec.gso_size);
        group.throughput(Throughput::Elements(segments as u64));
        group.bench_function(format!("{name}, {payload} by {size}"), |b| {
            b.iter(|| {
                let mut segmenter = Segmenter::new(&read.offload, black_box(&read.ip));
                let segmenter = segmenter.as_mut().ok()?;
                while let Some(payload) = segmenter.segment(&read.ip, &mut slot) {
                    black_box((&payload, &slot));
                }
                Some(())
            });
        });
    }
    group.finish();
}
