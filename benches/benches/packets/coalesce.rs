//! Segments to super-packets.

use super::replay;
use criterion::{Criterion, Throughput};
use weft_benches::replay::{Arrival, Coalesce, Encap, Replay, Spec};
use weft_dataplane::offload::coalesce::Trust;

/// Frames of one train.
const TRAIN: usize = 44;

/// The frames of a super-packet, each as a datagram.
fn frames(spec: Spec) -> Vec<Arrival> {
    let reads = [spec.build()];
    let (mut encap, _) = Encap::new(&reads);
    encap.run();
    encap.arrivals().iter().flat_map(Arrival::frames).collect()
}

/// Whole segments of `flows` flows in turn, 44 in all.
fn interleaved(flows: usize) -> Vec<Arrival> {
    let flow = |port| Spec {
        port,
        ..Spec::tcp_super()
    };
    let flows: Vec<_> = (0..flows)
        .map(|i| frames(flow(40_000 + i as u16)))
        .collect();
    let turns = (0..TRAIN).flat_map(|turn| flows.iter().map(move |flow| flow[turn].clone()));
    turns.take(TRAIN).collect()
}

pub(crate) fn benches(c: &mut Criterion) {
    let one = interleaved(1);
    // Each starts where none of the others ended.
    let gaps: Vec<_> = one.iter().rev().cloned().collect();
    let six = frames(Spec::tcp_super_v6())[..TRAIN].to_vec();
    let datagrams = Spec {
        payload: TRAIN * 1400,
        gso_size: 1400,
        ..Spec::udp(0)
    };
    let mut group = c.benchmark_group("coalesce");
    group.throughput(Throughput::Elements(TRAIN as u64));
    for (name, frames, writes) in [
        ("44 of one flow", one, 1),
        ("44 of one flow over IPv6", six, 1),
        ("44 of one UDP flow", frames(datagrams), 1),
        ("44 of 8 flows in turn", interleaved(8), 8),
        ("44 that cannot merge", gaps, TRAIN),
    ] {
        for (how, trust) in [
            ("vouched for", Trust::Vouched),
            ("verified", Trust::Unknown),
        ] {
            let mut work = Coalesce::new(&frames, trust);
            work.run();
            assert_eq!((work.packets(), work.writes()), (TRAIN, writes), "{name}");
            group.bench_function(format!("{name}, {how}"), |b| {
                replay(b, std::slice::from_mut(&mut work));
            });
        }
    }
    group.finish();
}
