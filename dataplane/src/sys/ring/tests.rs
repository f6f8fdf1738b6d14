//! The rings over loopback sockets and a socket pair in place of the TUN, so that they can
//! be driven into their corners without root.

use super::Token;
use super::decap::DecapRing;
use super::encap::EncapRing;
use crate::offload::coalesce::{Coalescer, Limits, Packet, Trust};
use crate::offload::plan::{Piece, SendPlan, Source, TrainKey};
use crate::offload::vnet_hdr::Layout;
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::engine::{DecapIo, EncapIo, HEADROOM};
use crate::sys::event::StopEvent;
use crate::sys::refusals::tests::refusals;
use crate::sys::sender::Sender;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use crate::sys::udp;
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn tokens_survive_user_data() {
    let tokens = [
        Token::Input,
        Token::Stop,
        Token::Cancel,
        Token::Output(0),
        Token::Output(77),
    ];
    for token in tokens {
        assert_eq!(Token::decode(token.encode()), Some(token));
    }
    assert_eq!(Token::decode(3), None);
    assert_eq!(Token::decode(u64::MAX), None);
}

struct Encap {
    io: EncapRing,
    tun: UnixDatagram,
    peer: UdpSocket,
    stop: StopEvent,
    stats: Arc<WorkerStats>,
}

fn tun_pair() -> (UnixDatagram, Arc<TunQueue>) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    (ours, Arc::new(TunQueue::from_fd(theirs.into())))
}

fn encap(sockets: Vec<Socket>) -> Encap {
    let (tun, queue) = tun_pair();
    let mut encap = encap_over(queue, sockets);
    encap.tun = tun;
    encap
}

/// Over any input; what is fed to `tun` goes nowhere.
fn encap_over(queue: Arc<TunQueue>, sockets: Vec<Socket>) -> Encap {
    let sockets = sockets.into();
    let tun = UnixDatagram::unbound().unwrap();
    let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let stop = StopEvent::new().unwrap();
    let stats = Arc::new(WorkerStats::default());
    let plan = SendPlan::new(64, 4096, 128);
    let sender = Sender::new(sockets, None, refusals(&stats));
    let io = EncapRing::new(queue, sender, &stop, plan, stats.clone()).unwrap();
    Encap {
        io,
        tun,
        peer,
        stop,
        stats,
    }
}

impl Encap {
    /// One packet as the TUN would give it, with `fill` as its bytes.
    fn feed(&self, fill: u8, len: usize) {
        let mut packet = vec![0; VNET_HDR_LEN];
        packet.resize(VNET_HDR_LEN + len, fill);
        self.tun.send(&packet).unwrap();
    }

    /// Plan the packet in `buffer` as one frame without any header.
    fn plan(&mut self, buffer: u16, len: usize) {
        let to = self.peer.local_addr().unwrap();
        let key = TrainKey {
            peer: 0,
            bucket: 0,
            ecn: 0,
        };
        let piece = Piece {
            source: Source::Buffer(buffer),
            offset: HEADROOM as u32,
            len: len as u32,
        };
        self.io.parts().0.push(key, to, len, &[piece]).unwrap();
    }

    fn received(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let len = self.peer.recv(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }
}

#[test]
fn packets_are_read_with_headroom_and_sent_as_planned() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    encap.feed(0xab, 100);
    encap.io.next_batch().unwrap();
    let packet = encap.io.take().unwrap().unwrap();
    assert_eq!(packet.len, 100);
    let (_, buffers) = encap.io.parts();
    assert!(
        buffers.bytes(packet.buffer)[HEADROOM..HEADROOM + 100]
            .iter()
            .all(|&b| b == 0xab)
    );
    encap.plan(packet.buffer, 100);
    encap.io.flush().unwrap();
    assert_eq!(encap.received(), vec![0xab; 100]);
    assert_eq!(encap.stats.get(Count::FramesSent), 1);
}

#[test]
fn trains_keep_the_order_of_their_frames() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    for fill in 0..10 {
        encap.feed(fill, 1000);
    }
    let mut taken = 0;
    while taken < 10 {
        encap.io.next_batch().unwrap();
        while let Some(packet) = encap.io.take().unwrap() {
            encap.plan(packet.buffer, packet.len);
            taken += 1;
        }
    }
    encap.io.flush().unwrap();
    for fill in 0..10 {
        assert_eq!(encap.received(), vec![fill; 1000]);
    }
    assert_eq!(encap.stats.get(Count::FramesSent), 10);
    assert!(
        encap.stats.get(Count::Sends) < 10,
        "nothing was sent as a train"
    );
}

#[test]
fn a_reader_without_free_buffers_is_armed_again() {
    // A UDP socket in place of the TUN, whose queue holds more than there are buffers.
    let input = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = input.local_addr().unwrap();
    let queue = Arc::new(TunQueue::from_fd(input.into()));
    let mut encap = encap_over(queue, udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    let feeder = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    for round in 0..3u8 {
        for fill in 0..100 {
            let packet = [fill; VNET_HDR_LEN + 20];
            feeder.send_to(&packet, address).unwrap();
        }
        let mut taken = 0;
        while taken < 100 {
            encap.io.next_batch().unwrap();
            while let Some(packet) = encap.io.take().unwrap() {
                let (_, buffers) = encap.io.parts();
                assert_eq!(
                    buffers.bytes(packet.buffer)[HEADROOM],
                    taken,
                    "round {round}"
                );
                taken += 1;
            }
        }
    }
    assert!(encap.stats.get(Count::NoBuffers) > 0);
    assert!(encap.stats.get(Count::Rearms) > 0);
    assert_eq!(encap.stats.get(Count::CqOverflows), 0);
}

#[test]
fn a_refused_train_goes_out_frame_by_frame_and_its_peer_has_none_for_a_while() {
    let sockets = udp::senders((LOOPBACK, 0).into(), 1, false).unwrap();
    // UDP_SEGMENT on a socket without checksums is refused with EINVAL.
    udp::tests::disable_checksums(&sockets[0]);
    let mut encap = encap(sockets);
    for fill in 0..5 {
        encap.feed(fill, 500);
    }
    let mut taken = 0;
    while taken < 5 {
        encap.io.next_batch().unwrap();
        while let Some(packet) = encap.io.take().unwrap() {
            encap.plan(packet.buffer, packet.len);
            taken += 1;
        }
    }
    encap.io.flush().unwrap();
    for fill in 0..5 {
        assert_eq!(encap.received(), vec![fill; 500]);
    }
    assert_eq!(encap.stats.get(Count::FramesSent), 5);
    assert_eq!(encap.stats.drops(DropReason::SendFailed), 0);
    assert_eq!(encap.stats.get(Count::Downgrades), 1);
    let sends = encap.stats.get(Count::Sends);
    for _ in 0..2 {
        encap.feed(9, 500);
    }
    let mut taken = 0;
    while taken < 2 {
        encap.io.next_batch().unwrap();
        while let Some(packet) = encap.io.take().unwrap() {
            encap.plan(packet.buffer, packet.len);
            taken += 1;
        }
    }
    encap.io.flush().unwrap();
    assert_eq!(encap.stats.get(Count::Sends), sends + 2);
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
        assert_eq!(encap.received().len(), len);
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
    assert_eq!(lengths.map(|_| encap.received().len()), lengths);
}

#[test]
fn a_refused_train_is_sent_again_before_input_is_waited_for() {
    let sockets = udp::senders((LOOPBACK, 0).into(), 1, false).unwrap();
    udp::tests::disable_checksums(&sockets[0]);
    let mut encap = encap(sockets);
    // However long nothing was refused.
    for _ in 0..120 {
        encap.feed(1, 100);
        encap.io.next_batch().unwrap();
        let packet = encap.io.take().unwrap().unwrap();
        encap.plan(packet.buffer, packet.len);
        encap.io.flush().unwrap();
        assert_eq!(encap.received().len(), 100);
    }
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: 0,
    };
    let to = encap.peer.local_addr().unwrap();
    for _ in 0..3 {
        let (plan, _) = encap.io.parts();
        let (piece, _) = plan.header(300).unwrap();
        plan.push(key, to, 300, &[piece]).unwrap();
    }
    // Nothing comes in, so only the stop event ends the wait; the frames must be out by then.
    let peer = encap.peer.try_clone().unwrap();
    std::thread::scope(|scope| {
        let stop = &encap.stop;
        let arrived = scope.spawn(move || {
            let sizes = [(); 3].map(|()| peer.recv(&mut [0; 1000]).unwrap_or(0));
            stop.raise();
            sizes
        });
        encap.io.next_batch().unwrap();
        assert_eq!(arrived.join().unwrap(), [300; 3]);
    });
}

#[test]
fn a_frame_no_send_can_carry_is_counted() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    let unreachable = SocketAddr::from(([240, 0, 0, 1], 9));
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: 0,
    };
    let (plan, _) = encap.io.parts();
    let (piece, _) = plan.header(100).unwrap();
    plan.push(key, unreachable, 100, &[piece]).unwrap();
    encap.io.flush().unwrap();
    assert_eq!(encap.stats.drops(DropReason::SendFailed), 1);
}

#[test]
fn the_stop_event_ends_a_wait_and_buffers_in_the_kernel_are_let_go() {
    let mut encap = encap(udp::senders((LOOPBACK, 0).into(), 1, false).unwrap());
    encap.feed(1, 10);
    encap.io.next_batch().unwrap();
    assert!(encap.io.take().unwrap().is_some());
    encap.stop.raise();
    while !encap.io.stopped() {
        encap.io.next_batch().unwrap();
    }
    // Some buffers are filled, some held, the rest with the kernel.
    encap.feed(2, 10);
    let start = Instant::now();
    drop(encap.io);
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn datagrams_arrive_with_their_source_and_are_written_coalesced_or_alone() {
    let (tun, queue) = tun_pair();
    tun.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = UdpSocket::bind((LOOPBACK, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let receiver = udp::receivers(LOOPBACK, port, 1, true).unwrap().remove(0);
    let stop = StopEvent::new().unwrap();
    let stats = Arc::new(WorkerStats::default());
    let coalescer = Coalescer::new(16, Layout::Legacy, Limits::new(1450)).unwrap();
    let mut io = DecapRing::new(receiver, queue, &stop, coalescer, stats.clone()).unwrap();

    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let mut frame = vec![0u8; 22];
    let mut ip = vec![
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    ip.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(&ip);
    sender.send_to(&frame, (LOOPBACK, port)).unwrap();

    io.next_batch().unwrap();
    let datagram = io.take().unwrap().unwrap();
    assert_eq!(datagram.source, Some(LOOPBACK));
    assert_eq!((datagram.len, datagram.truncated), (frame.len(), false));
    let (coalescer, buffers) = io.parts();
    let packet = Packet {
        buffer: datagram.buffer,
        room: 22,
        offset: (datagram.offset + 22) as u32,
        len: ip.len() as u32,
    };
    let bytes = buffers.bytes(datagram.buffer)[datagram.offset + 22..][..ip.len()].to_vec();
    assert_eq!(bytes, ip);
    coalescer
        .push(packet, &bytes, Trust::Unknown, None)
        .unwrap();
    io.flush().unwrap();
    let mut written = vec![0; 100];
    let len = tun.recv(&mut written).unwrap();
    assert_eq!(len, VNET_HDR_LEN + ip.len());
    assert_eq!(written[VNET_HDR_LEN..len], ip);
    assert_eq!(stats.get(Count::TunWrites), 1);
}
