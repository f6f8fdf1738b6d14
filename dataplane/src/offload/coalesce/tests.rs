use super::*;
use crate::offload::segment::{MAX_HEADER_LEN, Segmenter, finish_checksum};
use crate::offload::testing::{
    ACK, CWR, ECE, FIN, Memory, PSH, RST, SYN, Spec, URG, assert_valid, fix_ipv4_checksum,
    super_packets,
};
use crate::offload::vnet_hdr::{self, VnetHdr};
use proptest::prelude::*;

const MTU: usize = 1450;
const ROOM: usize = 22;

/// A coalescer and the buffers of one batch, each packet behind `room` bytes of its own.
struct Bench {
    coalescer: Coalescer,
    memory: Memory,
    trust: Trust,
    room: usize,
}

/// A write as the kernel gets it.
#[derive(Debug, PartialEq)]
struct Written {
    hdr: VnetHdr,
    ip: Vec<u8>,
    segments: usize,
}

impl Bench {
    fn new(trust: Trust) -> Bench {
        Bench::with_limits(trust, Limits::new(MTU))
    }

    fn with_limits(trust: Trust, limits: Limits) -> Bench {
        Bench {
            coalescer: Coalescer::new(300, Layout::V1, limits).unwrap(),
            memory: Memory::default(),
            trust,
            room: ROOM,
        }
    }

    fn try_push(&mut self, ip: &[u8], super_gso: Option<u16>) -> Result<(), PushError> {
        let mut buffer = vec![0xee; self.room];
        buffer.extend(ip);
        self.memory.0.push(buffer);
        let at = Packet {
            buffer: (self.memory.0.len() - 1) as u16,
            room: self.room as u16,
            offset: self.room as u32,
            len: ip.len() as u32,
        };
        self.coalescer.push(at, ip, self.trust, super_gso)
    }

    fn push(&mut self, ip: &[u8]) {
        self.try_push(ip, None).unwrap();
    }

    fn finish(&mut self) -> Vec<Written> {
        self.coalescer.finish(&mut self.memory);
        let write = |write: &Write| {
            let bytes = self.memory.gather(write.pieces(), self.coalescer.arena());
            assert_eq!(bytes.len(), write.bytes());
            assert_eq!(bytes.len(), write.ip_len() + Layout::V1.len());
            let hdr = VnetHdr::decode(&bytes, Layout::V1).unwrap();
            assert_eq!(write.is_super(), hdr.gso() != vnet_hdr::GSO_NONE);
            Written {
                hdr,
                ip: bytes[Layout::V1.len()..].to_vec(),
                segments: write.segments(),
            }
        };
        self.coalescer.writes().iter().map(write).collect()
    }
}

fn coalesce(packets: &[Vec<u8>], trust: Trust) -> Vec<Written> {
    let mut bench = Bench::new(trust);
    packets.iter().for_each(|packet| bench.push(packet));
    bench.finish()
}

/// Segments a write, in number of packets merged.
fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    let counts = |trust| -> Vec<usize> {
        let writes = coalesce(packets, trust);
        writes.iter().map(|write| write.segments).collect()
    };
    let vouched = counts(Trust::Vouched);
    assert_eq!(counts(Trust::Unknown), vouched);
    vouched
}

/// What the kernel makes of writes when it has to segment and checksum them.
fn deliver(writes: &[Written]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for Written { hdr, ip, .. } in writes {
        if hdr.gso() == vnet_hdr::GSO_NONE {
            let mut ip = ip.clone();
            finish_checksum(hdr, &mut ip).unwrap();
            packets.push(ip);
            continue;
        }
        let mut segmenter = Segmenter::new(hdr, ip).unwrap();
        let mut slot = [0; MAX_HEADER_LEN];
        while let Some(payload) = segmenter.segment(ip, &mut slot) {
            let mut packet = slot[..segmenter.header_len()].to_vec();
            packet.extend(&ip[payload]);
            packets.push(packet);
        }
    }
    packets
}

fn build(specs: &[Spec]) -> Vec<Vec<u8>> {
    specs.iter().map(Spec::build).collect()
}

/// Segments of 100 bytes of one flow, the given field changed on the third of four.
fn third(base: &Spec, change: impl Fn(&mut Spec)) -> Vec<usize> {
    let mut specs = run(base, &[100; 4]);
    change(&mut specs[2]);
    counts(&build(&specs))
}

/// Segments of one flow in a row, of these payload lengths.
fn run(base: &Spec, payloads: &[usize]) -> Vec<Spec> {
    let mut seq = base.seq;
    let payloads = payloads.iter().enumerate();
    payloads
        .map(|(i, &len)| {
            let spec = Spec {
                seq,
                ident: base.ident.wrapping_add(i as u16),
                payload: Spec::tcp4(len).payload,
                ..base.clone()
            };
            seq = seq.wrapping_add(len as u32);
            spec
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn segments_of_a_super_packet_become_it_again((spec, gso) in super_packets(), vouched: bool) {
        let trust = if vouched { Trust::Vouched } else { Trust::Unknown };
        let limits = Limits::new(65_535);
        let mut bench = Bench::with_limits(trust, limits);
        for segment in spec.segments(gso) {
            bench.push(&segment.build());
        }
        let writes = bench.finish();
        prop_assert_eq!(writes.len(), 1);
        prop_assert!(writes[0].ip == spec.build_partial());
        prop_assert_eq!(writes[0].hdr, spec.vnet_hdr(gso as u16));
    }

    #[test]
    fn the_kernel_delivers_what_was_received(batch in batches(), vouched: bool) {
        let trust = if vouched { Trust::Vouched } else { Trust::Unknown };
        let writes = coalesce(&build(&batch), trust);
        let mut delivered = deliver(&writes);
        delivered.iter().for_each(|packet| assert_valid(packet));
        // Flows may overtake each other; within a flow order and bytes must hold.
        let mut sent = build(&batch);
        sent.sort_by_key(|packet| flow_of(packet));
        delivered.sort_by_key(|packet| flow_of(packet));
        prop_assert!(delivered == sent);
    }

    #[test]
    fn damaged_packets_arrive_damaged(
        batch in batches(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..60, any::<u8>()), 1..8),
    ) {
        let mut packets = build(&batch);
        for (packet, at, value) in damage {
            let packet = packet.index(packets.len());
            if let Some(byte) = packets[packet].get_mut(at) {
                *byte ^= value;
            }
        }
        let mut bench = Bench::new(Trust::Unknown);
        let mut sent = Vec::new();
        for packet in packets {
            match bench.try_push(&packet, None) {
                Ok(()) => sent.push(packet),
                Err(error) => prop_assert_eq!(error, PushError::Drop(DropReason::BadInnerIp)),
            }
        }
        let writes = bench.finish();
        let comparable = |packets: &[Vec<u8>]| {
            let mut packets = packets.to_vec();
            packets.iter_mut().for_each(trim);
            packets.sort();
            packets
        };
        // Not prop_assert_eq, which would print megabytes.
        prop_assert!(comparable(&deliver(&writes)) == comparable(&sent));
    }
}

/// Cut what lies behind the packet, and blank the identification where DF frees it.
fn trim(packet: &mut Vec<u8>) {
    let v4 = packet[0] >> 4 == 4;
    let len = match v4 {
        true => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        false => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    };
    packet.truncate(len);
    let mut fixed = packet.clone();
    if v4 && packet[6] & 0x40 != 0 && packet[0] == 0x45 {
        fix_ipv4_checksum(&mut fixed);
        if fixed == *packet {
            fixed[4..6].fill(0);
            fix_ipv4_checksum(&mut fixed);
            *packet = fixed;
        }
    }
}

fn flow_of(packet: &[u8]) -> Vec<u8> {
    match packet[0] >> 4 {
        4 => packet[9..10]
            .iter()
            .chain(&packet[12..24])
            .copied()
            .collect(),
        _ => packet[6..7].iter().chain(&packet[8..44]).copied().collect(),
    }
}

/// Interleaved runs of a few flows with a little of everything that keeps from merging.
fn batches() -> impl Strategy<Value = Vec<Spec>> {
    let step = (0usize..4, 0u8..3, 0usize..12, 1usize..4);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut flows: Vec<Spec> = Vec::new();
        for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
            for host in 0..3 {
                flows.push(Spec {
                    v6,
                    udp,
                    host,
                    ..Spec::tcp4(0)
                });
            }
        }
        let mut batch = Vec::new();
        for (kind, host, quirk, repeat) in steps {
            let state = &mut flows[kind * 3 + usize::from(host)];
            for _ in 0..repeat {
                let mut spec = Spec {
                    payload: Spec::tcp4(200).payload,
                    ..state.clone()
                };
                match quirk {
                    0 => spec.payload.truncate(120),
                    1 => spec.payload.extend([1; 50]),
                    2 => spec.payload.clear(),
                    3 => spec.flags |= PSH,
                    4 => spec.flags |= FIN,
                    5 => spec.ack += 1,
                    6 => spec.tos = 3,
                    7 => spec.ttl = 9,
                    _ => {}
                }
                if !spec.udp {
                    state.seq = state.seq.wrapping_add(spec.payload.len() as u32);
                }
                state.ident = state.ident.wrapping_add(1);
                batch.push(spec);
            }
        }
        batch
    })
}

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

#[test]
fn a_wrong_checksum_is_neither_merged_nor_hidden() {
    for base in Spec::all(0) {
        let mut packets = build(&run(&base, &[100; 4]));
        let last = packets[2].len() - 1;
        packets[2][last] ^= 1;
        let writes = coalesce(&packets, Trust::Unknown);
        let counts: Vec<_> = writes.iter().map(|write| write.segments).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(writes[1].hdr, VnetHdr::default(), "the stack verifies");
        assert_eq!(writes[1].ip, packets[2]);
    }
}

#[test]
fn a_wrong_ip_checksum_is_neither_merged_nor_hidden() {
    for base in [Spec::tcp4(0), Spec::udp4(0)] {
        let mut packets = build(&run(&base, &[100; 4]));
        packets[2][10] ^= 1;
        assert_eq!(counts(&packets), [2, 1, 1]);
        let writes = coalesce(&packets, Trust::Vouched);
        assert_eq!(writes[1].ip, packets[2]);
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut packets = build(&run(&Spec::udp4(0), &[100; 3]));
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(counts(&packets), [1, 1, 1]);
    let writes = coalesce(&packets, Trust::Vouched);
    assert!(writes.iter().all(|write| write.hdr == VnetHdr::default()));
    assert_eq!(deliver(&writes), packets);
}

#[test]
fn single_packets_are_written_as_they_came() {
    for base in Spec::all(100) {
        for trust in [Trust::Vouched, Trust::Unknown] {
            let writes = coalesce(&[base.build()], trust);
            assert_eq!(writes[0].hdr, VnetHdr::default());
            assert_eq!(writes[0].ip, base.build());
        }
    }
}

#[test]
fn partial_checksums_are_completed_by_the_kernel() {
    for base in Spec::all(100) {
        let writes = coalesce(&[base.build_partial()], Trust::Unknown);
        let expected = VnetHdr {
            gso_type: vnet_hdr::GSO_NONE,
            hdr_len: 0,
            gso_size: 0,
            ..base.vnet_hdr(0)
        };
        assert_eq!(writes[0].hdr, expected);
        assert_eq!(deliver(&writes), [base.build()]);
    }
    let syn = Spec {
        flags: SYN,
        ..Spec::tcp6(0)
    };
    let writes = coalesce(&[syn.build_partial()], Trust::Unknown);
    assert_eq!(writes[0].hdr.flags, vnet_hdr::F_NEEDS_CSUM);
}

#[test]
fn partial_and_complete_checksums_merge() {
    for base in Spec::all(0) {
        let specs = run(&base, &[100; 4]);
        let mut packets: Vec<_> = specs.iter().map(Spec::build_partial).collect();
        packets[1] = specs[1].build();
        assert_eq!(counts(&packets), [4]);
        let writes = coalesce(&packets, Trust::Unknown);
        assert_eq!(deliver(&writes), build(&specs));
    }
}

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

#[test]
fn a_refused_super_packet_ends_merging_for_its_protocol_and_for_a_while() {
    let tcp = build(&run(&Spec::tcp4(0), &[100; 3]));
    let udp = build(&run(&Spec::udp4(0), &[100; 3]));
    let mut bench = Bench::new(Trust::Vouched);
    tcp.iter().for_each(|packet| bench.push(packet));
    assert_eq!(bench.finish().len(), 1);
    assert!(bench.coalescer.note_refusal(0));
    assert!(!bench.coalescer.note_refusal(0), "no news");
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
    assert!(!bench.coalescer.note_refusal(0), "no news");
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
