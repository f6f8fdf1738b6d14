//! What leaves, what is sent again and what is counted as lost: over loopback, and by system
//! calls that refuse what the test wants them to.

use super::*;
use crate::caps::{Cap, Caps, Grant};
use crate::offload::plan::{Source, TrainKey};
use crate::offload::tunnel_gso::{self, Origin, Outer};
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::refusals::tests::{refusals, sharing};
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::FRAME_OVERHEAD;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const KEY: TrainKey = TrainKey {
    peer: 0,
    bucket: 0,
    ecn: Ecn::NotEct,
};

/// A sender and what it is given.
struct Bench<T> {
    sender: Sender<T>,
    plan: SendPlan,
    buffers: Buffers,
    stats: Arc<WorkerStats>,
}

impl<T: Transmit> Bench<T> {
    fn new(calls: T, sockets: Vec<Socket>) -> Bench<T> {
        Bench::beside(None, calls, sockets)
    }

    fn beside(tap: Option<Tap>, calls: T, sockets: Vec<Socket>) -> Bench<T> {
        let stats = Arc::new(WorkerStats::default());
        Bench {
            sender: Sender::by(calls, sockets.into(), tap.map(Arc::new), refusals(&stats)),
            plan: SendPlan::new(64, 64 << 10, 128),
            buffers: Buffers::new(1, 64 << 10).unwrap(),
            stats,
        }
    }

    /// Plan one frame of `len` bytes, each of which is `fill`.
    fn plan(&mut self, peer: u32, to: SocketAddr, fill: u8, len: usize) {
        let (piece, bytes) = self.plan.header(len).unwrap();
        bytes.fill(fill);
        let key = TrainKey { peer, ..KEY };
        self.plan.push(key, to, len, &[piece]).unwrap();
    }

    fn send(&mut self) {
        self.sender.send(&mut self.plan, &self.buffers);
        assert!(self.plan.is_empty());
    }

    fn lost(&self, reason: DropReason) -> u64 {
        self.stats.drops(reason)
    }
}

/// By the kernel, to a peer on loopback.
fn on_loopback(sockets: Vec<Socket>) -> (Bench<Kernel>, UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = peer.local_addr().unwrap();
    (Bench::new(Kernel, sockets), peer, to)
}

fn sockets() -> Vec<Socket> {
    udp::senders((LOOPBACK, 0).into(), 1, false).unwrap()
}

/// The kernel refuses trains on a socket without checksums with `EINVAL`.
fn sockets_without_trains() -> Vec<Socket> {
    let sockets = sockets();
    udp::tests::disable_checksums(&sockets[0]);
    sockets
}

fn received(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let len = peer.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn trains_keep_the_order_of_their_frames() {
    let (mut bench, peer, to) = on_loopback(sockets());
    for fill in 0..10 {
        bench.plan(0, to, fill, 1000);
    }
    bench.send();
    for fill in 0..10 {
        assert_eq!(received(&peer), vec![fill; 1000]);
    }
    assert_eq!(bench.stats.get(Count::FramesSent), 10);
    assert_eq!(bench.stats.get(Count::Sends), 1);
}

#[test]
fn a_refused_train_goes_out_frame_by_frame_and_its_peer_has_none_for_a_while() {
    let (mut bench, peer, to) = on_loopback(sockets_without_trains());
    for round in 1..3 {
        for fill in 0..5 {
            bench.plan(0, to, fill, 500);
        }
        bench.send();
        for fill in 0..5 {
            assert_eq!(received(&peer), vec![fill; 500]);
        }
        assert_eq!(bench.stats.get(Count::Sends), 5 * round);
        assert_eq!(bench.stats.get(Count::FramesSent), 5 * round);
        assert_eq!(bench.stats.get(Count::Downgrades), 1);
    }
    assert_eq!(bench.lost(DropReason::SendFailed), 0);
}

#[test]
fn what_icmp_says_of_one_peer_costs_no_other_a_frame() {
    let (mut bench, peer, to) = on_loopback(sockets());
    // Nobody listens there any more, so each datagram leaves an error at the socket.
    let deaf = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let deaf = deaf.local_addr().unwrap();
    for len in 100..120 {
        bench.plan(0, deaf, 0, len);
        bench.plan(1, to, 1, len);
        bench.send();
        assert_eq!(received(&peer), vec![1; len]);
    }
    assert_eq!(bench.stats.get(Count::FramesSent), 40);
}

#[test]
fn nothing_of_its_flow_overtakes_a_refused_train() {
    let (mut bench, peer, to) = on_loopback(sockets_without_trains());
    let lengths = [300, 300, 300, 400, 400, 500];
    for len in lengths {
        bench.plan(0, to, 0, len);
    }
    bench.send();
    assert_eq!(lengths.map(|_| received(&peer).len()), lengths);
}

#[test]
fn a_frame_no_send_can_carry_is_counted_and_holds_none_back() {
    let (mut bench, peer, to) = on_loopback(sockets());
    bench.plan(1, ([240, 0, 0, 1], 9).into(), 0, 100);
    bench.plan(0, to, 7, 50);
    bench.send();
    assert_eq!(received(&peer), [7; 50]);
    assert_eq!(bench.lost(DropReason::SendFailed), 1);
    assert_eq!(bench.stats.get(Count::FramesSent), 1);
}

/// What a system call was given: one datagram, or train of `stride`.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    stride: Option<u16>,
    bytes: Vec<u8>,
}

impl Sent {
    /// # Safety
    /// As for [`Transmit::send`].
    unsafe fn of(message: &libc::mmsghdr) -> Sent {
        let header = &message.msg_hdr;
        // SAFETY: the caller vouches for the iovecs.
        let iovecs = unsafe { std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
        let gather = |iovec: &libc::iovec| {
            // SAFETY: and for what they point to.
            unsafe { std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len) }
        };
        let control = match header.msg_controllen {
            0 => &[][..],
            // SAFETY: and for the control messages.
            len => unsafe { std::slice::from_raw_parts(header.msg_control.cast::<u8>(), len) },
        };
        Sent {
            // The only message there is without an ECN field.
            stride: control
                .get(16..18)
                .and_then(|stride| stride.first_chunk())
                .map(|&stride| u16::from_ne_bytes(stride)),
            bytes: iovecs.iter().flat_map(gather).copied().collect(),
        }
    }

    fn single(fill: u8, len: usize) -> Sent {
        Sent {
            stride: None,
            bytes: vec![fill; len],
        }
    }
}

/// Answers calls as scripted, and once the script is over takes everything.
#[derive(Default)]
struct Script {
    /// How many messages to take at most, or what to refuse the first with.
    answers: VecDeque<Result<usize, i32>>,
    calls: usize,
    waiting: usize,
    sent: Vec<Sent>,
}

impl Transmit for Script {
    unsafe fn send(&mut self, _: &Socket, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
        self.calls += 1;
        let answer = self.answers.pop_front().unwrap_or(Ok(messages.len()));
        let count = answer.map_err(io::Error::from_raw_os_error)?;
        let taken = &messages[..count.min(messages.len())];
        // SAFETY: the caller vouches for the messages.
        let sent = taken.iter().map(|message| unsafe { Sent::of(message) });
        self.sent.extend(sent);
        Ok(taken.len())
    }

    fn waiting(&mut self, _: &Socket) -> usize {
        self.waiting
    }
}

fn scripted(answers: &[Result<usize, i32>]) -> Bench<Script> {
    let script = Script {
        answers: answers.iter().copied().collect(),
        ..Script::default()
    };
    Bench::new(script, sockets())
}

fn to() -> SocketAddr {
    (LOOPBACK, 9).into()
}

/// Five frames that cannot share a train: each is longer than the one before.
fn plan_singles(bench: &mut Bench<Script>) -> Vec<Sent> {
    for n in 1..=5 {
        bench.plan(0, to(), n, usize::from(n) * 100);
    }
    let sent = |n: u8| Sent::single(n, usize::from(n) * 100);
    (1..=5).map(sent).collect()
}

#[test]
fn what_the_kernel_takes_in_part_goes_on_where_it_stopped() {
    let mut bench = scripted(&[Ok(2), Ok(1)]);
    let all = plan_singles(&mut bench);
    bench.send();
    assert_eq!(bench.sender.calls.sent, all);
    assert_eq!(bench.sender.calls.calls, 3);
    assert_eq!(bench.stats.get(Count::FramesSent), 5);
}

#[test]
fn a_full_queue_costs_one_frame_and_the_next_is_tried() {
    for errno in [libc::ENOBUFS, libc::EAGAIN] {
        let mut bench = scripted(&[Ok(1), Err(errno)]);
        let mut left = plan_singles(&mut bench);
        bench.send();
        left.remove(1);
        assert_eq!(bench.sender.calls.sent, left);
        assert_eq!(bench.lost(DropReason::QueueFull), 1);
        assert_eq!(bench.stats.get(Count::FramesSent), 4);
    }
}

#[test]
fn interruptions_are_no_refusals_but_not_for_ever() {
    let mut bench = scripted(&[Err(libc::EINTR), Err(libc::ECONNREFUSED), Ok(1)]);
    let all = plan_singles(&mut bench);
    bench.send();
    assert_eq!(bench.sender.calls.sent, all);
    assert_eq!(bench.lost(DropReason::SendFailed), 0);

    let mut bench = scripted(&[Err(libc::ECONNREFUSED); 4]);
    let all = plan_singles(&mut bench);
    bench.send();
    assert_eq!(bench.sender.calls.sent, all[1..]);
    assert_eq!(bench.lost(DropReason::SendFailed), 1);
}

/// A train of `frames` frames of 100 bytes.
fn plan_train(bench: &mut Bench<Script>, peer: u32, to: SocketAddr, frames: u8) {
    for fill in 0..frames {
        bench.plan(peer, to, fill, 100);
    }
}

#[test]
fn a_train_of_which_the_kernel_says_eio_goes_frame_by_frame_and_other_peers_keep_theirs() {
    let mut bench = scripted(&[Err(libc::EIO)]);
    let other = ([127, 0, 0, 2], 9).into();
    for _ in 0..2 {
        plan_train(&mut bench, 0, to(), 3);
        bench.send();
        let frames: Vec<Sent> = (0..3).map(|fill| Sent::single(fill, 100)).collect();
        assert_eq!(std::mem::take(&mut bench.sender.calls.sent), frames);
    }
    plan_train(&mut bench, 1, other, 3);
    bench.send();
    let [train] = &bench.sender.calls.sent[..] else {
        panic!("{:?}", bench.sender.calls.sent);
    };
    assert_eq!((train.stride, train.bytes.len()), (Some(100), 300));
    assert_eq!(bench.stats.get(Count::Downgrades), 1);
    assert_eq!(bench.stats.get(Count::FramesSent), 9);
}

#[test]
fn what_one_worker_was_refused_no_other_tries_and_the_capability_shows_it() {
    let caps = Arc::new(Caps::default());
    caps.trains.ask(None);
    let [mut first, mut second] = [[Err(libc::EIO)].as_slice(), &[]].map(|answers| {
        let mut bench = scripted(answers);
        bench.sender.refusals = sharing(&caps, &bench.stats);
        bench
    });
    assert_eq!(caps.grant(Cap::UdpGso, 0), Grant::On);
    plan_train(&mut first, 0, to(), 3);
    first.send();
    assert_eq!(caps.grant(Cap::UdpGso, 1), Grant::Limited);
    plan_train(&mut second, 0, to(), 3);
    second.send();
    assert_eq!(second.sender.calls.sent.len(), 3, "it tried a train");
    assert_eq!(first.stats.get(Count::Downgrades), 1);
    assert_eq!(second.stats.get(Count::Downgrades), 0);

    // A length that the kernel does not take counts for all, too.
    let [mut first, mut second] = [[Err(libc::EINVAL)].as_slice(), &[]].map(|answers| {
        let mut bench = scripted(answers);
        bench.sender.refusals = sharing(&caps, &bench.stats);
        bench
    });
    let other = ([127, 0, 0, 2], 9).into();
    plan_train(&mut first, 1, other, 100);
    first.send();
    // Ends the batch in which the second could not know yet.
    second.send();
    plan_train(&mut second, 1, other, 100);
    second.send();
    let sent = &second.sender.calls.sent;
    let lengths: Vec<usize> = sent.iter().map(|sent| sent.bytes.len()).collect();
    assert_eq!(lengths, [6400, 3600]);
}

#[test]
fn a_queue_that_is_full_in_the_middle_of_a_train_is_asked_no_more() {
    let mut bench = scripted(&[Err(libc::EIO), Ok(2), Err(libc::ENOBUFS)]);
    plan_train(&mut bench, 0, to(), 10);
    bench.send();
    assert_eq!(bench.sender.calls.calls, 3);
    assert_eq!(bench.sender.calls.sent.len(), 2);
    assert_eq!(bench.lost(DropReason::QueueFull), 8);
    assert_eq!(bench.stats.get(Count::FramesSent), 2);
}

#[test]
fn a_train_that_is_refused_with_all_its_frames_teaches_nothing_of_trains() {
    let mut answers = vec![Err(libc::EINVAL); 4];
    answers.insert(0, Err(libc::EIO));
    let mut bench = scripted(&answers);
    plan_train(&mut bench, 0, to(), 4);
    bench.send();
    assert_eq!(bench.lost(DropReason::SendFailed), 4);
    assert_eq!(bench.stats.get(Count::Downgrades), 0);
    plan_train(&mut bench, 0, to(), 4);
    bench.send();
    assert_eq!(bench.sender.calls.sent.len(), 1, "it has trains as before");
}

#[test]
fn trains_longer_than_the_kernel_takes_are_cut_from_then_on() {
    let mut bench = scripted(&[Err(libc::EINVAL)]);
    plan_train(&mut bench, 0, to(), 100);
    bench.send();
    assert_eq!(std::mem::take(&mut bench.sender.calls.sent).len(), 100);
    plan_train(&mut bench, 0, to(), 100);
    bench.send();
    let lengths: Vec<usize> = bench
        .sender
        .calls
        .sent
        .iter()
        .map(|s| s.bytes.len())
        .collect();
    assert_eq!(lengths, [6400, 3600]);
}

#[test]
fn trains_leave_only_while_devices_keep_up_with_them() {
    let mut bench = scripted(&[]);
    bench.sender.calls.waiting = TRAINS_WAITING;
    plan_train(&mut bench, 0, to(), 3);
    bench.send();
    assert_eq!(bench.sender.calls.sent.len(), 3);
    bench.sender.calls.waiting = 0;
    plan_train(&mut bench, 0, to(), 3);
    bench.send();
    assert_eq!(bench.sender.calls.sent.len(), 4);
    assert_eq!(bench.stats.get(Count::Downgrades), 0);
}

#[test]
fn a_super_packet_without_a_way_is_counted_with_all_its_frames() {
    let mut bench = scripted(&[]);
    let piece = Piece {
        source: crate::offload::plan::Source::Buffer(0),
        offset: 0,
        len: 64,
    };
    bench.plan.push_tunnel_gso(KEY, to(), 7, piece).unwrap();
    bench.plan(0, to(), 1, 50);
    bench.send();
    assert_eq!(bench.lost(DropReason::SendFailed), 7);
    assert_eq!(bench.sender.calls.sent, [Sent::single(1, 50)]);
}

/// A TAP that has no room, whatever is written to it.
fn full_tap() -> Tap {
    let full = std::fs::File::options().write(true).open("/dev/full");
    Tap::over(full.unwrap())
}

impl<T: Transmit> Bench<T> {
    /// Plan a super-packet of two segments, 70 bytes each as frames, as tunnel GSO has it.
    fn plan_tunnel_gso(&mut self, to: SocketAddr) {
        let SocketAddr::V4(addr) = to else {
            panic!("an IPv4 address");
        };
        let origin = Origin {
            mac: MacAddr([2; 6]),
            local: Ipv4Addr::LOCALHOST,
        };
        let outer = Outer {
            src_port: 40_000,
            to: addr,
            ecn: Ecn::NotEct,
            ident: 0,
        };
        let packet = tunnel_gso::probe(&origin, &outer, &[7; FRAME_OVERHEAD]);
        self.buffers.take(0);
        self.buffers.bytes_mut(0)[..packet.len()].copy_from_slice(&packet);
        let piece = Piece {
            source: Source::Buffer(0),
            offset: 0,
            len: packet.len() as u32,
        };
        self.plan.push_tunnel_gso(KEY, to, 2, piece).unwrap();
    }
}

#[test]
fn nothing_of_its_flow_overtakes_a_super_packet_that_the_tap_refuses() {
    let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = peer.local_addr().unwrap();
    let mut bench = Bench::beside(Some(full_tap()), Kernel, sockets());
    bench.plan(0, to, 1, 70);
    bench.plan_tunnel_gso(to);
    bench.plan(0, to, 2, 50);
    bench.send();

    let sizes: Vec<usize> = (0..4).map(|_| received(&peer).len()).collect();
    assert_eq!(sizes, [70, 70, 70, 50]);
    assert_eq!(bench.stats.get(Count::FramesSent), 4);
    assert_eq!(bench.stats.get(Count::TunnelGsoSends), 0);
    assert_eq!(bench.lost(DropReason::SendFailed), 0);
}

#[test]
fn a_super_packet_that_cannot_be_cut_costs_no_other_its_frames() {
    let mut bench = Bench::beside(Some(full_tap()), Script::default(), sockets());
    let headers_alone = Piece {
        source: Source::Buffer(0),
        offset: 0,
        len: tunnel_gso::HEADER_LEN as u32,
    };
    bench.plan_tunnel_gso(to());
    bench.plan.clear();
    let planned = bench.plan.push_tunnel_gso(KEY, to(), 5, headers_alone);
    planned.unwrap();
    bench.send();
    assert_eq!(bench.lost(DropReason::SendFailed), 5);

    bench.plan_tunnel_gso(to());
    bench.send();
    assert_eq!(bench.lost(DropReason::SendFailed), 5);
    assert_eq!(bench.stats.get(Count::FramesSent), 2);
}
