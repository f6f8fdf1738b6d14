//! What the programs take, the workers would have taken, and to the same bytes; what only the
//! workers take has a reason that is known, and stays as it was.

use super::sums::{OuterSum, is_intact, outer_sum};
use super::*;
use crate::mtu::pods::PodMtus;
use crate::offload::ecn;
use crate::offload::plan::{SendPlan, Source};
use crate::offload::testing::{Spec, fix_ipv4_checksum};
use crate::offload::vnet_hdr::{Layout, VnetHdr};
use crate::route::admit;
use crate::sys::clock::Clock;
use crate::sys::engine::HEADROOM;
use crate::sys::tun::VNET_HDR_LEN;
use crate::wire::ecn::Ecn;
use crate::wire::frame::FRAME_OVERHEAD;
use crate::wire::ip::protocol;
use crate::wire::{ipv4, udp};
use crate::worker::egress::Egress;
use crate::worker::encap::plan_packet;
use crate::worker::path_limits::PathLimits;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use std::sync::Arc;

/// Bytes of the outer IP and UDP headers.
const OUTER: usize = 28;

/// What a program returns that passes a packet on.
const PASS: u32 = u32::MAX;

/// What a worker writes to the TUN of a datagram that the kernel hands it, if it does.
fn received_by_worker(table: &Table, datagram: &[u8]) -> Option<Vec<u8>> {
    let ip = ipv4::Packet::new(datagram).ok()?;
    let udp = udp::Datagram::new(ip.payload()).ok()?;
    let arrives = ip.verify_checksum()
        && !ip.is_fragment()
        && ip.dst().octets() == LOCAL
        && ip.protocol() == protocol::UDP
        && udp.dst_port() == PORT
        && is_intact(table.overlay().wire, &ip, &udp);
    if !arrives {
        return None;
    }
    let frame = udp.payload();
    let sender = admit::sender(table, ip.src().into()).ok()?;
    let inner = sender.frame(table, frame).ok()?;
    let mut packet = frame[inner.ip_offset..][..inner.ip_len].to_vec();
    ecn::decap(ip.ecn(), &mut packet).ok()?;
    Some(packet)
}

/// Why workers alone take this datagram, if there is a reason.
fn why_left(wire: Wire, datagram: &[u8]) -> Option<&'static str> {
    let ip = ipv4::Packet::new(datagram).unwrap();
    if ip.header_len() != ipv4::MIN_HEADER_LEN {
        return Some("outer options");
    }
    let udp = udp::Datagram::new(ip.payload()).unwrap();
    let frame = udp.payload();
    if usize::from(ip.total_len()) != datagram.len() || frame.len() + 8 != ip.payload().len() {
        return Some("something behind the datagram");
    }
    let packet = frame.get(wire.header_len()..)?;
    if wire == Wire::Vxlan && frame[FRAME_OVERHEAD - 2..FRAME_OVERHEAD] == [0x86, 0xdd] {
        return Some("IPv6");
    }
    let inner = ipv4::Packet::new(packet).unwrap();
    if usize::from(inner.total_len()) != packet.len() {
        return Some("padding");
    }
    if wire == Wire::Ip && inner.header_len() != ipv4::MIN_HEADER_LEN {
        return Some("options in flannel's udp format");
    }
    if wire == Wire::Ip && udp.checksum() != 0 && packet.len() < ipv4::MIN_HEADER_LEN + 8 {
        return Some("too short for the kernel to cut off what is stale");
    }
    is_short(&inner).then_some("a transport header that is not whole")
}

/// Whether the packet ends before the fields of its transport header that programs read.
fn is_short(packet: &ipv4::Packet<&[u8]>) -> bool {
    let needed = match packet.protocol() {
        _ if packet.is_fragment() => 0,
        protocol::TCP => 14,
        protocol::UDP => 4,
        protocol::ICMP => 1,
        _ => 0,
    };
    packet.payload().len() < needed
}

/// Have both take a datagram; whether the program took it.
fn receive(fast_path: &mut FastPath, table: &Table, datagram: &[u8]) -> bool {
    let outcome = run(fast_path, IN, datagram);
    let worker = received_by_worker(table, datagram);
    if outcome.action == probe::REDIRECT {
        let worker = worker.map(|packet| framed(&packet));
        assert_eq!(Some(outcome.bytes), worker, "taken: {datagram:02x?}");
        return true;
    }
    assert_eq!((outcome.action, outcome.bytes), (PASS, framed(datagram)));
    if worker.is_some() {
        let why = why_left(table.overlay().wire, datagram);
        assert!(why.is_some(), "left: {datagram:02x?}");
    }
    false
}

/// What a worker makes of a packet: the send that it plans, as outer destination, ECN field, frame.
fn sent_by_worker(table: &Table, packet: &[u8]) -> Option<(std::net::SocketAddr, Ecn, Vec<u8>)> {
    let limits = PathLimits::new(Arc::default(), false);
    let pods = Arc::new(PodMtus::new(65_535));
    let mut egress = Egress::new(1, limits, None, Clock::start(), pods);
    let mut plan = SendPlan::new(1, 0, 1);
    let mut bytes = vec![0; HEADROOM];
    let slot = &mut bytes[HEADROOM - VNET_HDR_LEN..];
    VnetHdr::default().encode(slot, Layout::Legacy).unwrap();
    bytes.extend(packet);
    let planned = plan_packet(0, &mut bytes, packet.len(), table, &mut egress, &mut plan);
    let [send] = plan.sends() else {
        return None;
    };
    assert!(planned.is_ok_and(|pending| pending.is_none()));
    let pieces = send.pieces().iter().flat_map(|piece| {
        assert_eq!(piece.source, Source::Buffer(0));
        &bytes[piece.offset as usize..][..piece.len as usize]
    });
    Some((send.to, send.key.ecn, pieces.copied().collect()))
}

/// Have both send a packet; whether the program took it.
fn send(fast_path: &mut FastPath, table: &Table, packet: &[u8]) -> bool {
    let outcome = run(fast_path, OUT, packet);
    let worker = sent_by_worker(table, packet);
    if outcome.action != probe::REDIRECT {
        assert_eq!((outcome.action, outcome.bytes), (PASS, framed(packet)));
        if worker.is_some() {
            let ip = ipv4::Packet::new(packet).map(|ip| {
                usize::from(ip.total_len()) != packet.len() || is_short(&ip) || ip.is_fragment()
            });
            assert!(ip.unwrap_or(true), "left: {packet:02x?}");
        }
        return false;
    }
    let (to, ecn, frame) = worker.unwrap_or_else(|| panic!("taken: {packet:02x?}"));
    let outer = ipv4::Packet::new(&outcome.bytes[MAC_HEADER..]).unwrap();
    let datagram = udp::Datagram::new(outer.payload()).unwrap();
    assert_eq!(
        usize::from(outer.total_len()),
        outcome.bytes.len() - MAC_HEADER
    );
    assert_eq!(outer.total_len() as usize, OUTER + frame.len());
    assert_eq!(outer.header_len(), ipv4::MIN_HEADER_LEN);
    assert!(outer.verify_checksum());
    assert!(!outer.is_fragment() && !outer.dont_frag());
    assert_eq!((outer.protocol(), outer.ttl()), (protocol::UDP, 64));
    assert_eq!(outer.src().octets(), LOCAL);
    assert_eq!((outer.tos(), outer.ecn()), (ecn.bits(), ecn));
    assert_eq!(
        (IpAddr::from(outer.dst()), datagram.dst_port()),
        (to.ip(), to.port())
    );
    assert!((32_768..61_000).contains(&datagram.src_port()));
    assert_eq!(datagram.checksum(), 0);
    assert_eq!(datagram.payload(), frame);
    true
}

/// Addresses of every kind: of this node and its pods, of peers and theirs, of nobody, and outside.
fn address() -> impl Strategy<Value = [u8; 4]> {
    prop::sample::select(vec![
        [10, 1, 1, 5],
        [10, 1, 2, 5],
        [10, 1, 3, 5],
        [10, 1, 9, 5],
        [10, 1, 7, 5],
        [172, 16, 0, 1],
        peer(1),
        peer(2),
        LOCAL,
        [224, 0, 0, 1],
        [255, 255, 255, 255],
    ])
}

/// IPv4 packets: of all protocols, with options, fragments, every ECN field.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![1_u8, 6, 17, 17, 47, 132]);
    let ports = prop::sample::select(vec![(1, 2), (40_000, PORT), (PORT, 1)]);
    let shape = (
        0_u8..4,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        0_usize..120,
    );
    (kinds, ports, shape, (address(), address())).prop_map(
        |(kind, (from, to), (tos, options, fragment, len), (src, dst))| {
            let mut spec = match kind {
                6 => Spec::tcp4(len),
                _ => Spec::udp4(len),
            };
            (spec.ports, spec.tos) = ((from, to), tos);
            if options {
                spec.ip_options = vec![1; 8];
            }
            let mut bytes = spec.build();
            bytes[9] = kind;
            if fragment {
                bytes[6..8].copy_from_slice(&[0x20, (len % 3) as u8]);
            }
            bytes[12..16].copy_from_slice(&src);
            bytes[16..20].copy_from_slice(&dst);
            fix_ipv4_checksum(&mut bytes);
            bytes
        },
    )
}

/// What happens to bytes on their way.
#[derive(Clone, Debug)]
struct Damage {
    flips: Vec<(prop::sample::Index, u8)>,
    /// Bytes that are cut off the end, or if negative put there.
    cut: isize,
    /// The header's length and checksum are put right afterwards.
    mended: bool,
}

fn damage() -> impl Strategy<Value = Damage> {
    let flips = prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..4);
    let cut = prop_oneof![4 => Just(0), 1 => -30_isize..60];
    let damage = (flips, cut, any::<bool>());
    damage.prop_map(|(flips, cut, mended)| Damage { flips, cut, mended })
}

impl Damage {
    /// Do it to a packet, in its first 100 bytes.
    fn done(&self, packet: &[u8]) -> Vec<u8> {
        let mut bytes = packet.to_vec();
        let len = bytes.len().saturating_add_signed(-self.cut);
        // The kernel takes nothing shorter for a test run.
        let len = len.max(ipv4::MIN_HEADER_LEN);
        bytes.resize(len, 0);
        let end = bytes.len().min(100);
        for (index, bits) in &self.flips {
            bytes[index.index(end)] ^= bits;
        }
        if self.mended {
            let len = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&len);
            // Options may have been flipped in.
            if usize::from(bytes[0] & 15) * 4 <= bytes.len() {
                fix_ipv4_checksum(&mut bytes);
            }
        }
        bytes
    }
}

/// Run `test` on cases of `strategy` with the programs for each form of frames and admission; it
/// says of each whether the programs took it, which at least some must.
fn on_all<S: Strategy>(
    make: impl Fn(Wire) -> S + Sync,
    test: impl Fn(&mut FastPath, &Table, &S::Value) -> bool + Sync,
) {
    isolated(|| {
        for wire in [Wire::Vxlan, Wire::Ip] {
            for admission in [Admission::Strict, Admission::Loose] {
                let table = table(wire, admission);
                let fast_path = std::cell::RefCell::new(alone(&table));
                let taken = std::cell::Cell::new(0);
                let mut cases = TestRunner::new(Cases {
                    failure_persistence: None,
                    ..Cases::with_cases(1_500)
                });
                let outcome = cases.run(&make(wire), |case| {
                    let took = test(&mut fast_path.borrow_mut(), &table, &case);
                    taken.set(taken.get() + u32::from(took));
                    Ok(())
                });
                assert!(outcome.is_ok(), "{wire:?}, {admission:?}: {outcome:?}");
                assert!(taken.get() > 50, "only {} were taken", taken.get());
            }
        }
    });
}

/// A datagram to this node, in which anything may be damaged.
fn arrival(
    wire: Wire,
    sum: impl Strategy<Value = Option<OuterSum>>,
) -> impl Strategy<Value = Vec<u8>> {
    let senders = prop::sample::select(vec![peer(1), peer(2), peer(3), peer(4), LOCAL]);
    let outer = (senders, 0_u8..4, sum, damage());
    (packet(), damage(), outer).prop_map(move |(packet, inner, (from, ecn, sum, outer))| {
        let mut bytes = datagram(from, wire, &inner.done(&packet));
        bytes[1] = ecn;
        fix_ipv4_checksum(&mut bytes);
        if let Some(sum) = sum {
            bytes = sum.put(bytes);
        }
        outer.done(&bytes)
    })
}

#[test]
fn what_comes_in_is_taken_as_workers_take_it() {
    on_all(
        |wire| arrival(wire, Just(None)),
        |fast_path, table, datagram| receive(fast_path, table, datagram),
    );
}

/// What the kernel would give to no socket, since its checksum is wrong, is not taken either.
#[test]
fn what_comes_in_with_a_checksum_is_taken_as_workers_take_it() {
    on_all(
        |wire| arrival(wire, outer_sum().prop_map(Some)),
        |fast_path, table, datagram| receive(fast_path, table, datagram),
    );
}

#[test]
fn what_goes_out_is_sent_as_workers_send_it() {
    on_all(
        |_| (packet(), damage()).prop_map(|(packet, damage)| damage.done(&packet)),
        |fast_path, table, packet| send(fast_path, table, packet),
    );
}

/// The inputs of fuzzing, as frames, as datagrams and as packets.
#[test]
fn what_fuzzing_has_found_is_taken_as_workers_take_it() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = ["admit", "wire", "segment", "fragment"]
        .into_iter()
        .flat_map(|corpus| {
            let entries = std::fs::read_dir(corpora.join(corpus)).unwrap();
            entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        });
    let inputs: Vec<Vec<u8>> = files.filter(|bytes| bytes.len() < 3_000).collect();
    assert!(inputs.len() > 50);
    isolated(|| {
        let mut taken = 0;
        for wire in [Wire::Vxlan, Wire::Ip] {
            for admission in [Admission::Strict, Admission::Loose] {
                let table = table(wire, admission);
                let mut fast_path = alone(&table);
                for bytes in &inputs {
                    if bytes.len() >= ipv4::MIN_HEADER_LEN {
                        send(&mut fast_path, &table, bytes);
                        receive(&mut fast_path, &table, bytes);
                    }
                    for from in [peer(1), peer(2), peer(4)] {
                        let frame = super::udp((from, LOCAL), (1, PORT), bytes);
                        taken += u32::from(receive(&mut fast_path, &table, &frame));
                        let whole = datagram(from, wire, bytes);
                        taken += u32::from(receive(&mut fast_path, &table, &whole));
                    }
                }
            }
        }
        assert!(taken > 10, "{taken}");
    });
}
