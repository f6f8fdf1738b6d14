//! From the receive socket to the TUN.

use super::provided::{GROUP, Layout};
use super::{EMPTY_IOVEC, FIRST_OUTPUT_FILE, INPUT_FILE, Ring, RingError};
use crate::offload::coalesce::{Coalescer, MAX_UDP_SEGMENTS, Write};
use crate::stats::{Count, Drop as Reason, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::{self, RECEIVE_SPACE, Received};
use crate::sys::event::StopEvent;
use crate::sys::tun::TunQueue;
use io_uring::types::RecvMsgOut;
use io_uring::{opcode, squeue, types};
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Longest payload of a UDP datagram or train.
const MAX_DATAGRAM: usize = 65_535;

/// `struct io_uring_recvmsg_out`, which the kernel puts in front of every message.
const RECVMSG_OUT: usize = 16;

/// Room for the source address, IPv4 or IPv6.
const NAME_SPACE: usize = size_of::<libc::sockaddr_in6>();

/// Offset of the payload in every buffer.
const PAYLOAD: usize = RECVMSG_OUT + NAME_SPACE + RECEIVE_SPACE;

/// Buffers on offer: the segments of two super-packets where nothing merges them. With 64 the
/// kernel often ran out of them there, which cost 5 to 10 % of one stream's speed.
const BUFFERS: u16 = 128;

/// Gather entries of one submission; more writes are submitted in parts.
const IOVECS: usize = 4096;

const _: () = assert!(IOVECS >= MAX_UDP_SEGMENTS as usize);

/// One datagram or train.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// The buffer that holds it.
    pub buffer: u16,
    /// Offset of its payload in the buffer.
    pub offset: usize,
    /// Length of its payload.
    pub len: usize,
    /// Outer source address; `None` when the kernel's record made no sense.
    pub source: Option<IpAddr>,
    /// What the control messages told.
    pub received: Received,
    /// The payload did not fit the buffer.
    pub truncated: bool,
}

/// The engine of one decap worker.
pub struct DecapRing {
    ring: Ring,
    coalescer: Coalescer,
    iovecs: Box<[libc::iovec]>,
    /// Template of the multishot receive; the kernel copied it, parsing needs its lengths.
    template: Box<libc::msghdr>,
    stats: Arc<WorkerStats>,
    // Registered with the ring; kept so that they close after it.
    _socket: Socket,
    _queue: Arc<TunQueue>,
}

impl DecapRing {
    /// Everything a decap worker needs, made in the worker's own thread.
    pub fn new(
        socket: Socket,
        queue: Arc<TunQueue>,
        stop: &StopEvent,
        coalescer: Coalescer,
        stats: Arc<WorkerStats>,
    ) -> Result<DecapRing, RingError> {
        let files = [
            stop.as_fd().as_raw_fd(),
            socket.as_raw_fd(),
            queue.as_fd().as_raw_fd(),
        ];
        // SAFETY: msghdr is plain old data for which all-zero bytes are valid.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME_SPACE as libc::socklen_t;
        template.msg_controllen = RECEIVE_SPACE as _;
        let layout = Layout {
            count: BUFFERS,
            headroom: 0,
            size: PAYLOAD + MAX_DATAGRAM,
        };
        let receive = opcode::RecvMsgMulti::new(INPUT_FILE, &raw const *template, GROUP).build();
        // SAFETY: a multishot receive on the input file and our group; the template is boxed,
        // never changed and outlives the ring, and the kernel copies it when it is armed.
        let ring = unsafe { Ring::new(&files, receive, "the UDP socket", layout, stats.clone())? };
        Ok(DecapRing {
            ring,
            coalescer,
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            template,
            stats,
            _socket: socket,
            _queue: queue,
        })
    }

    /// The coalescer of this batch and the buffers its packets lie in.
    pub fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.coalescer, self.ring.buffers())
    }

    /// The next datagram of this batch, if there is one.
    pub fn take(&mut self) -> Option<Datagram> {
        let (buffer, len) = self.ring.take()?;
        let bytes = self.ring.buffers().bytes(buffer);
        let bytes = &bytes[..len.min(bytes.len())];
        let mut datagram = Datagram {
            buffer,
            offset: PAYLOAD,
            len: 0,
            source: None,
            received: Received::default(),
            truncated: true,
        };
        if let Ok(message) = RecvMsgOut::parse(bytes, &self.template) {
            datagram.len = message.payload_data().len();
            datagram.source = source(message.name_data());
            datagram.received = cmsg::decode_receive(message.control_data());
            datagram.truncated = message.is_payload_truncated();
        }
        Some(datagram)
    }

    /// Whether the stop event has been raised.
    pub fn stopped(&self) -> bool {
        self.ring.stopped
    }

    /// Write what has been coalesced, in the middle of a batch.
    pub fn flush(&mut self) -> Result<(), RingError> {
        self.write_all(false)
    }

    /// End the batch: write what has been coalesced, give its buffers back and wait until
    /// there are datagrams to take or the stop event is raised.
    pub fn next_batch(&mut self) -> Result<(), RingError> {
        self.write_all(true)?;
        self.ring.next_batch()
    }

    fn write_all(&mut self, last: bool) -> Result<(), RingError> {
        self.coalescer.finish(self.ring.buffers());
        let count = self.coalescer.writes().len();
        let mut next = 0;
        while next < count {
            next = self.queue_from(next);
            let last = last && next == count;
            let (coalescer, stats) = (&self.coalescer, &self.stats);
            self.ring.settle(last, |index, result| {
                if let Some(write) = coalescer.writes().get(index as usize) {
                    note_written(stats, write, result);
                }
            })?;
        }
        self.coalescer.clear();
        Ok(())
    }

    /// Queue writes from index `next` on as far as they fit; returns the first that did not.
    fn queue_from(&mut self, next: usize) -> usize {
        let mut used = 0;
        let end = self.coalescer.writes().len().min(next + self.ring.room());
        for index in next..end {
            let pieces = self.coalescer.writes()[index].pieces();
            let Some(iovecs) = self.iovecs.get_mut(used..used + pieces.len()) else {
                return index;
            };
            used += pieces.len();
            self.ring.gather(iovecs, pieces, &[]);
            let entry = prepare(iovecs);
            // SAFETY: the iovecs and the buffers belong to `self`, do not move, and are not
            // touched before `settle` has seen the completion; `Drop` waits for it as well.
            unsafe { self.ring.push_output(entry, index) };
        }
        end
    }
}

impl Drop for DecapRing {
    fn drop(&mut self) {
        if !self.ring.shut_down() {
            // The kernel did not let go: leaking beats handing it memory that is used again.
            std::mem::forget(std::mem::take(&mut self.iovecs));
        }
    }
}

fn prepare(iovecs: &[libc::iovec]) -> squeue::Entry {
    let tun = types::Fixed(FIRST_OUTPUT_FILE);
    match iovecs {
        // Offset -1: the current position, as for any file that has none.
        [only] => opcode::Write::new(tun, only.iov_base.cast(), only.iov_len as u32)
            .offset(u64::MAX)
            .build(),
        _ => opcode::Writev::new(tun, iovecs.as_ptr(), iovecs.len() as u32)
            .offset(u64::MAX)
            .build(),
    }
}

fn note_written(stats: &WorkerStats, write: &Write, result: i32) {
    if result == write.bytes() as i32 {
        stats.add(Count::TunWrites, 1);
        stats.add(Count::TunWriteBytes, write.ip_len() as u64);
    } else {
        stats.count_drops(Reason::WriteFailed, write.segments() as u64);
    }
}

/// The address in a `sockaddr_in` or `sockaddr_in6`, whose first field is the family in
/// native byte order, and whose second is the port.
fn source(name: &[u8]) -> Option<IpAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *name.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockAddr;
    use std::net::SocketAddr;

    fn bytes(address: &str) -> Vec<u8> {
        let address = SockAddr::from(address.parse::<SocketAddr>().unwrap());
        // SAFETY: the address is `len` initialised bytes.
        unsafe {
            std::slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize).to_vec()
        }
    }

    #[test]
    fn source_addresses() {
        assert_eq!(source(&bytes("10.1.2.3:4")), Some([10, 1, 2, 3].into()));
        assert_eq!(source(&bytes("[fd00::1]:4")), "fd00::1".parse().ok());
        assert_eq!(source(&[]), None);
        assert_eq!(source(&bytes("10.1.2.3:4")[..6]), None);
        assert_eq!(source(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
