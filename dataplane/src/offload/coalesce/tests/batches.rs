//! Many packets of a batch, and where they lie.

use super::*;

#[test]
fn other_protocols_pass_without_disturbing_flows() {
    let mut packets = build(&run(&Spec::tcp4(0), &[100; 4]));
    let mut icmp = packets[0].clone();
    icmp[9] = 1;
    fix_ipv4_checksum(&mut icmp);
    packets.insert(2, icmp);
    assert_eq!(counts(&packets), [4, 1]);
}

#[test]
fn a_full_coalescer_says_so_and_goes_on_after_clear() {
    let mut bench = Bench::new(Trust::Vouched);
    let flows: Vec<_> = (0..301)
        .map(|i| Spec {
            ports: (i, 53),
            ..Spec::udp4(100)
        })
        .collect();
    for flow in &flows[..300] {
        bench.push(&flow.build());
    }
    assert_eq!(
        bench.try_push(&flows[300].build(), None),
        Err(PushError::Full)
    );
    bench.push(
        &Spec {
            ident: 8,
            ..flows[7].clone()
        }
        .build(),
    );
    assert_eq!(bench.coalescer.writes()[7].segments(), 2);

    bench.coalescer.clear();
    assert!(bench.coalescer.is_empty());
    for flow in flows[1..].iter().chain(&flows[1..]) {
        bench.push(&flow.build());
    }
    assert_eq!(bench.coalescer.writes().len(), 300);
    assert!(
        bench
            .coalescer
            .writes()
            .iter()
            .all(|write| write.segments() == 2)
    );
}

#[test]
fn finishing_twice_changes_nothing() {
    let mut bench = Bench::new(Trust::Vouched);
    run(&Spec::tcp4(0), &[100; 3])
        .iter()
        .for_each(|spec| bench.push(&spec.build()));
    assert_eq!(bench.finish(), bench.finish());
}

#[test]
fn a_train_is_coalesced_within_its_own_buffer() {
    let packets = build(&run(&Spec::tcp4(0), &[1410; 45]));
    let mut train = Vec::new();
    for packet in &packets {
        train.extend([0xee; ROOM]);
        train.extend(packet);
    }
    let stride = ROOM + packets[0].len();
    for layout in [Layout::Legacy, Layout::V1] {
        let mut memory = Memory(vec![train.clone()]);
        let mut coalescer = Coalescer::new(8, layout, Limits::new(MTU)).unwrap();
        for (i, packet) in packets.iter().enumerate() {
            let at = Packet {
                buffer: 0,
                room: ROOM as u16,
                offset: (i * stride + ROOM) as u32,
                len: packet.len() as u32,
            };
            coalescer.push(at, packet, Trust::Vouched, None).unwrap();
        }
        coalescer.finish(&mut memory);
        let [write] = coalescer.writes() else {
            panic!("one write");
        };
        let bytes = memory.gather(write.pieces(), coalescer.arena());
        let hdr = VnetHdr::decode(&bytes, layout).unwrap();
        let ip = bytes[layout.len()..].to_vec();
        assert_eq!(
            deliver(&[Written {
                hdr,
                ip,
                segments: 45
            }]),
            packets
        );
    }
}

#[test]
fn packets_that_touch_each_other_leave_each_other_alone() {
    // Two flows that alternate, so that writes begin in the middle of the train.
    let other = Spec {
        ports: (40_001, 5201),
        ..Spec::tcp4(0)
    };
    let flows = [run(&Spec::tcp4(0), &[1432; 20]), run(&other, &[1432; 20])].map(|f| build(&f));
    let packets: Vec<_> = (0..40).map(|i| flows[i % 2][i / 2].clone()).collect();
    for layout in [Layout::Legacy, Layout::V1] {
        let mut memory = Memory(vec![packets.concat()]);
        let mut coalescer = Coalescer::new(8, layout, Limits::new(1472)).unwrap();
        for (i, packet) in packets.iter().enumerate() {
            let at = Packet {
                buffer: 0,
                room: 0,
                offset: (i * 1472) as u32,
                len: 1472,
            };
            coalescer.push(at, packet, Trust::Vouched, None).unwrap();
        }
        coalescer.finish(&mut memory);
        assert_eq!(coalescer.writes().len(), 2);
        for (write, packets) in coalescer.writes().iter().zip(&flows) {
            let bytes = memory.gather(write.pieces(), coalescer.arena());
            let written = Written {
                hdr: VnetHdr::decode(&bytes, layout).unwrap(),
                ip: bytes[layout.len()..].to_vec(),
                segments: write.segments(),
            };
            assert_eq!(&deliver(&[written]), packets);
        }
    }
}

#[test]
fn a_header_that_does_not_fit_between_frames_is_refused() {
    let error = Coalescer::new(4, Layout::TunnelGso, Limits::new(MTU)).err();
    assert_eq!(error, Some(LayoutTooLong(24)));
}
