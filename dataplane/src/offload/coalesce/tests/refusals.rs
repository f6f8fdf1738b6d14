//! What the kernel refuses.

use super::*;

#[test]
fn a_refused_super_packet_ends_merging_for_its_protocol_and_for_a_while() {
    let tcp = build(&run(&Spec::tcp4(0), &[100; 3]));
    let udp = build(&run(&Spec::udp4(0), &[100; 3]));
    let mut bench = Bench::new(Trust::Vouched);
    tcp.iter().for_each(|packet| bench.push(packet));
    assert_eq!(bench.finish().len(), 1);
    assert!(bench.coalescer.note_refusal(0));
    assert!(!bench.coalescer.note_refusal(0), "not new");
    assert!(!bench.coalescer.note_refusal(1), "there is no such write");
    bench.coalescer.clear();
    bench.memory = Memory::default();
    tcp.iter().chain(&udp).for_each(|packet| bench.push(packet));
    let segments: Vec<_> = bench.finish().iter().map(|w| w.segments).collect();
    assert_eq!(segments, [1, 1, 1, 3]);
    for _ in 0..1 << 14 {
        bench.coalescer.clear();
        bench.memory = Memory::default();
        (0..4).for_each(|_| bench.push(&tcp[0]));
    }
    bench.coalescer.clear();
    bench.memory = Memory::default();
    tcp.iter().for_each(|packet| bench.push(packet));
    assert_eq!(bench.finish().len(), 1, "it is tried again");
}

#[test]
fn what_one_was_refused_none_that_shares_it_tries() {
    let shared = Arc::new(MergeRefusals::default());
    let bench = || {
        let mut bench = Bench::new(Trust::Vouched);
        bench.coalescer = bench.coalescer.sharing(shared.clone());
        bench
    };
    let tcp = build(&run(&Spec::tcp4(0), &[100; 3]));
    let (mut first, mut second) = (bench(), bench());
    tcp.iter().for_each(|packet| first.push(packet));
    first.finish();
    assert!(!shared.any());
    assert!(first.coalescer.note_refusal(0));
    assert!(shared.any());
    // From its next batch on, and one that begins later from the first.
    second.coalescer.clear();
    for mut bench in [second, bench()] {
        tcp.iter().for_each(|packet| bench.push(packet));
        assert_eq!(bench.finish().len(), 3);
    }
}

#[test]
fn a_refusal_of_many_udp_segments_is_none_of_merging() {
    let limits = Limits {
        udp_segments: 64,
        ..Limits::new(MTU)
    };
    let mut bench = Bench::with_limits(Trust::Vouched, limits);
    let of = |segments: usize| run(&Spec::udp4(0), &[100 * segments])[0].build_partial();
    bench.try_push(&of(65), Some(100)).unwrap();
    assert!(bench.coalescer.note_refusal(0));
    assert!(!bench.coalescer.note_refusal(0), "not new");
    bench.coalescer.clear();
    bench.memory = Memory::default();
    // Before it reaches the kernel: a peer can send as many as it likes.
    let refused = Err(PushError::Drop(DropReason::BadSuper));
    assert_eq!(bench.try_push(&of(65), Some(100)), refused);
    bench.try_push(&of(64), Some(100)).unwrap();
    assert!(bench.coalescer.writes()[0].is_super());
    bench.coalescer.clear();
    bench.memory = Memory::default();
    let packets = build(&run(&Spec::udp4(0), &[100; 64]));
    packets.iter().for_each(|packet| bench.push(packet));
    assert_eq!(bench.finish().len(), 1, "merging goes on");
}

#[test]
fn a_packet_as_it_came_says_nothing_of_super_packets() {
    let mut bench = Bench::new(Trust::Vouched);
    bench.push(&build(&run(&Spec::tcp4(0), &[100]))[0]);
    assert!(!bench.coalescer.note_refusal(0));
}
