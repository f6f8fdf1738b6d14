//! Which way packets take, by what came before them.

use super::states::{OTHER, OWN, inward, last_beat, outward, with_programs};
use super::*;
use crate::fastpath::probe::Gso;
use crate::offload::testing::{Spec, fix_ipv4_checksum};
use std::time::Instant;

/// A TCP packet from a pod of the first peer, with so many bytes of payload.
fn segment(payload: usize) -> Vec<u8> {
    let mut tcp = Spec::tcp4(payload).build();
    tcp[12..16].copy_from_slice(&OTHER);
    fix_ipv4_checksum(&mut tcp);
    datagram(peer(1), Wire::Vxlan, &tcp)
}

/// Do `step` for a while, in which a flood would be noticed some times over.
fn for_a_while(mut step: impl FnMut()) {
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        step();
    }
}

/// A worker would only make them wait, and as many as there are they say nothing of its load.
#[test]
fn requests_that_are_answered_are_no_flood() {
    with_programs(|fast_path| {
        fast_path.state.all = 0;
        let takes = |fast_path: &mut FastPath, name, packet: &[u8]| {
            fast_path.beat().unwrap();
            run(fast_path, name, packet).action == probe::REDIRECT
        };
        for_a_while(|| {
            for _ in 0..3 {
                assert!(takes(fast_path, OUT, &outward()));
            }
            assert!(takes(fast_path, IN, &inward(Wire::Vxlan)));
        });
        assert_eq!(counted(fast_path, "LEFT_BATCHES"), 0);
        // As many that nobody answers are one.
        let end = Instant::now() + Duration::from_secs(20);
        while takes(fast_path, OUT, &outward()) {
            if Instant::now() > end {
                return weft_lab::skip("test runs are too slow here to be a flood");
            }
        }
        assert_eq!(counted(fast_path, "LEFT_BATCHES"), 1);
    });
}

/// To merge them all later super-packets of the flow would be cut first.
#[test]
fn segments_that_a_peer_of_super_packets_sends_again_are_not_merged() {
    with_programs(|fast_path| {
        (fast_path.state.all, fast_path.state.merger) = (0, 1);
        let program = program(&mut fast_path.programs, IN).unwrap();
        let whole = Gso {
            segments: 2,
            size: 500,
        };
        // The kernel decapsulates no super-packet in a test run, but it has been seen.
        probe::run(program, &framed(&segment(1000)), Some(whole)).unwrap();
        for_a_while(|| {
            fast_path.beat().unwrap();
            let outcome = run(fast_path, IN, &segment(1001));
            assert_eq!(outcome.action, probe::REDIRECT);
        });
        assert_eq!(counted(fast_path, "IN_MERGED"), 0);
        assert!(counted(fast_path, "IN_WRITES") > 0);
    });
}

/// They would else overtake the trains, which only workers can take.
#[test]
fn segments_of_a_peer_that_sends_trains_as_well_are_the_workers() {
    with_programs(|fast_path| {
        fast_path.state.all = 0;
        let super_packet = |fast_path: &mut FastPath, bytes: &[u8]| {
            let size = Gso {
                segments: 2,
                size: 500,
            };
            let program = program(&mut fast_path.programs, IN).unwrap();
            probe::run(program, &framed(bytes), Some(size)).unwrap();
        };
        let summed = summed(segment(1000));
        let takes = |fast_path: &mut FastPath| {
            fast_path.beat().unwrap();
            run(fast_path, IN, &summed).action == probe::REDIRECT
        };
        assert!(!takes(fast_path), "nothing is known of the peer");
        std::thread::sleep(Duration::from_millis(100));
        super_packet(fast_path, &summed);
        assert!(takes(fast_path), "its super-packets come whole");
        let frames = [&summed[28..]; 2].concat();
        let train = udp((peer(1), LOCAL), (40_000, PORT), &frames);
        super_packet(fast_path, &train);
        assert!(!takes(fast_path), "its trains come, too");
    });
}

/// What waits in the queues when workers have stopped is of any age when others go on with it.
#[test]
fn flows_that_stopped_workers_have_stay_with_them_however_long_they_pause() {
    with_programs(|fast_path| {
        fast_path.state.all = 0;
        let takes = |fast_path: &mut FastPath, packet: &[u8]| {
            run(fast_path, IN, packet).action == probe::REDIRECT
        };
        // With a checksum it is a worker's, and takes its flow along.
        let (workers, own) = (summed(inward(Wire::Vxlan)), inward(Wire::Vxlan));
        let pause = || std::thread::sleep(Duration::from_millis(100));
        fast_path.beat().unwrap();
        assert!(!takes(fast_path, &workers));
        pause();
        assert!(takes(fast_path, &own), "a pause is over");

        fast_path.wait_for_backlog().unwrap();
        assert!(!takes(fast_path, &workers));
        pause();
        assert!(!takes(fast_path, &own), "workers have stopped");
        pause();
        assert!(!takes(fast_path, &own), "they are not back yet");
        let other = datagram(peer(1), Wire::Vxlan, &udp((OTHER, OWN), (3, 1), &[8; 40]));
        assert!(takes(fast_path, &other), "they have nothing of this one");
        last_beat(fast_path, Duration::from_secs(6));
        assert!(takes(fast_path, &own), "they do not come back");

        fast_path.beat().unwrap();
        assert!(!takes(fast_path, &own), "an agent is there again");
        fast_path.caught_up = 0;
        fast_path.beat().unwrap();
        pause();
        assert!(takes(fast_path, &own), "they have caught up");
    });
}

/// Nobody knows which flows the frames of a train are of.
#[test]
fn nothing_of_a_peer_overtakes_its_trains_that_wait_for_workers() {
    with_programs(|fast_path| {
        fast_path.state.all = 0;
        let takes = |fast_path: &mut FastPath| {
            run(fast_path, IN, &inward(Wire::Vxlan)).action == probe::REDIRECT
        };
        fast_path.wait_for_backlog().unwrap();
        assert!(takes(fast_path), "no train has come");
        let frames = [&summed(segment(1000))[28..]; 2].concat();
        let train = udp((peer(1), LOCAL), (40_000, PORT), &frames);
        let size = Gso {
            segments: 2,
            size: 500,
        };
        let program = program(&mut fast_path.programs, IN).unwrap();
        probe::run(program, &framed(&train), Some(size)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(!takes(fast_path), "one waits");
        fast_path.caught_up = 0;
        fast_path.beat().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(takes(fast_path), "it has gone");
    });
}

/// Flows that were merged go on when the pair is gone.
#[test]
fn nothing_is_given_to_a_merging_pair_that_is_gone() {
    with_programs(|fast_path| {
        let packet = segment(1000);
        (fast_path.state.all, fast_path.state.merger) = (0, 1);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while counted(fast_path, "IN_MERGED") == 0 {
            assert!(std::time::Instant::now() < end, "never merged");
            fast_path.beat().unwrap();
            assert_eq!(run(fast_path, IN, &packet).action, probe::REDIRECT);
        }
        fast_path.state.merger = 0;
        fast_path.beat().unwrap();
        let (merged, written) = (
            counted(fast_path, "IN_MERGED"),
            counted(fast_path, "IN_WRITES"),
        );
        assert_eq!(run(fast_path, IN, &packet).action, probe::REDIRECT);
        assert_eq!(counted(fast_path, "IN_MERGED"), merged);
        assert_eq!(counted(fast_path, "IN_WRITES"), written + 1);
    });
}
