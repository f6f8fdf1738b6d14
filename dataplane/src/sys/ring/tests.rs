//! What holds of the rings alone.

use super::*;
use crate::sys::engine::EncapIo;
use crate::sys::engine::HEADROOM;
use crate::sys::engine::tests::{LOOPBACK, Outbound};
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use crate::sys::udp;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::time::Instant;

#[test]
fn a_reader_without_free_buffers_is_armed_again() {
    // A UDP socket in place of the TUN, whose queue holds more than there are buffers.
    let input = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let address = input.local_addr().unwrap();
    let queue = Arc::new(TunQueue::from_fd(input.into()));
    let nowhere = UnixDatagram::unbound().unwrap();
    let senders = udp::senders((LOOPBACK, 0).into(), 1, false).unwrap();
    let mut outbound = Outbound::<RingEngine>::over(queue, nowhere, senders);
    let feeder = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    for round in 0..3u8 {
        for fill in 0..100 {
            let packet = [fill; VNET_HDR_LEN + 20];
            feeder.send_to(&packet, address).unwrap();
        }
        let mut taken = 0;
        while taken < 100 {
            outbound.wait();
            while let Some(packet) = outbound.io.take().unwrap() {
                let (_, buffers) = outbound.io.parts();
                let fill = buffers.bytes(packet.buffer)[HEADROOM];
                assert_eq!(fill, taken, "round {round}");
                taken += 1;
            }
        }
    }
    assert!(outbound.stats.get(Count::NoBuffers) > 0);
    assert!(outbound.stats.get(Count::Rearms) > 0);
    assert_eq!(outbound.stats.get(Count::CqOverflows), 0);
}

#[test]
fn buffers_in_the_kernel_are_let_go_at_the_end() {
    let mut outbound = Outbound::<RingEngine>::new();
    outbound.feed(1, 10);
    outbound.wait();
    assert!(outbound.io.take().unwrap().is_some());
    outbound.stop.raise();
    outbound.wait();
    // Some buffers are filled, some held, the rest with the kernel.
    outbound.feed(2, 10);
    let start = Instant::now();
    drop(outbound.io);
    assert!(start.elapsed() < Duration::from_millis(500));
}
