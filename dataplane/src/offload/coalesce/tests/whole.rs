//! Super-packets that arrive whole, and how long one may become.

use super::*;

#[test]
fn super_packets_received_whole_are_handed_on() {
    for (spec, gso) in [
        (Spec::tcp4(63_000), None),
        (Spec::tcp6(63_000), None),
        (Spec::udp4(13_050), Some(1300)),
        (Spec::udp6(13_050), Some(1300)),
        (Spec::udp4(200), Some(100)),
    ] {
        let size = gso.map_or(MTU - spec.header_len(), usize::from);
        let mut bench = Bench::new(Trust::Unknown);
        bench.try_push(&spec.build_partial(), gso).unwrap();
        let writes = bench.finish();
        assert_eq!(writes[0].hdr, spec.vnet_hdr(size as u16));
        assert_eq!(writes[0].ip, spec.build_partial());
        assert_eq!(deliver(&writes), build(&spec.segments(size)));
    }
}

#[test]
fn a_super_packet_with_a_complete_checksum_is_verified_first() {
    let spec = Spec {
        flags: ACK | CWR | FIN,
        ..Spec::tcp4(5000)
    };
    let writes = coalesce(&[spec.build()], Trust::Unknown);
    let gso = MTU - 40;
    assert_eq!(
        writes[0].hdr.gso_type,
        vnet_hdr::GSO_TCPV4 | vnet_hdr::GSO_ECN
    );
    assert_eq!(writes[0].ip, spec.build_partial());
    assert_eq!(deliver(&writes), build(&spec.segments(gso)));

    let mut wrong = spec.build();
    wrong[100] ^= 1;
    let writes = coalesce(std::slice::from_ref(&wrong), Trust::Unknown);
    assert_eq!(writes[0].hdr, VnetHdr::default());
    assert_eq!(writes[0].ip, wrong);
}

#[test]
fn a_large_datagram_of_unknown_segment_size_is_no_super_packet() {
    let spec = Spec::udp4(5000);
    let writes = coalesce(&[spec.build_partial()], Trust::Unknown);
    assert_eq!(writes[0].hdr.gso_type, vnet_hdr::GSO_NONE);
    assert_eq!(deliver(&writes), [spec.build()]);
}

#[test]
fn nothing_joins_a_super_packet_received_whole() {
    let mut bench = Bench::new(Trust::Vouched);
    let specs = run(&Spec::tcp4(0), &[5000, 100, 100]);
    specs.iter().for_each(|spec| bench.push(&spec.build()));
    let counts: Vec<_> = bench.finish().iter().map(|write| write.segments).collect();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn at_most_64_tcp_and_128_udp_segments() {
    assert_eq!(
        counts(&build(&run(&Spec::tcp4(0), &[10; 130]))),
        [64, 64, 2]
    );
    assert_eq!(counts(&build(&run(&Spec::tcp6(0), &[10; 64]))), [64]);
    assert_eq!(counts(&build(&run(&Spec::udp4(0), &[10; 130]))), [128, 2]);
    assert_eq!(counts(&build(&run(&Spec::udp6(0), &[10; 128]))), [128]);
}

#[test]
fn at_most_65535_bytes() {
    for base in Spec::all(0) {
        let room = 65_535 - base.header_len();
        let full = room / 1300;
        let mut lens = vec![1300; full];
        lens.push(room % 1300);
        assert_eq!(counts(&build(&run(&base, &lens))), [full + 1]);
        let writes = coalesce(&build(&run(&base, &lens)), Trust::Vouched);
        assert_eq!(writes[0].ip.len(), 65_535);
        *lens.last_mut().unwrap() += 1;
        assert_eq!(counts(&build(&run(&base, &lens))), [full, 1]);
    }
}

#[test]
fn merging_can_be_turned_off() {
    let limits = Limits {
        tcp_segments: 1,
        udp_segments: 0,
        ..Limits::new(MTU)
    };
    for base in Spec::all(0) {
        let mut bench = Bench::with_limits(Trust::Vouched, limits);
        let packets = build(&run(&base, &[100; 3]));
        packets.iter().for_each(|packet| bench.push(packet));
        assert_eq!(deliver(&bench.finish()), packets);
        assert_eq!(bench.coalescer.writes().len(), 3);
        bench.coalescer.clear();
        let gso = base.udp.then_some(100);
        let long = run(&base, &[2000])[0].build_partial();
        if base.udp {
            // Whole, it would arrive as one datagram where 20 were sent.
            let refused = Err(PushError::Drop(DropReason::BadSuper));
            assert_eq!(bench.try_push(&long, gso), refused);
        } else {
            bench.try_push(&long, gso).unwrap();
            assert!(!bench.coalescer.writes()[0].is_super());
        }
    }
}

#[test]
fn a_limit_on_merging_is_none_on_what_arrives_whole() {
    let limits = Limits {
        udp_segments: 64,
        ..Limits::new(MTU)
    };
    let mut bench = Bench::with_limits(Trust::Vouched, limits);
    let long = run(&Spec::udp4(0), &[10_000])[0].build_partial();
    bench.try_push(&long, Some(100)).unwrap();
    assert!(bench.coalescer.writes()[0].is_super());
    let refused = Err(PushError::Drop(DropReason::BadSuper));
    assert_eq!(bench.try_push(&long, Some(50)), refused, "200 segments");
}
