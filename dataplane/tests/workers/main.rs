//! Running workers allocate nothing: over either engine, in either wire format, with packets
//! that are too long for the underlay, and with super-packets that leave whole.
//!
//! Allocations are counted for the whole process, so the tests of this binary take turns.
#![allow(clippy::unwrap_used)]

mod nodes;
mod packets;
mod tunnel_gso;

use nodes::{Node, Setup, pod};
use packets::{IP, Parcel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use weft_dataplane::stats::{Count, DropReason};
use weft_dataplane::sys::tun::VNET_HDR_LEN;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::worker::EngineKind;
use weft_dataplane::worker::tunnel_gso::{TunnelGso, TunnelGsoState};
use weft_lab::skips_test_without_namespaces;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// Payload of a super-packet: with 43 full segments and a short one, one train.
const SUPER: usize = 43 * 1398 + 500;

/// MTU of an underlay that carries full packets, and of one that does not.
const WIDE: usize = 1500;
const NARROW: usize = 1300;

const WARM_UP: u64 = 20;
const ROUNDS: u64 = 200;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(5);

/// The plainest of all setups.
const PLAIN: Setup = Setup {
    engine: EngineKind::Ring,
    wire: Wire::Vxlan,
    underlay: WIDE,
    outer_df: false,
    tunnel_gso: TunnelGso::Off,
};

/// Read the next packet for the pods of `node`, if one comes in time. ICMP errors, which come
/// as often as their rate allows, are passed over.
fn receive(node: &Node, patience: Duration, space: &mut [u8]) -> Option<usize> {
    let patience = Timespec {
        tv_sec: patience.as_secs() as i64,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    loop {
        let mut ready = [PollFd::new(&node.pods, PollFlags::IN)];
        if poll(&mut ready, Some(&patience)).unwrap() == 0 {
            return None;
        }
        let len = rustix::io::read(&node.pods, &mut *space).unwrap();
        if space[VNET_HDR_LEN + 9] != protocol::ICMP {
            return Some(len);
        }
    }
}

/// Let a pod of `from` send `parcel` `times` times, and the pods of `to` receive it as often.
/// Allocates nothing.
fn carry(from: &Node, to: &Node, parcel: &Parcel, times: usize, space: &mut [u8]) {
    let bytes = &parcel.bytes;
    for _ in 0..times {
        let written = rustix::io::write(&from.pods, bytes).unwrap();
        assert_eq!(written, bytes.len());
    }
    for _ in (0..times).filter(|_| parcel.pieces > 0) {
        let mut payload = 0;
        for _ in 0..parcel.pieces {
            let len = receive(to, PATIENCE, space).expect("nothing arrives");
            payload += len - VNET_HDR_LEN - IP;
            // A hop less to live, and so another checksum: the payload tells enough.
            assert_eq!(space[len - 8..len], bytes[bytes.len() - 8..]);
        }
        assert_eq!(payload, parcel.payload);
    }
}

/// Every kind of packet, both ways, the first kind also several at once.
fn exchange(nodes: &[Node; 2], parcels: &[Vec<Parcel>; 2], space: &mut [u8]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let parcels = &parcels[from];
        let (from, to) = (&nodes[from], &nodes[to]);
        for parcel in parcels {
            carry(from, to, parcel, 1, space);
        }
        carry(from, to, &parcels[0], 4, space);
    }
}

/// What the pods of both nodes send.
fn parcels(setup: Setup) -> [Vec<Parcel>; 2] {
    [(1, 2), (2, 1)].map(|(own, other)| {
        let (src, dst) = (pod(own), pod(other));
        let stray = Parcel::udp(src, pod(9), 18, true).arriving_as(0);
        let small = Parcel::udp(src, dst, 18, true);
        let full = Parcel::udp(src, dst, 1400, true);
        if setup.underlay == WIDE {
            return vec![Parcel::tcp(src, dst, SUPER), full, small, stray];
        }
        // Cut shorter it still is one train.
        let large = Parcel::tcp(src, dst, SUPER / 2);
        let full = full.arriving_as(if setup.outer_df { 0 } else { 1 });
        let fragments = Parcel::udp(src, dst, 1400, false).arriving_as(2);
        let many = Parcel::udp_in_fragments(src, dst, 4);
        vec![large, full, small, fragments, many, stray]
    })
}

/// Send trains until both nodes know that the path is narrow, and forget what arrives.
fn teach(nodes: &[Node; 2], parcels: &[Vec<Parcel>; 2], space: &mut [u8]) {
    let end = Instant::now() + PATIENCE;
    for (node, parcels) in nodes.iter().zip(parcels) {
        rustix::io::write(&node.pods, &parcels[0].bytes).unwrap();
        while node.count(Count::PathMtusLearned) == 0 {
            assert!(Instant::now() < end, "the path's MTU is not learned");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for node in nodes {
        while receive(node, Duration::from_millis(200), space).is_some() {}
    }
}

/// Room for any packet that arrives.
fn space() -> Vec<u8> {
    vec![0; VNET_HDR_LEN + 65_535]
}

/// Do `exchange` until both nodes use tunnel GSO.
fn await_in_use(nodes: &[Node; 2], mut exchange: impl FnMut()) {
    let end = Instant::now() + PATIENCE;
    let is_open = |node: &Node| node.dataplane.tunnel_gso() == TunnelGsoState::InUse;
    while !nodes.iter().all(is_open) {
        assert!(
            Instant::now() < end,
            "{:?}",
            nodes[0].dataplane.tunnel_gso()
        );
        exchange();
    }
}

fn workers_allocate_nothing(setup: Setup) {
    let nodes = nodes::start(setup);
    let parcels = parcels(setup);
    let mut space = space();
    if setup.underlay == NARROW {
        teach(&nodes, &parcels, &mut space);
    }
    // Long enough for the prober to look again.
    let mut least = Duration::ZERO;
    if setup.tunnel_gso != TunnelGso::Off {
        await_in_use(&nodes, || exchange(&nodes, &parcels, &mut space));
        least = Duration::from_millis(1_500);
    }
    for _ in 0..WARM_UP {
        exchange(&nodes, &parcels, &mut space);
    }
    let before = nodes.each_ref().map(Grows::by);
    let start = Instant::now();
    let mut rounds = 0;
    let region = Region::new(ALLOCATOR);
    while rounds < ROUNDS || start.elapsed() < least {
        exchange(&nodes, &parcels, &mut space);
        rounds += 1;
    }
    let change = region.change();
    assert_eq!(
        (
            change.allocations,
            change.reallocations,
            change.deallocations
        ),
        (0, 0, 0),
        "{setup:?}"
    );
    for (node, before) in nodes.iter().zip(before) {
        assert_took_the_ways_meant(setup, node, &before);
    }
}

/// What must grow even when the workers are warm.
struct Grows {
    icmp_sent: u64,
    super_sends: u64,
}

impl Grows {
    fn by(node: &Node) -> Grows {
        Grows {
            icmp_sent: node.count(Count::IcmpSent),
            super_sends: node.count(Count::TunnelGsoSends),
        }
    }
}

/// Expect that packets were cut, told of, dropped, or left whole as `setup` has it.
fn assert_took_the_ways_meant(setup: Setup, node: &Node, before: &Grows) {
    let narrow = setup.underlay == NARROW;
    let now = Grows::by(node);
    assert_eq!(node.dataplane.failure(), None, "{setup:?}");
    // `carry` has seen every packet arrive; the workers may not have counted the last yet.
    assert!(node.count(Count::TunWrites) >= 7 * ROUNDS, "{setup:?}");
    assert!(node.drops(DropReason::NoPeer) >= ROUNDS, "{setup:?}");
    assert_eq!(node.count(Count::Downgrades), 0, "{setup:?}");
    assert_eq!(node.count(Count::PathMtusLearned), u64::from(narrow));
    match setup.tunnel_gso {
        TunnelGso::Off => assert!(node.count(Count::TrainsReceived) >= 5 * ROUNDS, "{setup:?}"),
        _ => assert!(now.super_sends >= before.super_sends + ROUNDS, "{setup:?}"),
    }
    if narrow {
        assert!(node.count(Count::FragmentsMade) >= 10 * ROUNDS, "{setup:?}");
    }
    if narrow || setup.wire == Wire::Ip {
        assert!(now.icmp_sent > before.icmp_sent, "{setup:?}");
    }
    let lost = narrow && setup.outer_df;
    assert_eq!(node.drops(DropReason::TooBig) >= ROUNDS, lost, "{setup:?}");
}

#[test]
fn workers_of_both_engines_allocate_nothing() {
    if skips_test_without_namespaces() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for engine in [EngineKind::Ring, EngineKind::Poll] {
        for wire in [Wire::Vxlan, Wire::Ip] {
            let plain = Setup {
                engine,
                wire,
                ..PLAIN
            };
            workers_allocate_nothing(plain);
            for outer_df in [false, true] {
                workers_allocate_nothing(Setup {
                    underlay: NARROW,
                    outer_df,
                    ..plain
                });
            }
        }
        workers_allocate_nothing(Setup {
            engine,
            tunnel_gso: TunnelGso::On,
            ..PLAIN
        });
    }
}
