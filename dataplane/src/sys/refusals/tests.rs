use super::*;
use crate::offload::plan::{Piece, Source, TrainKey};
use crate::sys::path::tests::probe;
use crate::wire::ecn::Ecn;
use std::net::IpAddr;

/// For an engine whose lessons nobody else hears of.
pub(in crate::sys) fn refusals(stats: &Arc<WorkerStats>) -> Refusals {
    let caps = Arc::new(Caps::default());
    caps.trains.ask(None);
    sharing(&caps, stats)
}

/// For one that shares its lessons.
pub(in crate::sys) fn sharing(caps: &Arc<Caps>, stats: &Arc<WorkerStats>) -> Refusals {
    let (caps, stats) = (caps.clone(), stats.clone());
    Refusals::new(probe(), Arc::default(), caps, Clock::start(), stats)
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A plan of one send of `frames` frames of 100 bytes.
fn planned(frames: u16) -> SendPlan {
    let mut plan = SendPlan::new(4, 0, 128);
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: Ecn::NotEct,
    };
    let piece = Piece {
        source: Source::Buffer(0),
        offset: 0,
        len: 100,
    };
    for _ in 0..frames {
        plan.push(key, (PEER, 9).into(), 100, &[piece]).unwrap();
    }
    plan
}

/// What becomes of a send of `frames` frames that was refused `tries` times before.
fn verdict(frames: u16, errno: i32, tries: u8) -> (Verdict, Arc<WorkerStats>) {
    let stats = Arc::default();
    let verdict = refusals(&stats).verdict(&planned(frames).sends()[0], errno, tries);
    (verdict, stats)
}

#[test]
fn a_full_queue_costs_the_peer_its_frames() {
    for errno in [libc::EAGAIN, libc::ENOBUFS] {
        let stats = Arc::default();
        let mut refusals = refusals(&stats);
        let verdict = refusals.verdict(&planned(5).sends()[0], errno, 0);
        assert_eq!(verdict, Verdict::Dropped);
        assert_eq!(stats.drops(DropReason::QueueFull), 5);
        assert_eq!(refusals.losses.by_peer(), [(PEER, 5)]);
    }
}

#[test]
fn what_icmp_says_of_another_send_is_tried_again_but_not_for_ever() {
    for frames in [1, 5] {
        for errno in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::EINTR] {
            assert_eq!(verdict(frames, errno, 0).0, Verdict::Again);
            let (last, stats) = verdict(frames, errno, TRIES);
            assert_eq!(last, Verdict::Dropped);
            assert_eq!(stats.drops(DropReason::SendFailed), u64::from(frames));
        }
    }
    // Loopback takes longer frames than this one.
    assert_eq!(verdict(1, libc::EMSGSIZE, 0).0, Verdict::Again);
    assert_eq!(verdict(1, libc::EMSGSIZE, TRIES).0, Verdict::Dropped);
}

#[test]
fn what_the_kernel_has_no_memory_for_is_lost() {
    for errno in [libc::ENOMEM, libc::EPERM, libc::ENETDOWN] {
        assert_eq!(verdict(5, errno, 0).0, Verdict::Dropped);
        assert_eq!(verdict(1, errno, 0).0, Verdict::Dropped);
    }
}

#[test]
fn a_refused_train_goes_singly_and_its_peer_has_none_for_a_while() {
    for errno in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
        let stats = Arc::default();
        let mut refusals = refusals(&stats);
        let plan = planned(5);
        assert!(!refusals.goes_singly(&plan.sends()[0]));
        for _ in 0..3 {
            let verdict = refusals.verdict(&plan.sends()[0], errno, 0);
            assert_eq!(verdict, Verdict::Singly);
            refusals.note_train(&plan.sends()[0], errno);
        }
        // What is too long for one train is not for another.
        let for_being_one = errno != libc::EMSGSIZE;
        assert_eq!(refusals.goes_singly(&plan.sends()[0]), for_being_one);
        assert_eq!(stats.get(Count::Downgrades), u64::from(for_being_one));
        assert!(!refusals.goes_singly(&planned(1).sends()[0]));
    }
    assert_eq!(verdict(1, libc::EIO, 0).0, Verdict::Dropped);
}

#[test]
fn before_linux_6_9_trains_are_shorter_for_everybody() {
    let stats = Arc::default();
    let mut refusals = refusals(&stats);
    let mut plan = planned(100);
    refusals.note_train(&plan.sends()[0], libc::EINVAL);
    assert!(!refusals.goes_singly(&plan.sends()[0]));
    assert_eq!(stats.get(Count::Downgrades), 1);
    plan.clear();
    refusals.limit(&mut plan);
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: Ecn::NotEct,
    };
    for _ in 0..100 {
        plan.push(key, (PEER, 9).into(), 100, &[]).unwrap();
    }
    let frames: Vec<u16> = plan.sends().iter().map(|send| send.frames).collect();
    assert_eq!(frames, [64, 36]);
}
