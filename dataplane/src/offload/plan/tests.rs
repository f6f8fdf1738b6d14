use super::*;

const KEY: TrainKey = TrainKey {
    peer: 7,
    bucket: 1,
    ecn: Ecn::NotEct,
};

fn to() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 8472))
}

fn piece(len: u32) -> [Piece; 1] {
    [Piece {
        source: Source::Buffer(3),
        offset: 0,
        len,
    }]
}

fn push(plan: &mut SendPlan, key: TrainKey, len: u32) {
    plan.push(key, to(), len as usize, &piece(len)).unwrap();
}

#[test]
fn equal_frames_share_a_train_and_a_shorter_one_ends_it() {
    let mut plan = SendPlan::new(8, 0, 128);
    for len in [1472, 1472, 100, 1472] {
        push(&mut plan, KEY, len);
    }
    let shapes: Vec<_> = plan
        .sends()
        .iter()
        .map(|s| (s.frames, s.stride, s.bytes))
        .collect();
    assert_eq!(shapes, [(3, 1472, 3044), (1, 1472, 1472)]);
}

#[test]
fn a_longer_frame_opens_a_new_train() {
    let mut plan = SendPlan::new(8, 0, 128);
    push(&mut plan, KEY, 100);
    push(&mut plan, KEY, 101);
    assert_eq!(plan.sends().len(), 2);
}

#[test]
fn only_the_latest_send_of_a_peer_grows() {
    let mut plan = SendPlan::new(8, 0, 128);
    push(&mut plan, KEY, 100);
    push(
        &mut plan,
        TrainKey {
            ecn: Ecn::Ect1,
            ..KEY
        },
        100,
    );
    push(&mut plan, KEY, 100);
    assert_eq!(
        plan.sends().iter().map(|s| s.key.ecn).collect::<Vec<_>>(),
        [Ecn::NotEct, Ecn::Ect1, Ecn::NotEct]
    );
}

#[test]
fn peers_and_buckets_interleave_without_breaking_trains() {
    let mut plan = SendPlan::new(8, 0, 128);
    for _ in 0..3 {
        push(&mut plan, KEY, 100);
        push(&mut plan, TrainKey { bucket: 2, ..KEY }, 100);
    }
    assert_eq!(
        plan.sends().iter().map(|s| s.frames).collect::<Vec<_>>(),
        [3, 3]
    );
}

#[test]
fn nothing_joins_or_overtakes_a_super_packet_that_leaves_whole() {
    let mut plan = SendPlan::new(8, 0, 128);
    push(&mut plan, KEY, 100);
    plan.push_tunnel_gso(KEY, to(), 40, piece(60_000)[0])
        .unwrap();
    push(&mut plan, KEY, 100);
    let sends: Vec<_> = plan.sends().iter().map(|s| (s.via, s.frames)).collect();
    let socket = (Via::Socket, 1);
    assert_eq!(sends, [socket, (Via::TunnelGso, 40), socket]);
    assert_eq!(plan.sends()[1].bytes, 60_000);
}

#[test]
fn frames_and_bytes_are_bounded() {
    let mut plan = SendPlan::new(8, 0, 64);
    for _ in 0..65 {
        push(&mut plan, KEY, 100);
    }
    assert_eq!(
        plan.sends().iter().map(|s| s.frames).collect::<Vec<_>>(),
        [64, 1]
    );
    plan.clear();
    for _ in 0..45 {
        push(&mut plan, KEY, 1472);
    }
    assert_eq!(
        plan.sends().iter().map(|s| s.frames).collect::<Vec<_>>(),
        [44, 1]
    );
    assert!(
        plan.sends()
            .iter()
            .all(|s| s.bytes as usize <= MAX_TRAIN_BYTES)
    );
}

#[test]
fn limits_only_ever_shrink() {
    let mut plan = SendPlan::new(8, 0, 128);
    plan.limit_frames(1);
    plan.limit_frames(64);
    push(&mut plan, KEY, 100);
    push(&mut plan, KEY, 100);
    assert_eq!(plan.sends().len(), 2);
}

#[test]
fn a_frame_that_must_be_alone_joins_nothing_and_is_not_joined() {
    let mut plan = SendPlan::new(8, 0, 128);
    push(&mut plan, KEY, 100);
    plan.push_alone(KEY, to(), 100, &piece(100)).unwrap();
    push(&mut plan, KEY, 100);
    push(&mut plan, KEY, 100);
    let shapes: Vec<_> = plan.sends().iter().map(|send| send.frames).collect();
    assert_eq!(shapes, [1, 1, 2]);
}

#[test]
fn a_full_plan_says_so_and_keeps_what_it_has() {
    let mut plan = SendPlan::new(1, 16, 1);
    assert!(plan.has_room(16));
    assert!(plan.header(17).is_none());
    push(&mut plan, KEY, 100);
    assert!(!plan.has_room(0));
    assert_eq!(plan.push(KEY, to(), 100, &piece(100)), Err(Full));
    assert_eq!(plan.sends().len(), 1);
}
