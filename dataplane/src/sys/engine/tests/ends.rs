//! What is read before an engine begins, and of what it has read when it is stopped: nothing, and all.

use super::*;
use std::ops::Range;

of_both_engines! {
    nothing_is_read_before_it_begins,
    a_stop_takes_all_that_was_read_and_leaves_the_rest,
    a_receiver_that_is_stopped_takes_all_that_it_received,
}

/// The first byte of each packet that is taken now.
fn taken<E: Engine>(outbound: &mut Outbound<E>) -> Vec<u8> {
    let mut fills = Vec::new();
    while let Some(packet) = outbound.io.take().unwrap() {
        fills.push(outbound.io.parts().1.bytes(packet.buffer)[HEADROOM]);
    }
    fills
}

/// A UDP socket in place of the TUN, with room for more packets than there are buffers.
struct DeepTun {
    queue: Arc<TunQueue>,
    /// A duplicate of the queue's descriptor, as another process might have it.
    duplicate: UdpSocket,
}

impl DeepTun {
    fn new() -> DeepTun {
        let input = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        DeepTun {
            duplicate: input.try_clone().unwrap(),
            queue: Arc::new(TunQueue::from_fd(input.into())),
        }
    }

    /// Packets with these as their bytes.
    fn feed(&self, fills: Range<u8>) {
        let to = self.duplicate.local_addr().unwrap();
        let feeder = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        for fill in fills {
            feeder.send_to(&[fill; VNET_HDR_LEN + 10], to).unwrap();
        }
    }

    /// The first byte of each packet that was not read.
    fn unread(&self) -> Vec<u8> {
        unread(&self.duplicate)
    }

    fn outbound<E: Engine>(&self) -> Outbound<E> {
        let nowhere = UnixDatagram::unbound().unwrap();
        Outbound::over(self.queue.clone(), nowhere, senders())
    }
}

/// The first byte of each datagram that `socket` has now.
fn unread(socket: &UdpSocket) -> Vec<u8> {
    socket.set_nonblocking(true).unwrap();
    let mut datagram = [0; 1_000];
    std::iter::from_fn(|| socket.recv(&mut datagram).ok().map(|_| datagram[0])).collect()
}

fn a_stop_takes_all_that_was_read_and_leaves_the_rest<E: Engine>() {
    let tun = DeepTun::new();
    let mut outbound = tun.outbound::<E>();
    tun.feed(0..80);
    outbound.wait();
    outbound.stop.raise();
    let mut fills = taken(&mut outbound);
    while outbound.engine.drain(Some(&mut outbound.io), None).unwrap() {
        fills.extend(taken(&mut outbound));
    }
    tun.feed(80..90);
    assert!(!outbound.engine.drain(Some(&mut outbound.io), None).unwrap());
    drop((outbound.io, outbound.engine));
    assert!(!fills.is_empty());
    fills.extend(tun.unread());
    assert_eq!(fills, (0..90).collect::<Vec<u8>>());
}

fn nothing_is_read_before_it_begins<E: Engine>() {
    let tun = DeepTun::new();
    let engine = E::open(Arc::new(StopEvent::new().unwrap()), Duration::ZERO).unwrap();
    let stats = Arc::new(WorkerStats::default());
    let parts = EncapParts {
        queues: vec![tun.queue.clone()],
        sender: Sender::new(senders().into(), None, refusals(&stats)),
        plan: SendPlan::new(64, 4096, 128),
        stats,
    };
    let io = engine.encap(parts).unwrap();
    tun.feed(0..10);
    drop((io, engine));
    assert_eq!(tun.unread(), (0..10).collect::<Vec<u8>>());
}

fn a_receiver_that_is_stopped_takes_all_that_it_received<E: Engine>() {
    let mut inbound = Inbound::<E>::new();
    let rest = UdpSocket::from(inbound.socket.try_clone().unwrap());
    let sender = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    // More than there are buffers.
    for i in 0..200 {
        sender.send_to(&[i; 100], inbound.to).unwrap();
    }
    inbound.wait();
    let mut taken = Vec::new();
    loop {
        while let Some(datagram) = inbound.io.take().unwrap() {
            let bytes = inbound.io.parts().1.bytes(datagram.buffer);
            taken.push(bytes[datagram.offset]);
        }
        if !inbound.engine.drain(None, Some(&mut inbound.io)).unwrap() {
            break;
        }
    }
    assert!(!taken.is_empty());
    taken.extend(unread(&rest));
    assert_eq!(taken, (0..200).collect::<Vec<u8>>());
}
