//! From the receive socket to the TUN.

use super::Waiter;
use super::waiter::{Waited, Way};
use crate::offload::coalesce::{Coalescer, MAX_WRITE_PIECES};
use crate::stats::{Count, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::{self, RECEIVE_SPACE};
use crate::sys::engine::{
    DECAP_BATCH_BYTES, DECAP_BUFFERS, DecapIo, DecapParts, EngineError, MAX_PACKET, Received,
    failed,
};
use crate::sys::incoming::{self, NAME_SPACE, note_refusal, note_written};
use crate::sys::outgoing::{self, EMPTY_IOVEC};
use crate::sys::shares::{Shares, Turn};
use crate::sys::tun::TunQueue;
use socket2::Socket;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Datagrams asked for in one call while they are long: so many stay in the second-level
/// cache until they have been written.
const FEW: u16 = 4;

/// Average length in bytes above which datagrams count as long.
const LONG: usize = 8 << 10;

/// Datagrams asked for in one call while several sockets have some: none is to wait long for the others.
const TURN: u16 = 32;

/// What the kernel writes beside the payload.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Envelope {
    name: [u8; NAME_SPACE],
    control: [u8; RECEIVE_SPACE],
}

/// The engine of the direction from the underlay.
pub struct DecapPoll {
    shares: Shares<Arc<Socket>>,
    queue: Arc<TunQueue>,
    coalescer: Coalescer,
    buffers: Buffers,
    /// Buffers filled in this batch: those of the lowest numbers.
    filled: u16,
    /// The first of them that has not been taken.
    next: u16,
    /// Datagrams to ask for in the next call.
    ask: u16,
    /// Bytes that this batch may still receive.
    left: usize,
    headers: Box<[libc::mmsghdr]>,
    envelopes: Box<[Envelope]>,
    iovecs: Box<[libc::iovec]>,
    stats: Arc<WorkerStats>,
}

impl DecapPoll {
    /// Everything the way in needs. `waiter` will hear when there is something to take.
    pub(super) fn open(parts: DecapParts, waiter: &Waiter) -> Result<DecapPoll, EngineError> {
        let DecapParts {
            sockets,
            queue,
            coalescer,
            stats,
        } = parts;
        for (share, socket) in sockets.iter().enumerate() {
            waiter.add(
                socket.as_fd(),
                Waited {
                    way: Way::In,
                    share,
                },
            )?;
        }
        let count = usize::from(DECAP_BUFFERS);
        let header = libc::mmsghdr {
            msg_hdr: outgoing::empty_header(),
            msg_len: 0,
        };
        let envelope = Envelope {
            name: [0; NAME_SPACE],
            control: [0; RECEIVE_SPACE],
        };
        Ok(DecapPoll {
            shares: Shares::new(sockets),
            queue,
            coalescer,
            buffers: Buffers::new(DECAP_BUFFERS, MAX_PACKET).map_err(failed("buffers"))?,
            filled: 0,
            next: 0,
            ask: FEW,
            left: DECAP_BATCH_BYTES,
            headers: vec![header; count].into_boxed_slice(),
            envelopes: vec![envelope; count].into_boxed_slice(),
            iovecs: vec![EMPTY_IOVEC; count.max(MAX_WRITE_PIECES)].into_boxed_slice(),
            stats,
        })
    }

    /// End the batch: write what has been coalesced and use the buffers anew. Tells whether
    /// all sockets were empty when they were last read and all that they gave has been taken.
    pub(super) fn end_batch(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        for id in 0..self.filled {
            self.buffers.give(id);
        }
        self.stats.add(Count::Batches, u64::from(self.filled > 0));
        debug_assert_eq!(self.next, self.filled, "datagrams would be lost");
        self.filled = 0;
        self.next = 0;
        self.left = DECAP_BATCH_BYTES;
        Ok(self.shares.are_empty())
    }

    /// There may be something to read from socket number `share`.
    pub(super) fn note_ready(&mut self, share: usize) {
        self.shares.set_ready(share, true);
    }

    /// The number of the socket whose turn it is, and how many datagrams it may give; none if all are
    /// empty or the batch is full.
    fn next_turn(&mut self) -> Option<(usize, u16)> {
        let room = DECAP_BUFFERS - self.filled;
        if room == 0 || self.left == 0 {
            return None;
        }
        let Turn { share, alone } = self.shares.next_turn()?;
        let most = if alone { DECAP_BUFFERS } else { TURN };
        Some((share, self.ask.min(room).min(most)))
    }

    /// Receive up to `count` datagrams from socket number `share` into the buffers behind the filled
    /// ones. Whether it is worth asking again in this batch.
    fn receive(&mut self, share: usize, count: u16) -> Result<bool, EngineError> {
        let range = usize::from(self.filled)..usize::from(self.filled + count);
        for index in range.clone() {
            let start = self.buffers.address(index as u16, 0, MAX_PACKET);
            let iovec = &mut self.iovecs[index];
            *iovec = start.map_or(EMPTY_IOVEC, |start| libc::iovec {
                iov_base: start.cast(),
                iov_len: MAX_PACKET,
            });
            let envelope = &mut self.envelopes[index];
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = envelope.name.as_mut_ptr().cast();
            header.msg_namelen = NAME_SPACE as libc::socklen_t;
            header.msg_iov = iovec;
            header.msg_iovlen = 1;
            header.msg_control = envelope.control.as_mut_ptr().cast();
            header.msg_controllen = RECEIVE_SPACE as _;
            header.msg_flags = 0;
        }
        let headers = &mut self.headers[range];
        // SAFETY: every header points to its own envelope, iovec and buffer, each with its true
        // length, all owned by `self`; the buffers are not lent out.
        let received = unsafe {
            libc::recvmmsg(
                self.shares.queue(share).as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        match u16::try_from(received) {
            Ok(received) => {
                self.shares.set_ready(share, received == count);
                self.note_received(received);
                Ok(true)
            }
            Err(_) => self.nothing_received(share, io::Error::last_os_error()),
        }
    }

    fn note_received(&mut self, received: u16) {
        let mut bytes = 0;
        for id in self.filled..self.filled + received {
            self.buffers.take(id);
            bytes += self.headers[usize::from(id)].msg_len as usize;
        }
        self.filled += received;
        self.left = self.left.saturating_sub(bytes);
        let long = bytes > LONG * usize::from(received);
        self.ask = if long { FEW } else { DECAP_BUFFERS };
    }

    fn nothing_received(&mut self, share: usize, error: io::Error) -> Result<bool, EngineError> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.shares.set_ready(share, false);
            return Ok(true);
        }
        super::after_failed_input("the UDP socket", error, &self.stats).map(|()| false)
    }

    fn datagram(&self, buffer: u16) -> Received {
        let index = usize::from(buffer);
        let (header, envelope) = (&self.headers[index], &self.envelopes[index]);
        let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME_SPACE);
        let control_len = header.msg_hdr.msg_controllen.min(RECEIVE_SPACE);
        Received {
            buffer,
            offset: 0,
            len: (header.msg_len as usize).min(MAX_PACKET),
            source: incoming::source(&envelope.name[..name_len]),
            meta: cmsg::decode_receive(&envelope.control[..control_len]),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }
}

impl DecapIo for DecapPoll {
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.coalescer, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<Received>, EngineError> {
        while self.next == self.filled {
            let Some((share, count)) = self.next_turn() else {
                return Ok(None);
            };
            if !self.receive(share, count)? {
                return Ok(None);
            }
        }
        self.next += 1;
        Ok(Some(self.datagram(self.next - 1)))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.coalescer.finish(&mut self.buffers);
        let fd = self.queue.as_fd().as_raw_fd();
        let mut refused = None;
        for (index, write) in self.coalescer.writes().iter().enumerate() {
            let pieces = write.pieces();
            let iovecs = &mut self.iovecs[..pieces.len()];
            outgoing::gather(iovecs, pieces, self.coalescer.arena(), &self.buffers);
            // SAFETY: the iovecs point into filled buffers and the arena of `self`, which the
            // kernel reads.
            let written = unsafe { libc::writev(fd, iovecs.as_ptr(), iovecs.len() as i32) };
            let result = match written {
                0.. => written as i32,
                _ => -io::Error::last_os_error().raw_os_error().unwrap_or(0),
            };
            if note_written(&self.stats, write, result) {
                refused = Some(index);
            }
        }
        note_refusal(&mut self.coalescer, refused, &self.stats);
        self.coalescer.clear();
        Ok(())
    }
}
