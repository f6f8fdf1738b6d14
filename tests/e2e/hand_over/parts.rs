//! A flow of numbered datagrams, some of which leave as one packet.

use crate::numbered::{Batches, datagram};
use std::net::UdpSocket;
use std::ops::Range;
use std::time::Duration;
use weft_lab::{Pod, uninterrupted};

/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Parts {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Parts {
    /// One that has sent nothing yet.
    pub(super) fn between(from: &Pod, to: &Pod) -> Parts {
        let open = |pod: &Pod| {
            let socket = pod.ns.enter(|| UdpSocket::bind((pod.address, 0)));
            socket.unwrap().unwrap()
        };
        let (sender, receiver) = (open(from), open(to));
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        Parts { sender, receiver }
    }

    /// Send those with these numbers as one packet.
    pub(super) fn send_whole(&self, numbers: Range<u64>) {
        let batches = Batches::over(self.sender.try_clone().unwrap());
        batches.send(numbers).unwrap();
    }

    /// Send those with these numbers, each by itself.
    pub(super) fn send(&self, numbers: Range<u64>) {
        for number in numbers {
            self.sender.send(&datagram(number)).unwrap();
        }
    }

    /// The numbers of the next datagrams that come, so many of them or fewer.
    pub(super) fn receive(&self, count: usize) -> Vec<u64> {
        let next = || {
            let mut bytes = [0; 2048];
            uninterrupted(|| self.receiver.recv(&mut bytes)).ok()?;
            Some(u64::from_be_bytes(*bytes.first_chunk()?))
        };
        std::iter::from_fn(next).take(count).collect()
    }
}
