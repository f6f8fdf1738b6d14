//! What holds of both engines, over loopback sockets and a socket pair in place of the TUN, so
//! that they can be driven into their corners without root.

use super::*;
use crate::caps::Capability;
use crate::offload::coalesce::{Limits, Packet, Trust};
use crate::offload::plan::{Piece, Source, TrainKey};
use crate::offload::vnet_hdr::Layout;
use crate::stats::{Count, DropReason};
use crate::sys::poll::PollEngine;
use crate::sys::refusals::tests::refusals;
use crate::sys::ring::RingEngine;
use crate::sys::tun::VNET_HDR_LEN;
use crate::sys::udp;
use crate::wire::ecn::Ecn;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

pub(in crate::sys) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_lack_of_memory_passes_and_a_device_that_is_gone_does_not() {
    let passing = [libc::ENOMEM, libc::ENOBUFS, libc::EINTR, libc::ECONNREFUSED];
    assert!(passing.into_iter().all(input_passes));
    let lasting = [libc::EBADFD, libc::EIO, libc::ENODEV, libc::EFAULT];
    assert!(!lasting.into_iter().any(input_passes));
}

/// The way out of an engine, and both its ends.
pub(in crate::sys) struct Outbound<E: Engine> {
    pub(in crate::sys) io: E::Encap,
    pub(in crate::sys) engine: E,
    pub(in crate::sys) stop: Arc<StopEvent>,
    pub(in crate::sys) tun: UnixDatagram,
    pub(in crate::sys) peer: UdpSocket,
    pub(in crate::sys) stats: Arc<WorkerStats>,
}

fn senders() -> Vec<Socket> {
    udp::senders((LOOPBACK, 0).into(), 1, false).unwrap()
}

fn tun_pair() -> (UnixDatagram, Arc<TunQueue>) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (ours, Arc::new(TunQueue::from_fd(theirs.into())))
}

impl<E: Engine> Outbound<E> {
    pub(in crate::sys) fn new() -> Outbound<E> {
        let (tun, queue) = tun_pair();
        Outbound::over(queue, tun, senders())
    }

    /// Over any input; `tun` is where packets are fed.
    pub(in crate::sys) fn over(
        queue: Arc<TunQueue>,
        tun: UnixDatagram,
        sockets: Vec<Socket>,
    ) -> Outbound<E> {
        let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let stop = Arc::new(StopEvent::new().unwrap());
        let mut engine = E::open(stop.clone(), Duration::ZERO).unwrap();
        let stats = Arc::new(WorkerStats::default());
        let parts = EncapParts {
            queues: vec![queue],
            sender: Sender::new(sockets.into(), None, refusals(&stats)),
            plan: SendPlan::new(64, 4096, 128),
            stats: stats.clone(),
        };
        let mut io = engine.encap(parts).unwrap();
        engine.begin(Some(&mut io), None).unwrap();
        Outbound {
            io,
            engine,
            stop,
            tun,
            peer,
            stats,
        }
    }

    /// One packet as the TUN would give it, with `fill` as its bytes.
    pub(in crate::sys) fn feed(&self, fill: u8, len: usize) {
        let mut packet = vec![0; VNET_HDR_LEN];
        packet.resize(VNET_HDR_LEN + len, fill);
        self.tun.send(&packet).unwrap();
    }

    pub(in crate::sys) fn wait(&mut self) {
        self.engine.wait(Some(&mut self.io), None).unwrap();
    }

    /// The next packet, whichever batch it is in.
    fn next(&mut self) -> TunPacket {
        loop {
            if let Some(packet) = self.io.take().unwrap() {
                return packet;
            }
            self.wait();
        }
    }

    /// Plan the packet as one frame without any header.
    fn plan(&mut self, packet: TunPacket) {
        let to = self.peer.local_addr().unwrap();
        let piece = Piece {
            source: Source::Buffer(packet.buffer),
            offset: HEADROOM as u32,
            len: packet.len as u32,
        };
        push(self.io.parts().0, to, piece);
    }

    /// Plan a frame of `len` bytes that was read from nowhere.
    fn plan_header(&mut self, len: usize) {
        let to = self.peer.local_addr().unwrap();
        let (plan, _) = self.io.parts();
        let (piece, _) = plan.header(len).unwrap();
        push(plan, to, piece);
    }

    fn received(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let len = self.peer.recv(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }
}

fn push(plan: &mut SendPlan, to: SocketAddr, piece: Piece) {
    let key = TrainKey {
        peer: 0,
        bucket: 0,
        ecn: Ecn::NotEct,
    };
    plan.push(key, to, piece.len as usize, &[piece]).unwrap();
}

/// Run a test of each engine.
macro_rules! of_both_engines {
    ($($name:ident,)+) => {
        mod ring {
            $(#[test] fn $name() { super::$name::<super::RingEngine>(); })+
        }
        mod poll {
            $(#[test] fn $name() { super::$name::<super::PollEngine>(); })+
        }
    };
}

mod ends;

of_both_engines! {
    packets_are_read_with_headroom_and_sent_as_planned,
    trains_keep_the_order_of_their_frames,
    what_is_planned_leaves_before_input_is_waited_for,
    a_refused_train_leaves_before_input_is_waited_for,
    replies_are_written_to_the_tun,
    waits_end_with_input_and_with_the_stop_event,
    the_stop_event_is_seen_without_a_wait,
    datagrams_arrive_with_their_source_and_are_written,
    a_batch_that_is_full_loses_nothing,
    a_sender_that_floods_keeps_no_other_waiting,
    however_many_flood_each_has_its_turn,
}

fn packets_are_read_with_headroom_and_sent_as_planned<E: Engine>() {
    let mut outbound = Outbound::<E>::new();
    outbound.feed(0xab, 100);
    let packet = outbound.next();
    assert_eq!(packet.len, 100);
    let (_, buffers) = outbound.io.parts();
    let bytes = &buffers.bytes(packet.buffer)[HEADROOM..][..100];
    assert!(bytes.iter().all(|&byte| byte == 0xab));
    outbound.plan(packet);
    outbound.io.flush().unwrap();
    assert_eq!(outbound.received(), vec![0xab; 100]);
    assert_eq!(outbound.stats.get(Count::FramesSent), 1);
}

fn trains_keep_the_order_of_their_frames<E: Engine>() {
    let mut outbound = Outbound::<E>::new();
    for fill in 0..10 {
        outbound.feed(fill, 1000);
    }
    for _ in 0..10 {
        let packet = outbound.next();
        outbound.plan(packet);
    }
    outbound.io.flush().unwrap();
    for fill in 0..10 {
        assert_eq!(outbound.received(), vec![fill; 1000]);
    }
    assert_eq!(outbound.stats.get(Count::FramesSent), 10);
    assert!(
        outbound.stats.get(Count::Sends) < 10,
        "nothing was sent as a train"
    );
}

/// Frames of `lengths` are planned and nothing comes in, so that only the stop event ends the
/// wait: they must be out by then.
fn leave_while_nothing_comes_in<E: Engine>(outbound: &mut Outbound<E>, lengths: [usize; 3]) {
    for len in lengths {
        outbound.plan_header(len);
    }
    let peer = outbound.peer.try_clone().unwrap();
    let stop = outbound.stop.clone();
    std::thread::scope(|scope| {
        let arrived = scope.spawn(move || {
            let sizes = lengths.map(|_| peer.recv(&mut [0; 1000]).unwrap_or(0));
            stop.raise();
            sizes
        });
        while !outbound.engine.stopped() {
            while outbound.io.take().unwrap().is_some() {}
            outbound.wait();
        }
        assert_eq!(arrived.join().unwrap(), lengths);
    });
}

fn what_is_planned_leaves_before_input_is_waited_for<E: Engine>() {
    let mut outbound = Outbound::<E>::new();
    leave_while_nothing_comes_in(&mut outbound, [100, 300, 200]);
}

fn a_refused_train_leaves_before_input_is_waited_for<E: Engine>() {
    let sockets = senders();
    udp::tests::disable_checksums(&sockets[0]);
    let (tun, queue) = tun_pair();
    let mut outbound = Outbound::<E>::over(queue, tun, sockets);
    // However long nothing was refused.
    for _ in 0..120 {
        outbound.feed(1, 100);
        let packet = outbound.next();
        outbound.plan(packet);
        outbound.io.flush().unwrap();
        assert_eq!(outbound.received().len(), 100);
    }
    leave_while_nothing_comes_in(&mut outbound, [300; 3]);
    assert_eq!(outbound.stats.get(Count::Downgrades), 1);
    assert_eq!(outbound.stats.drops(DropReason::SendFailed), 0);
}

fn replies_are_written_to_the_tun<E: Engine>() {
    let mut outbound = Outbound::<E>::new();
    outbound.io.reply(&[7; 56]).unwrap();
    let mut written = [0; 100];
    assert_eq!(outbound.tun.recv(&mut written).unwrap(), VNET_HDR_LEN + 56);
    assert_eq!(written[..VNET_HDR_LEN], [0; VNET_HDR_LEN]);
    assert_eq!(written[VNET_HDR_LEN..][..56], [7; 56]);
}

fn waits_end_with_input_and_with_the_stop_event<E: Engine>() {
    let mut outbound = Outbound::<E>::new();
    outbound.feed(1, 1);
    assert_eq!(outbound.next().len, 1);
    assert!(!outbound.engine.stopped());
    while outbound.io.take().unwrap().is_some() {}
    outbound.stop.raise();
    outbound.wait();
    assert!(outbound.engine.stopped());
}

fn the_stop_event_is_seen_without_a_wait<E: Engine>() {
    let outbound = Outbound::<E>::new();
    assert!(!outbound.engine.stopped());
    outbound.stop.raise();
    assert!(
        outbound.engine.stopped(),
        "by one whose input never runs dry"
    );
}

/// The way in of an engine, and both its ends.
struct Inbound<E: Engine> {
    io: E::Decap,
    engine: E,
    socket: Arc<Socket>,
    tun: UnixDatagram,
    to: SocketAddr,
    stats: Arc<WorkerStats>,
}

impl<E: Engine> Inbound<E> {
    fn new() -> Inbound<E> {
        let (tun, queue) = tun_pair();
        let free = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let to = free.local_addr().unwrap();
        drop(free);
        let gro = Capability::default();
        let receivers = udp::receivers(LOOPBACK, to.port(), 1, Some(&gro)).unwrap();
        let sockets = receivers.into_iter().map(Arc::new).collect();
        Inbound::over(sockets, (tun, queue), to)
    }

    /// From these sockets, which receive at `to`.
    fn over(
        sockets: Vec<Arc<Socket>>,
        (tun, queue): (UnixDatagram, Arc<TunQueue>),
        to: SocketAddr,
    ) -> Inbound<E> {
        let socket = sockets[0].clone();
        let mut engine = E::open(Arc::new(StopEvent::new().unwrap()), Duration::ZERO).unwrap();
        let stats = Arc::new(WorkerStats::default());
        let parts = DecapParts {
            sockets,
            queue,
            coalescer: Coalescer::new(16, Layout::Legacy, Limits::new(1450)).unwrap(),
            stats: stats.clone(),
        };
        let mut io = engine.decap(parts).unwrap();
        engine.begin(None, Some(&mut io)).unwrap();
        Inbound {
            io,
            engine,
            socket,
            tun,
            to,
            stats,
        }
    }

    fn wait(&mut self) {
        self.engine.wait(None, Some(&mut self.io)).unwrap();
    }

    /// The next datagram, and how often it was waited for.
    fn next(&mut self) -> (Received, usize) {
        let mut waits = 0;
        loop {
            if let Some(datagram) = self.io.take().unwrap() {
                return (datagram, waits);
            }
            self.wait();
            waits += 1;
        }
    }
}

fn datagrams_arrive_with_their_source_and_are_written<E: Engine>() {
    let mut inbound = Inbound::<E>::new();
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let mut frame = vec![0u8; 22];
    frame.extend([
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    sender.send_to(&frame, inbound.to).unwrap();

    let (datagram, _) = inbound.next();
    assert_eq!(datagram.source, Some(LOOPBACK));
    assert_eq!((datagram.len, datagram.truncated), (frame.len(), false));
    let (coalescer, buffers) = inbound.io.parts();
    let bytes = &buffers.bytes(datagram.buffer)[datagram.offset..][..frame.len()];
    assert_eq!(bytes, frame);
    let packet = Packet {
        buffer: datagram.buffer,
        room: 22,
        offset: (datagram.offset + 22) as u32,
        len: 28,
    };
    let pushed = coalescer.push(packet, &frame[22..], Trust::Unknown, None);
    pushed.unwrap();
    inbound.io.flush().unwrap();
    let mut written = vec![0; 100];
    let len = inbound.tun.recv(&mut written).unwrap();
    assert_eq!(written[VNET_HDR_LEN..len], frame[22..]);
    assert_eq!(inbound.stats.get(Count::TunWrites), 1);
}

fn a_batch_that_is_full_loses_nothing<E: Engine>() {
    let mut inbound = Inbound::<E>::new();
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    // So many that neither the bytes nor the buffers of one batch suffice.
    const DATAGRAMS: usize = 200;
    let len = DECAP_BATCH_BYTES / DATAGRAMS * 2;
    for i in 0..DATAGRAMS {
        sender.send_to(&vec![i as u8; len], inbound.to).unwrap();
    }
    let mut batch = 0;
    for i in 0..DATAGRAMS {
        let (datagram, waits) = inbound.next();
        batch = if waits == 0 { batch + 1 } else { 1 };
        assert!(batch < DATAGRAMS, "one batch took all");
        let bytes = inbound.io.parts().1.bytes(datagram.buffer);
        assert_eq!(bytes[datagram.offset], i as u8);
    }
}

/// One socket for each sender; all but the last flood. How many of theirs are taken before the first
/// of the last, which sends last.
fn taken_before_the_last<E: Engine>(senders: usize) -> usize {
    // So many that no batch has room for all of one sender.
    const FLOOD: u16 = 2_000;
    let sockets: Vec<Arc<Socket>> = (0..senders)
        .map(|_| Arc::new(UdpSocket::bind((LOOPBACK, 0)).unwrap().into()))
        .collect();
    let address = |socket: &Arc<Socket>| socket.local_addr().unwrap().as_socket().unwrap();
    let addresses: Vec<SocketAddr> = sockets.iter().map(address).collect();
    sockets.iter().for_each(|socket| {
        socket.set_recv_buffer_size(8 << 20).unwrap();
    });
    let mut inbound = Inbound::<E>::over(sockets, tun_pair(), addresses[0]);
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let (last, flooded) = addresses.split_last().unwrap();
    for to in flooded {
        for _ in 0..FLOOD {
            sender.send_to(&[0], to).unwrap();
        }
    }
    // The flood is in hand before the other begins.
    inbound.next();
    sender.send_to(&[1; 2], last).unwrap();
    let before = (1..).find(|_| inbound.next().0.len == 2).unwrap();
    // Nothing of the rest is lost by that.
    let received = flooded.len() * usize::from(FLOOD).min(100);
    (before..received).for_each(|_| assert_eq!(inbound.next().0.len, 1));
    before
}

fn a_sender_that_floods_keeps_no_other_waiting<E: Engine>() {
    let before = taken_before_the_last::<E>(2);
    assert!(before <= 2 * usize::from(DECAP_BUFFERS), "after {before}");
}

fn however_many_flood_each_has_its_turn<E: Engine>() {
    let senders = crate::sys::shares::SHARES;
    let before = taken_before_the_last::<E>(senders);
    let round = senders * usize::from(DECAP_BUFFERS);
    assert!(before <= 2 * round, "after {before}");
}
