//! What programs do depends on what the agent tells them, and on whether it is there.

use super::*;
use crate::stats::Count;
use aya::maps::ProgramArray;

pub(super) const OTHER: [u8; 4] = [10, 1, 1, 5];
pub(super) const OWN: [u8; 4] = [10, 1, 9, 5];

/// A packet of a pod for one of the first peer.
pub(super) fn outward() -> Vec<u8> {
    udp((OWN, OTHER), (1, 2), &[7; 40])
}

/// The answer, as that peer sends it.
pub(super) fn inward(wire: Wire) -> Vec<u8> {
    datagram(peer(1), wire, &udp((OTHER, OWN), (2, 1), &[8; 40]))
}

/// Run `test` with the programs of a strict overlay in VXLAN.
pub(super) fn with_programs(test: impl FnOnce(&mut FastPath) + Send) {
    isolated(|| test(&mut loaded(&table(Wire::Vxlan, Admission::Strict))));
}

/// Whether both programs take their packet.
fn taken(fast_path: &mut FastPath) -> [bool; 2] {
    [(OUT, outward()), (IN, inward(Wire::Vxlan))].map(|(name, packet)| {
        let outcome = run(fast_path, name, &packet);
        let took = outcome.action == probe::REDIRECT;
        if !took {
            assert_eq!((outcome.action, outcome.bytes), (u32::MAX, framed(&packet)));
        }
        took
    })
}

/// Let `age` have passed since the agent looked.
pub(super) fn last_beat(fast_path: &mut FastPath, age: Duration) {
    fast_path.state.beat = clock::coarse_ns() - age.as_nanos() as u64;
    fast_path.write_state().unwrap();
}

/// Let it be as if the process of the workers had ended.
fn end_workers(fast_path: &mut FastPath) {
    let map = fast_path.programs.map_mut("workers").unwrap();
    ProgramArray::try_from(map)
        .unwrap()
        .clear_index(&0)
        .unwrap();
}

#[test]
fn a_table_is_believed_for_its_lifetime_and_no_longer() {
    with_programs(|fast_path| {
        // Far from both ends: the test may be held up.
        last_beat(fast_path, Duration::from_secs(30));
        assert_eq!(taken(fast_path), [true; 2]);
        last_beat(fast_path, Duration::from_secs(61));
        assert_eq!(taken(fast_path), [false; 2]);
        assert_eq!(counted(fast_path, "LEFT_EXPIRED"), 2);
        // Nobody is there any more, and what was known is not believed all the same.
        end_workers(fast_path);
        assert_eq!(taken(fast_path), [false; 2]);
        fast_path.beat().unwrap();
        assert_eq!(taken(fast_path), [true; 2]);
    });
}

/// Cores read the clock one after the other.
#[test]
fn a_beat_that_is_ahead_of_the_clock_is_no_old_one() {
    with_programs(|fast_path| {
        fast_path.state.beat = clock::coarse_ns() + 1_000_000_000_000;
        fast_path.write_state().unwrap();
        assert_eq!(taken(fast_path), [true; 2]);
        assert_eq!(counted(fast_path, "LEFT_EXPIRED"), 0);
    });
}

#[test]
fn closed_programs_leave_all_to_the_workers() {
    with_programs(|fast_path| {
        fast_path.state.closed = 1;
        fast_path.write_state().unwrap();
        assert_eq!(taken(fast_path), [false; 2]);
    });
}

#[test]
fn workers_that_hang_or_are_gone_get_nothing_that_programs_can_take() {
    with_programs(|fast_path| {
        fast_path.state.all = 0;
        fast_path.beat().unwrap();
        // With an outer checksum it is a worker's, and in an ICMP error is what workers learn from.
        let with_checksum = summed(inward(Wire::Vxlan));
        let error = ipv4(1, (OWN, OTHER), &[3, 4, 0, 0, 0, 0, 0, 0]);
        let wanted = |fast_path: &mut FastPath| {
            let of = |fast_path: &mut FastPath, name, packet: &[u8]| {
                run(fast_path, name, packet).action == probe::REDIRECT
            };
            [
                of(fast_path, IN, &with_checksum),
                of(fast_path, OUT, &error),
            ]
        };
        assert_eq!(wanted(fast_path), [false; 2], "workers are there");
        last_beat(fast_path, Duration::from_secs(30));
        assert_eq!(wanted(fast_path), [true; 2], "workers hang");
        fast_path.beat().unwrap();
        assert_eq!(wanted(fast_path), [false; 2]);
        end_workers(fast_path);
        assert_eq!(wanted(fast_path), [true; 2], "workers are gone");
    });
}

#[test]
fn packets_leave_up_to_the_mtu_of_their_path_and_no_longer() {
    isolated(|| {
        for (wire, overhead) in [(Wire::Vxlan, 50), (Wire::Ip, 28)] {
            let table = table(wire, Admission::Strict);
            let mut fast_path = alone(&table);
            let fits = |fast_path: &mut FastPath, len: usize| {
                let packet = ipv4(47, (OWN, OTHER), &vec![0; len - overhead - 20]);
                run(fast_path, OUT, &packet).action == probe::REDIRECT
            };
            let all = Policy {
                all: true,
                mtu: 1500,
                ..Policy::default()
            };
            fast_path.set_policy(all).unwrap();
            assert_eq!(
                [1500, 1501].map(|len| fits(&mut fast_path, len)),
                [true, false]
            );
            assert_eq!(counted(&fast_path, "LEFT_TOO_LONG"), 1);
            // What is known of the path counts, unless the device takes less.
            for (mtu, limit) in [(1400, 1400), (9000, 1500)] {
                let known = |addr| (addr == IpAddr::from(peer(1))).then_some(PeerPath::Mtu(mtu));
                fast_path.publish(&Entries::of(&table), known).unwrap();
                let around = [limit, limit + 1];
                assert_eq!(around.map(|len| fits(&mut fast_path, len)), [true, false]);
            }
        }
    });
}

/// Workers are refused by the kernel, and count it.
#[test]
fn packets_to_a_peer_without_a_route_are_the_workers_and_its_own_are_taken() {
    with_programs(|fast_path| {
        let table = table(Wire::Vxlan, Admission::Strict);
        for (path, sent) in [(Some(PeerPath::Nowhere), false), (None, true)] {
            let known = |addr| path.filter(|_| addr == IpAddr::from(peer(1)));
            fast_path.publish(&Entries::of(&table), known).unwrap();
            assert_eq!(taken(fast_path), [sent, true]);
        }
        assert_eq!(counted(fast_path, "LEFT_NO_PEER"), 1);
    });
}

#[test]
fn what_is_counted_is_what_a_worker_would_count() {
    with_programs(|fast_path| {
        assert_eq!(taken(fast_path), [true; 2]);
        let stats = fast_path.stats();
        let len = outward().len() as u64;
        for (count, value) in [
            (Count::TunReads, 1),
            (Count::TunReadBytes, len),
            (Count::Sends, 1),
            (Count::FramesSent, 1),
            (Count::Receives, 1),
            (Count::FramesReceived, 1),
            (Count::TunWrites, 1),
            (Count::TunWriteBytes, len),
            (Count::SuperFramesReceived, 0),
        ] {
            assert_eq!(stats.get(count), value, "{}", count.name());
        }
    });
}
