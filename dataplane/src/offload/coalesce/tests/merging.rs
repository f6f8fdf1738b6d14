//! Which packets merge, and which stay alone.

use super::*;

#[test]
fn data_of_one_size_merges_and_a_shorter_last_segment_too() {
    for base in Spec::all(0) {
        assert_eq!(counts(&build(&run(&base, &[100, 100]))), [2]);
        assert_eq!(counts(&build(&run(&base, &[100, 100, 40]))), [3]);
        assert_eq!(counts(&build(&run(&base, &[100, 40, 40]))), [2, 1]);
        assert_eq!(counts(&build(&run(&base, &[40, 100, 100]))), [1, 2]);
        assert_eq!(counts(&build(&run(&base, &[100, 101]))), [1, 1]);
        assert_eq!(counts(&build(&run(&base, &[100, 40, 100, 100]))), [2, 2]);
    }
}

#[test]
fn pure_acknowledgments_stay_alone() {
    for base in [Spec::tcp4(0), Spec::tcp6(0)] {
        let dup = run(&base, &[0, 0]);
        assert_eq!(counts(&build(&dup)), [1, 1]);
        let among_data = run(&base, &[100, 100, 0, 100, 100]);
        assert_eq!(counts(&build(&among_data)), [2, 1, 2]);
    }
}

#[test]
fn empty_datagrams_stay_alone() {
    for base in [Spec::udp4(0), Spec::udp6(0)] {
        assert_eq!(counts(&build(&run(&base, &[0, 0]))), [1, 1]);
    }
}

#[test]
fn only_ack_and_psh_may_be_set() {
    for base in [Spec::tcp4(0), Spec::tcp6(0)] {
        for flag in [FIN, SYN, RST, URG, ECE, CWR] {
            assert_eq!(
                third(&base, |spec| spec.flags |= flag),
                [2, 1, 1],
                "{flag:#x}"
            );
        }
        assert_eq!(third(&base, |spec| spec.flags = 0), [2, 1, 1]);
        let reserved = |base: &Spec| {
            let mut packets = build(&run(base, &[100; 2]));
            for packet in &mut packets {
                packet[base.l4_offset() + 12] |= 1;
            }
            packets
        };
        assert_eq!(counts(&reserved(&base)), [1, 1]);
    }
}

#[test]
fn psh_closes_its_super_packet_and_shows_on_it() {
    for base in [Spec::tcp4(0), Spec::tcp6(0)] {
        let mut specs = run(&base, &[100; 4]);
        specs[2].flags |= PSH;
        let packets = build(&specs);
        assert_eq!(counts(&packets), [3, 1]);
        let writes = coalesce(&packets, Trust::Vouched);
        assert_eq!(writes[0].ip[base.l4_offset() + 13], ACK | PSH);
        assert_eq!(deliver(&writes), packets);
        assert_eq!(third(&base, |spec| spec.flags = PSH | ACK | FIN), [2, 1, 1]);
    }
}

#[test]
fn sequence_numbers_must_follow() {
    for base in [Spec::tcp4(0), Spec::tcp6(0)] {
        assert_eq!(third(&base, |spec| spec.seq += 1), [2, 1, 1]);
        assert_eq!(third(&base, |spec| spec.seq -= 100), [2, 1, 1]);
        let wraps = Spec {
            seq: u32::MAX - 150,
            ..base
        };
        assert_eq!(counts(&build(&run(&wraps, &[100; 4]))), [4]);
    }
}

#[test]
fn acknowledgment_window_and_options_must_be_equal() {
    for base in [Spec::tcp4(0), Spec::tcp6(0)] {
        let base = Spec {
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..base
        };
        assert_eq!(third(&base, |_| {}), [4]);
        assert_eq!(third(&base, |spec| spec.ack += 1), [2, 1, 1]);
        assert_eq!(third(&base, |spec| spec.window += 1), [2, 1, 1]);
        assert_eq!(third(&base, |spec| spec.options[7] += 1), [2, 1, 1]);
        assert_eq!(third(&base, |spec| spec.options = vec![]), [2, 1, 1]);
        assert_eq!(third(&base, |spec| spec.options.rotate_left(1)), [2, 1, 1]);
    }
}

#[test]
fn tos_and_ttl_must_be_equal() {
    for base in Spec::all(0) {
        assert_eq!(third(&base, |spec| spec.tos = 1), [2, 1, 1], "ECN");
        assert_eq!(third(&base, |spec| spec.tos = 4), [2, 1, 1], "DSCP");
        assert_eq!(third(&base, |spec| spec.ttl += 1), [2, 1, 1]);
    }
    assert_eq!(third(&Spec::tcp6(0), |spec| spec.label = 5), [2, 1, 1]);
}

#[test]
fn identification_is_free_with_df_and_counts_without() {
    for base in [Spec::tcp4(0), Spec::udp4(0)] {
        assert_eq!(third(&base, |spec| spec.ident = 0), [4]);
        assert_eq!(third(&base, |spec| spec.df = false), [2, 1, 1]);
        let fragile = Spec { df: false, ..base };
        assert_eq!(third(&fragile, |_| {}), [4]);
        assert_eq!(third(&fragile, |spec| spec.ident += 1), [2, 1, 1]);
        assert_eq!(third(&fragile, |spec| spec.ident -= 1), [2, 1, 1]);
        let wraps = Spec {
            ident: u16::MAX - 1,
            ..fragile
        };
        assert_eq!(third(&wraps, |_| {}), [4]);
    }
}

#[test]
fn flows_do_not_mix_and_interleaving_does_not_matter() {
    for base in Spec::all(0) {
        let other = [
            Spec {
                host: 2,
                ..base.clone()
            },
            Spec {
                ports: (40_001, 5201),
                ..base.clone()
            },
            Spec {
                ports: (40_000, 5202),
                ..base.clone()
            },
        ];
        for other in other {
            let (a, b) = (run(&base, &[100; 3]), run(&other, &[100; 3]));
            let mixed: Vec<_> = a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).collect();
            assert_eq!(counts(&build(&mixed)), [3, 3]);
        }
    }
}

#[test]
fn options_extensions_and_fragments_stay_alone() {
    let options = |spec: &mut Spec| spec.ip_options = vec![1; 4];
    let extension = |spec: &mut Spec| spec.extension = 1;
    for base in [Spec::tcp4(0), Spec::udp4(0)] {
        assert_eq!(third(&base, options), [2, 1, 1]);
        let all = Spec {
            ip_options: vec![1; 4],
            ..base
        };
        assert_eq!(counts(&build(&run(&all, &[100; 2]))), [1, 1]);
    }
    for base in [Spec::tcp6(0), Spec::udp6(0)] {
        assert_eq!(third(&base, extension), [2, 1, 1]);
        let all = Spec {
            extension: 1,
            ..base
        };
        assert_eq!(counts(&build(&run(&all, &[100; 2]))), [1, 1]);
    }
    let mut fragments = build(&run(&Spec::tcp4(0), &[104; 3]));
    for (packet, flags) in fragments[1..].iter_mut().zip([0x20, 0]) {
        packet[6] = flags;
        packet[7] = 4;
        fix_ipv4_checksum(packet);
    }
    assert_eq!(counts(&fragments), [1, 1, 1]);
}

#[test]
fn nothing_overtakes_a_packet_of_unknown_flow() {
    let mut packets = build(&run(&Spec::udp4(0), &[104; 5]));
    packets[2][7] = 13;
    fix_ipv4_checksum(&mut packets[2]);
    let writes = coalesce(&packets, Trust::Vouched);
    let counts: Vec<_> = writes.iter().map(|write| write.segments).collect();
    assert_eq!(counts, [2, 1, 2]);
}

#[test]
fn lengths_must_cover_the_frame_exactly() {
    for base in Spec::all(0) {
        let mut packets = build(&run(&base, &[100; 4]));
        packets[2].extend([0; 6]);
        assert_eq!(counts(&packets), [2, 1, 1], "padding");
        let writes = coalesce(&packets, Trust::Vouched);
        assert_eq!(writes[1].ip, packets[2][..packets[2].len() - 6]);
    }
    for base in [Spec::udp4(0), Spec::udp6(0)] {
        let mut packets = build(&run(&base, &[100; 4]));
        let at = base.l4_offset() + 5;
        packets[2][at] -= 1;
        let writes = coalesce(&packets, Trust::Vouched);
        assert_eq!(writes.len(), 3);
    }
}

#[test]
fn packets_without_a_usable_ip_header_are_dropped() {
    let mut bench = Bench::new(Trust::Vouched);
    let mut long = Spec::tcp4(100).build();
    long[3] += 1;
    for bytes in [&[][..], &[0x45; 10], &[0x55; 40], &long] {
        let error = bench.try_push(bytes, None).unwrap_err();
        assert_eq!(error, PushError::Drop(DropReason::BadInnerIp));
    }
    assert!(bench.coalescer.is_empty());
}

#[test]
fn a_packet_with_room_outside_its_buffer_is_dropped() {
    let mut coalescer = Coalescer::new(4, Layout::V1, Limits::new(MTU)).unwrap();
    let ip = Spec::tcp4(100).build();
    let at = Packet {
        buffer: 0,
        room: 12,
        offset: 11,
        len: ip.len() as u32,
    };
    let error = coalescer.push(at, &ip, Trust::Vouched, None).unwrap_err();
    assert_eq!(error, PushError::Drop(DropReason::BadVxlan));
}
