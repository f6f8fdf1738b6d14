//! The engine over loopback sockets and a socket pair in place of the TUN.

use super::Waiter;
use super::decap::DecapPoll;
use super::encap::EncapPoll;
use crate::offload::coalesce::{Coalescer, Limits, Packet, Trust};
use crate::offload::plan::{Piece, SendPlan, Source, TrainKey};
use crate::offload::vnet_hdr::Layout;
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::engine::{DECAP_BATCH_BYTES, DecapIo, EncapIo, HEADROOM};
use crate::sys::event::StopEvent;
use crate::sys::refusals::tests::refusals;
use crate::sys::sender::Sender;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use crate::sys::udp;
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Encap {
    io: EncapPoll,
    waiter: Waiter,
    stop: Arc<StopEvent>,
    tun: UnixDatagram,
    peer: UdpSocket,
    stats: Arc<WorkerStats>,
}

fn encap(sockets: Vec<Socket>) -> Encap {
    let (tun, theirs) = UnixDatagram::pair().unwrap();
    let queue = Arc::new(TunQueue::from_fd(theirs.into()));
    let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let stop = Arc::new(StopEvent::new().unwrap());
    let waiter = Waiter::new(stop.clone(), Duration::ZERO).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let plan = SendPlan::new(64, 4096, 128);
    let sockets = sockets.into();
    let sender = Sender::new(sockets, None, refusals(&stats));
    let io = EncapPoll::new(queue, sender, &waiter, plan, stats.clone()).unwrap();
    Encap {
        io,
        waiter,
        stop,
        tun,
        peer,
        stats,
    }
}

impl Encap {
    /// Packets as the TUN would give them, one for each fill byte; then plan them all as
    /// frames without any header.
    fn carry(&mut self, fills: std::ops::Range<u8>, len: usize) {
        for fill in fills {
            let mut packet = vec![0; VNET_HDR_LEN];
            packet.resize(VNET_HDR_LEN + len, fill);
            self.tun.send(&packet).unwrap();
        }
        while let Some(packet) = self.io.take().unwrap() {
            assert_eq!(packet.len, len);
            let piece = Piece {
                source: Source::Buffer(packet.buffer),
                offset: HEADROOM as u32,
                len: len as u32,
            };
            self.plan(0, self.peer.local_addr().unwrap(), len, &[piece]);
        }
    }

    fn plan(&mut self, peer: u32, to: SocketAddr, len: usize, pieces: &[Piece]) {
        let key = TrainKey {
            peer,
            bucket: 0,
            ecn: 0,
        };
        self.io.parts().0.push(key, to, len, pieces).unwrap();
    }

    fn received(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let len = self.peer.recv(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }
}

#[test]
fn trains_keep_the_order_of_their_frames() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    encap.carry(0..10, 1000);
    assert!(encap.io.end_batch().unwrap(), "the TUN is empty");
    for fill in 0..10 {
        assert_eq!(encap.received(), vec![fill; 1000]);
    }
    assert_eq!(encap.stats.get(Count::FramesSent), 10);
    assert_eq!(encap.stats.get(Count::Sends), 1);
}

#[test]
fn what_icmp_says_of_one_peer_costs_no_other_a_frame() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    // Nobody listens there any more, so each datagram leaves an error at the socket.
    let deaf = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let deaf = deaf.local_addr().unwrap();
    let to = encap.peer.local_addr().unwrap();
    for len in 100..120 {
        let (plan, _) = encap.io.parts();
        for (peer, to) in [(0, deaf), (1, to)] {
            let (piece, _) = plan.header(len).unwrap();
            let key = TrainKey {
                peer,
                bucket: 0,
                ecn: 0,
            };
            plan.push(key, to, len, &[piece]).unwrap();
        }
        encap.io.flush().unwrap();
        assert_eq!(encap.peer.recv(&mut [0; 1000]).unwrap(), len);
    }
    assert_eq!(encap.stats.get(Count::FramesSent), 40);
}

#[test]
fn nothing_of_its_flow_overtakes_a_refused_train() {
    let sockets = udp::senders((LOOPBACK, 0).into(), 1, false).unwrap();
    udp::tests::disable_checksums(&sockets[0]);
    let mut encap = encap(sockets);
    let to = encap.peer.local_addr().unwrap();
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: 0,
    };
    let lengths = [300, 300, 300, 400, 400, 500];
    for len in lengths {
        let (plan, _) = encap.io.parts();
        let (piece, _) = plan.header(len).unwrap();
        plan.push(key, to, len, &[piece]).unwrap();
    }
    encap.io.flush().unwrap();
    let received = lengths.map(|_| encap.peer.recv(&mut [0; 1000]).unwrap());
    assert_eq!(received, lengths);
}

#[test]
fn a_refused_train_goes_out_frame_by_frame_and_its_peer_has_none_for_a_while() {
    let sockets = udp::senders((LOOPBACK, 0).into(), 1, false).unwrap();
    // UDP_SEGMENT on a socket without checksums is refused with EINVAL.
    udp::tests::disable_checksums(&sockets[0]);
    let mut encap = encap(sockets);
    for round in 1..3 {
        encap.carry(0..5, 500);
        encap.io.end_batch().unwrap();
        for fill in 0..5 {
            assert_eq!(encap.received(), vec![fill; 500]);
        }
        assert_eq!(encap.stats.get(Count::Sends), 5 * round);
        assert_eq!(encap.stats.get(Count::Downgrades), 1);
    }
    assert_eq!(encap.stats.drops(DropReason::SendFailed), 0);
}

#[test]
fn a_frame_no_send_can_carry_is_counted_and_holds_none_back() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    let (piece, _) = encap.io.parts().0.header(100).unwrap();
    encap.plan(1, SocketAddr::from(([240, 0, 0, 1], 9)), 100, &[piece]);
    encap.carry(7..8, 50);
    encap.io.end_batch().unwrap();
    assert_eq!(encap.received(), [7; 50]);
    assert_eq!(encap.stats.drops(DropReason::SendFailed), 1);
    assert_eq!(encap.stats.get(Count::FramesSent), 1);
}

#[test]
fn waits_end_with_input_and_with_the_stop_event() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    encap.carry(0..0, 0);
    assert!(encap.io.end_batch().unwrap());
    encap.tun.send(&[0; VNET_HDR_LEN + 1]).unwrap();
    encap.waiter.wait().unwrap();
    assert!(!encap.waiter.stopped());
    assert_eq!(encap.io.take().unwrap().unwrap().len, 1);
    encap.stop.raise();
    encap.waiter.wait().unwrap();
    assert!(encap.waiter.stopped());
}

#[test]
fn the_stop_event_is_seen_without_a_wait() {
    let encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    assert!(!encap.waiter.stopped());
    encap.stop.raise();
    assert!(encap.waiter.stopped(), "by one whose input never runs dry");
}

#[test]
fn a_wait_that_spins_ends_with_input_whenever_it_comes() {
    let stop = Arc::new(StopEvent::new().unwrap());
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let spin = Duration::from_millis(20);
    let mut waiter = Waiter::new(stop, spin).unwrap();
    waiter.add(theirs.as_fd()).unwrap();
    for delay in [spin / 4, spin * 2] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(delay);
                ours.send(&[1]).unwrap();
            });
            waiter.wait().unwrap();
        });
        assert_eq!(theirs.recv(&mut [0; 4]).unwrap(), 1);
        let empty = theirs.recv(&mut [0; 4]).unwrap_err();
        assert_eq!(empty.kind(), std::io::ErrorKind::WouldBlock);
    }
}

struct Decap {
    io: DecapPoll,
    tun: UnixDatagram,
    to: SocketAddr,
    stats: Arc<WorkerStats>,
}

fn decap() -> Decap {
    let (tun, theirs) = UnixDatagram::pair().unwrap();
    tun.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let queue = Arc::new(TunQueue::from_fd(theirs.into()));
    let free = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let to = free.local_addr().unwrap();
    drop(free);
    let receiver = udp::receivers(LOOPBACK, to.port(), 1, true).unwrap();
    let waiter = Waiter::new(Arc::new(StopEvent::new().unwrap()), Duration::ZERO).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let coalescer = Coalescer::new(16, Layout::Legacy, Limits::new(1450)).unwrap();
    let receiver = receiver.into_iter().next().unwrap();
    let io = DecapPoll::new(receiver, queue, &waiter, coalescer, stats.clone()).unwrap();
    Decap { io, tun, to, stats }
}

#[test]
fn datagrams_arrive_with_their_source_and_are_written() {
    let mut decap = decap();
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let mut frame = vec![0u8; 22];
    frame.extend([
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    sender.send_to(&frame, decap.to).unwrap();

    let datagram = decap.io.take().unwrap().unwrap();
    assert_eq!(datagram.source, Some(LOOPBACK));
    assert_eq!((datagram.len, datagram.truncated), (frame.len(), false));
    let (coalescer, _) = decap.io.parts();
    let packet = Packet {
        buffer: datagram.buffer,
        room: 22,
        offset: (datagram.offset + 22) as u32,
        len: 28,
    };
    coalescer
        .push(packet, &frame[22..], Trust::Unknown, None)
        .unwrap();
    assert!(decap.io.end_batch().unwrap(), "the socket is empty");
    let mut written = vec![0; 100];
    let len = decap.tun.recv(&mut written).unwrap();
    assert_eq!(written[VNET_HDR_LEN..len], frame[22..]);
    assert_eq!(decap.stats.get(Count::TunWrites), 1);
}

#[test]
fn a_batch_that_is_full_loses_nothing() {
    let mut decap = decap();
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    // So many that neither the bytes nor the buffers of one batch suffice.
    const DATAGRAMS: usize = 200;
    let len = DECAP_BATCH_BYTES / DATAGRAMS * 2;
    for i in 0..DATAGRAMS {
        sender.send_to(&vec![i as u8; len], decap.to).unwrap();
    }
    let mut taken = 0;
    let mut batches = 0;
    loop {
        while let Some(datagram) = decap.io.take().unwrap() {
            let bytes = decap.io.parts().1.bytes(datagram.buffer);
            assert_eq!(bytes[datagram.offset], taken as u8);
            taken += 1;
        }
        batches += 1;
        if decap.io.end_batch().unwrap() {
            break;
        }
    }
    assert_eq!(taken, DATAGRAMS);
    assert!(batches > 1, "one batch took all");
}
