//! What holds of any packets.

use super::*;

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
