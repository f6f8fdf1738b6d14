//! Packets that are longer than the path to their peer, and what their senders hear.

use super::*;
use crate::mtu::paths::{self, PathMtus};
use crate::route::table::LOOKUPS;
use crate::sys::buffers::Buffers;
use crate::wire::icmp::Message;
use crate::wire::ip::{IpPacket, PARSED};
use std::io;
use std::net::IpAddr;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// An engine whose sends and replies stay here.
struct Desk {
    plan: SendPlan,
    buffers: Buffers,
    /// Frames of each send that has left.
    sent: Vec<Vec<Vec<u8>>>,
    replies: Vec<Vec<u8>>,
    /// The path to the only peer turns out to have this MTU when something is sent.
    lesson: Option<(Arc<PathMtus>, u16)>,
}

impl Desk {
    fn new(arena: usize) -> Desk {
        let mut buffers = Buffers::new(1, HEADROOM + 65_535).unwrap();
        buffers.take(0);
        Desk {
            plan: SendPlan::new(64, arena, 128),
            buffers,
            sent: Vec::new(),
            replies: Vec::new(),
            lesson: None,
        }
    }
}

impl EncapIo for Desk {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        for send in self.plan.sends() {
            let mut bytes = Vec::new();
            for piece in send.pieces() {
                let memory = match piece.source {
                    Source::Arena => self.plan.arena(),
                    Source::Buffer(id) => self.buffers.bytes(id),
                };
                bytes.extend(&memory[piece.offset as usize..][..piece.len as usize]);
            }
            let frames: Vec<_> = bytes.chunks(usize::from(send.stride)).collect();
            assert_eq!(frames.len(), usize::from(send.frames));
            self.sent
                .push(frames.into_iter().map(<[u8]>::to_vec).collect());
        }
        self.plan.clear();
        if let Some((paths, mtu)) = self.lesson.take() {
            paths.learn(PEER, mtu, 0);
        }
        Ok(())
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        self.replies.push(packet.to_vec());
        Ok(())
    }
}

/// What came of one packet.
struct Outcome {
    /// Inner packets, of all sends.
    inner: Vec<Vec<u8>>,
    /// Frames in each send.
    trains: Vec<usize>,
    replies: Vec<Vec<u8>>,
}

impl Outcome {
    /// Nothing was sent to anybody.
    fn is_nothing(&self) -> bool {
        self.inner.is_empty() && self.replies.is_empty()
    }
}

struct Bench {
    egress: Egress,
    paths: Arc<PathMtus>,
    table: Table,
    stats: WorkerStats,
    arena: usize,
    /// Milliseconds.
    now: u64,
}

impl Bench {
    /// The path to the only peer has this MTU.
    fn new(mtu: u16, outer_df: bool) -> Bench {
        let paths = Arc::new(PathMtus::new());
        paths.learn(PEER, mtu, 0);
        Bench {
            egress: Egress::new(
                8,
                PathLimits::new(paths.clone(), outer_df),
                None,
                Clock::start(),
                Arc::new(PodMtus::new(1450)),
            ),
            paths,
            table: table(),
            stats: WorkerStats::default(),
            arena: 64 << 10,
            now: 0,
        }
    }

    fn packet(&mut self, offload: &VnetHdr, ip: &[u8]) -> Outcome {
        let mut desk = Desk::new(self.arena);
        let bytes = desk.buffers.bytes_mut(0);
        offload
            .encode(&mut bytes[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
            .unwrap();
        bytes[HEADROOM..][..ip.len()].copy_from_slice(ip);
        let packet = TunPacket {
            buffer: 0,
            len: ip.len(),
        };
        self.egress.limits.begin(|| self.now);
        encap(
            &mut desk,
            packet,
            &self.table,
            &self.stats,
            &mut self.egress,
        )
        .unwrap();
        desk.flush().unwrap();
        let trains = desk.sent.iter().map(Vec::len).collect();
        let frames = desk.sent.concat();
        Outcome {
            inner: frames.iter().map(|frame| frame[22..].to_vec()).collect(),
            trains,
            replies: desk.replies,
        }
    }

    /// A packet that is no super-packet, with its checksum still to be finished.
    fn single(&mut self, spec: &Spec) -> Outcome {
        let mut offload = spec.vnet_hdr(0);
        offload.gso_type = vnet_hdr::GSO_NONE;
        self.packet(&offload, &spec.build_partial())
    }

    fn super_packet(&mut self, spec: &Spec, gso_size: u16) -> Outcome {
        self.packet(&spec.vnet_hdr(gso_size), &spec.build_partial())
    }
}

/// Check an ICMP error from head to tail: it goes from the offender's destination to its
/// source, names `mtu` and quotes the start of `offender`.
fn assert_tells(reply: &[u8], mtu: u32, offender: &[u8]) {
    let packet = IpPacket::new(reply).unwrap();
    assert_eq!(packet.total_len(), reply.len());
    let quoted = IpPacket::new(offender).unwrap();
    assert_eq!((packet.src(), packet.dst()), (quoted.dst(), quoted.src()));
    let message = Message::new(packet.payload()).unwrap();
    match packet {
        IpPacket::V4(header) => {
            assert!(header.verify_checksum());
            assert!(crate::wire::checksum::sum(packet.payload()).is_valid());
            assert_eq!(header.protocol(), protocol::ICMP);
            assert_eq!(
                (message.kind(), message.code(), message.rest()),
                (3, 4, mtu)
            );
            assert_eq!(reply.len(), 576.min(28 + offender.len()));
        }
        IpPacket::V6(header) => {
            let sum = header.pseudo_sum(packet.payload().len() as u32);
            assert!(sum.add_bytes(packet.payload()).is_valid());
            assert_eq!(header.next_header(), protocol::ICMPV6);
            assert_eq!(
                (message.kind(), message.code(), message.rest()),
                (2, 0, mtu)
            );
            assert_eq!(reply.len(), 1280.min(48 + offender.len()));
        }
    }
    assert_eq!(message.payload(), &offender[..message.payload().len()]);
}

/// Put the fragments of several packets, in order, together again, without options.
fn reassemble(fragments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts: Vec<u8> = Vec::new();
    for fragment in fragments {
        let packet = ipv4::Packet::new(&fragment[..]).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(fragment.len(), usize::from(packet.total_len()));
        if parts.is_empty() {
            parts.extend(packet.header());
        }
        assert_eq!(parts[4..6], fragment[4..6], "identification");
        assert_eq!(usize::from(packet.frag_offset()), parts.len() - 20);
        parts.extend(packet.payload());
        if !packet.more_frags() {
            let len = parts.len() as u16;
            let mut header = ipv4::Packet::header_only(&mut parts[..]).unwrap();
            header.set_total_len(len);
            header.set_fragment(false, false, 0);
            header.fill_checksum();
            whole.push(std::mem::take(&mut parts));
        }
    }
    assert!(parts.is_empty(), "the last fragment is missing");
    whole
}

#[test]
fn what_fits_or_goes_where_nothing_is_known_is_cut_as_ever() {
    let mut bench = Bench::new(1400, true);
    for spec in Spec::all(1350 - 60) {
        let outcome = bench.single(&spec);
        assert_eq!(outcome.inner, [spec.build()]);
        assert!(outcome.replies.is_empty());
        let long = Spec {
            payload: vec![1; 9000],
            ..spec
        };
        let outcome = bench.super_packet(&long, 1200);
        let expected: Vec<_> = long.segments(1200).iter().map(Spec::build).collect();
        assert_eq!(outcome.inner, expected);
        assert_eq!(outcome.trains, [expected.len()]);
        assert!(outcome.replies.is_empty());
    }
    bench.paths.learn("192.0.2.9".parse().unwrap(), 600, 0);
    bench.paths.learn(PEER, 9000, 0);
    let spec = Spec::tcp4(1400);
    let untouched = |outcome: Outcome| outcome.inner == [spec.build()];
    assert!(untouched(bench.single(&spec)), "another peer's path");
    bench.paths.learn(PEER, 1400, 0);
    assert!(!untouched(bench.single(&spec)));
    bench.now = paths::LIFETIME_MS;
    assert!(untouched(bench.single(&spec)), "the lesson is over");
}

#[test]
fn what_a_send_in_the_middle_of_a_batch_teaches_holds_for_the_rest_of_it() {
    // Nothing is known of any path, or this of the peer's.
    for known in [None, Some(1450)] {
        let mut bench = Bench::new(1450, true);
        if known.is_none() {
            bench = Bench {
                paths: Arc::default(),
                ..bench
            };
            bench.egress.limits = PathLimits::new(bench.paths.clone(), true);
        }
        let mut desk = Desk::new(0);
        desk.plan = SendPlan::new(1, 0, 1);
        desk.lesson = Some((bench.paths.clone(), 1400));
        let ip = Spec::tcp4(1360 - 40).build();
        bench.egress.begin();
        for _ in 0..2 {
            let none = VnetHdr::default();
            let bytes = desk.buffers.bytes_mut(0);
            none.encode(&mut bytes[HEADROOM - VNET_HDR_LEN..], Layout::Legacy)
                .unwrap();
            bytes[HEADROOM..][..ip.len()].copy_from_slice(&ip);
            let (buffer, len) = (0, ip.len());
            let packet = TunPacket { buffer, len };
            let Bench {
                egress,
                table,
                stats,
                ..
            } = &mut bench;
            encap(&mut desk, packet, table, stats, egress).unwrap();
        }
        assert_eq!((desk.sent.len(), desk.replies.len()), (1, 1), "{known:?}");
        assert_tells(&desk.replies[0], 1350, &ip);
        assert_eq!(bench.stats.drops(DropReason::TooBig), 1);
    }
}

#[test]
fn a_packet_is_parsed_and_looked_up_once_whatever_is_known_of_paths() {
    let single = |bench: &mut Bench, spec: &Spec| bench.single(spec);
    let in_segments = |bench: &mut Bench, spec: &Spec| bench.super_packet(spec, 1398);
    let open = Spec {
        df: false,
        ..Spec::udp4(1400)
    };
    type Way = fn(&mut Bench, &Spec) -> Outcome;
    let packets: [(Spec, Way); 6] = [
        (Spec::tcp4(100), single),
        (Spec::tcp6(1400), single),
        (open.clone(), single),
        (Spec::tcp4(20_000), in_segments),
        (Spec::udp6(1500), in_segments),
        (
            Spec {
                payload: vec![1; 4200],
                ..open
            },
            in_segments,
        ),
    ];
    let nothing = Bench::new(1400, false);
    nothing.paths.forget(PEER, 0);
    let other = Bench::new(1400, false);
    other.paths.forget(PEER, 0);
    other.paths.learn("192.0.2.9".parse().unwrap(), 600, 0);
    for mut bench in [
        nothing,
        other,
        Bench::new(1400, false),
        Bench::new(1400, true),
    ] {
        for (spec, send) in &packets {
            let before = (PARSED.get(), LOOKUPS.get());
            let outcome = send(&mut bench, spec);
            assert!(!outcome.is_nothing());
            let done = (PARSED.get() - before.0, LOOKUPS.get() - before.1);
            assert_eq!(done, (1, 1), "{spec:?}");
        }
    }
}

#[test]
fn what_is_malformed_is_dropped_as_ever() {
    let mut bench = Bench::new(1400, true);
    let none = VnetHdr::default();
    let long = Spec::tcp4(3000);
    for ip in [&[][..], &[0x45; 19], &[0x15; 1400], &long.build()[..2000]] {
        assert!(bench.packet(&none, ip).is_nothing());
    }
    assert_eq!(bench.stats.drops(DropReason::BadInner), 4);
    let mut unknown = long.vnet_hdr(1400);
    unknown.gso_type = 9;
    assert!(bench.packet(&unknown, &long.build_partial()).is_nothing());
    let mut outside = long.vnet_hdr(0);
    outside.gso_type = vnet_hdr::GSO_NONE;
    outside.csum_start = 5000;
    assert!(bench.packet(&outside, &long.build_partial()).is_nothing());
    assert_eq!(bench.stats.drops(DropReason::BadOffload), 2);
    let mut multicast = long.build();
    multicast[16] = 224;
    assert!(bench.packet(&none, &multicast).is_nothing());
    assert_eq!(bench.stats.drops(DropReason::NotUnicast), 1);
}

#[test]
fn tcp_super_packets_are_cut_shorter_and_their_sender_is_told() {
    for spec in [Spec::tcp4(60_000), Spec::tcp6(60_000)] {
        let mut bench = Bench::new(1400, true);
        let outcome = bench.super_packet(&spec, 1398);
        let fits = 1350 - spec.header_len();
        let expected: Vec<_> = spec.segments(fits).iter().map(Spec::build).collect();
        assert_eq!(outcome.inner, expected);
        outcome
            .inner
            .iter()
            .for_each(|segment| assert_valid(segment));
        assert!(outcome.trains.len() <= 2, "as trains: {:?}", outcome.trains);
        let first = spec.segments(1398)[0].build();
        assert_eq!(outcome.replies.len(), 1);
        assert_tells(&outcome.replies[0], 1350, &first);
        assert_eq!(bench.stats.drops(DropReason::TooBig), 0);
    }
    let spec = Spec {
        df: false,
        ..Spec::tcp4(60_000)
    };
    let mut bench = Bench::new(1400, true);
    let outcome = bench.super_packet(&spec, 1398);
    assert_eq!(outcome.inner.len(), 60_000usize.div_ceil(1310));
    assert!(outcome.replies.is_empty(), "it does not discover MTUs");
}

#[test]
fn with_df_on_both_headers_a_packet_is_dropped_and_its_sender_told() {
    let mut bench = Bench::new(1400, true);
    for spec in Spec::all(1400) {
        let outcome = bench.single(&spec);
        assert!(outcome.inner.is_empty());
        assert_eq!(outcome.replies.len(), 1);
        assert_tells(&outcome.replies[0], 1350, &spec.build());
    }
    assert_eq!(bench.stats.drops(DropReason::TooBig), 4);
    assert_eq!(bench.stats.get(Count::IcmpSent), 4);
    // UDP super-packets are datagrams, each of which is too long.
    for spec in [Spec::udp4(7000), Spec::udp6(7000)] {
        let outcome = bench.super_packet(&spec, 1400);
        assert!(outcome.inner.is_empty());
        assert_tells(&outcome.replies[0], 1350, &spec.segments(1400)[0].build());
    }
    assert_eq!(bench.stats.drops(DropReason::TooBig), 6);
}

#[test]
fn where_outer_packets_may_be_fragmented_it_goes_alone_and_its_sender_is_told() {
    let mut bench = Bench::new(1400, false);
    for spec in Spec::all(1400) {
        let outcome = bench.single(&spec);
        assert_eq!(outcome.inner, [spec.build()]);
        assert_tells(&outcome.replies[0], 1350, &spec.build());
    }
    for spec in [Spec::udp4(7000), Spec::udp6(7000)] {
        let outcome = bench.super_packet(&spec, 1400);
        let expected: Vec<_> = spec.segments(1400).iter().map(Spec::build).collect();
        assert_eq!(outcome.inner, expected);
        assert_eq!(
            outcome.trains, [1; 5],
            "only single datagrams are fragmented"
        );
        assert_tells(&outcome.replies[0], 1350, &expected[0]);
    }
    assert_eq!(bench.stats.drops(DropReason::TooBig), 0);
}

#[test]
fn ipv4_without_df_is_fragmented_silently() {
    for outer_df in [false, true] {
        let mut bench = Bench::new(1400, outer_df);
        let spec = Spec {
            df: false,
            ..Spec::udp4(5000)
        };
        let outcome = bench.single(&spec);
        assert_eq!(outcome.inner.len(), 4);
        assert_eq!(outcome.trains, [4], "one train");
        assert!(outcome.inner.iter().all(|fragment| fragment.len() <= 1350));
        assert_eq!(reassemble(&outcome.inner), [spec.build()]);

        let outcome = bench.super_packet(&spec, 1400);
        let datagrams: Vec<_> = spec.segments(1400).iter().map(Spec::build).collect();
        assert_eq!(reassemble(&outcome.inner), datagrams);
        assert!(outcome.replies.is_empty());
        // Two of each full datagram; the last one fits.
        assert_eq!(outcome.inner.len(), 7);
        assert_eq!(bench.stats.get(Count::FragmentsMade), 4 + 6);
        assert_eq!(bench.stats.drops(DropReason::TooBig), 0);
    }
}

#[test]
fn ipv6_is_never_told_less_than_1280() {
    let mut bench = Bench::new(1280, true);
    let spec = Spec::udp6(1280 - 48);
    let outcome = bench.single(&spec);
    assert_eq!(outcome.inner, [spec.build()], "it must get through somehow");
    assert!(outcome.replies.is_empty());
    let spec = Spec::udp6(1281 - 48);
    assert_tells(&bench.single(&spec).replies[0], 1280, &spec.build());
    let spec = Spec::udp4(1231 - 28);
    assert_tells(&bench.single(&spec).replies[0], 1230, &spec.build());
}

#[test]
fn without_df_outside_ipv4_is_never_told_less_than_552() {
    let mut bench = Bench::new(552, false);
    let spec = Spec::udp4(1000);
    assert_tells(&bench.single(&spec).replies[0], 552, &spec.build());
    // It goes as it is, alone, for IP to fragment; its sender can do nothing about it.
    let spec = Spec::udp4(552 - 28);
    let outcome = bench.single(&spec);
    assert_eq!(outcome.inner, [spec.build()]);
    assert!(outcome.replies.is_empty());
    // TCP is cut so that it fits, whatever its sender believes.
    let spec = Spec::tcp4(9_000);
    let outcome = bench.super_packet(&spec, 552 - spec.header_len() as u16);
    assert!(outcome.inner.iter().all(|segment| segment.len() <= 502));
    assert!(outcome.replies.is_empty());
    // With DF outside, less than senders believe makes them clear theirs: all that gets through.
    let mut bench = Bench::new(552, true);
    let spec = Spec::udp4(1000);
    assert_tells(&bench.single(&spec).replies[0], 502, &spec.build());
}

#[test]
fn no_error_answers_an_error_or_a_later_fragment() {
    let mut bench = Bench::new(1400, true);
    let none = VnetHdr::default();
    let mut ip = Spec::udp4(3000).build();
    ip[9] = protocol::ICMP;
    for (kind, told) in [(8, 1), (0, 1), (3, 0), (11, 0), (5, 0)] {
        ip[20] = kind;
        assert_eq!(bench.packet(&none, &ip).replies.len(), told, "type {kind}");
    }
    let mut later = Spec::udp4(3000).build();
    later[6..8].copy_from_slice(&[0x40, 9]);
    assert!(bench.packet(&none, &later).replies.is_empty());
    assert_eq!(bench.stats.drops(DropReason::TooBig), 6);
    let mut v6 = Spec::udp6(3000).build();
    v6[6] = protocol::ICMPV6;
    for (kind, told) in [(128, 1), (1, 0), (2, 0), (137, 0)] {
        v6[40] = kind;
        assert_eq!(bench.packet(&none, &v6).replies.len(), told, "type {kind}");
    }
}

#[test]
fn errors_are_limited_in_rate_and_nothing_else_is() {
    let mut bench = Bench::new(1400, false);
    let spec = Spec::udp4(1400);
    let mut told = 0;
    for _ in 0..200 {
        let outcome = bench.single(&spec);
        assert_eq!(outcome.inner.len(), 1);
        told += outcome.replies.len() as u64;
    }
    assert!((50..200).contains(&told), "{told}");
    assert_eq!(bench.stats.get(Count::IcmpSent), told);
    assert_eq!(bench.stats.get(Count::IcmpLimited), 200 - told);
}

#[test]
fn a_plan_that_fills_up_is_sent_and_goes_on() {
    let mut bench = Bench::new(600, true);
    // Room for two headers at a time.
    bench.arena = 2 * MAX_HEADER;
    let spec = Spec {
        df: false,
        ..Spec::udp4(60_000)
    };
    assert_eq!(reassemble(&bench.single(&spec).inner), [spec.build()]);
    let spec = Spec::tcp4(60_000);
    let outcome = bench.super_packet(&spec, 1398);
    let expected: Vec<_> = spec.segments(510).iter().map(Spec::build).collect();
    assert_eq!(outcome.inner, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is lost or changed, and nothing that leaves in a train is too long.
    #[test]
    fn everything_that_may_be_cut_arrives_and_fits(
        mtu in 552u16..1500,
        payload in 1usize..20_000,
        gso_size in 200u16..3000,
        kind in 0..3,
    ) {
        let mut bench = Bench::new(mtu, true);
        let limit = usize::from(mtu) - 50;
        let spec = Spec { df: kind == 0, ..if kind == 0 { Spec::tcp4(payload) } else { Spec::udp4(payload) } };
        prop_assume!(kind != 1 || payload <= usize::from(gso_size) * 128);
        let (outcome, expected) = match kind {
            0 => (
                bench.super_packet(&spec, gso_size),
                spec.segments((limit - 40).min(gso_size.into())),
            ),
            1 => (bench.super_packet(&spec, gso_size), spec.segments(usize::from(gso_size))),
            _ => (bench.single(&spec), vec![spec.clone()]),
        };
        prop_assert!(outcome.inner.iter().all(|packet| packet.len() <= limit));
        let expected: Vec<_> = expected.iter().map(Spec::build).collect();
        prop_assert_eq!(reassemble_or_keep(&outcome.inner, kind == 0), expected);
    }
}

fn reassemble_or_keep(inner: &[Vec<u8>], segments: bool) -> Vec<Vec<u8>> {
    match segments {
        true => inner.to_vec(),
        false => reassemble(inner),
    }
}
