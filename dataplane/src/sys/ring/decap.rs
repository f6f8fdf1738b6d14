//! From the receive socket to the TUN.

use super::Ring;
use super::provided::{BufferLayout, GROUP};
use crate::offload::coalesce::{Coalescer, MAX_WRITE_PIECES};
use crate::stats::WorkerStats;
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::{self, RECEIVE_SPACE, RecvMeta};
use crate::sys::engine::{
    DECAP_BATCH_BYTES, DECAP_BUFFERS, DecapIo, DecapParts, EngineError, MAX_PACKET, Received,
};
use crate::sys::event::StopEvent;
use crate::sys::incoming::{NAME_SPACE, note_refusal, note_written, source};
use crate::sys::outgoing::{self, EMPTY_IOVEC};
use crate::sys::tun::TunQueue;
use io_uring::types::RecvMsgOut;
use io_uring::{opcode, squeue, types};
use socket2::Socket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// `struct io_uring_recvmsg_out`, which the kernel puts in front of every message.
const RECVMSG_OUT: usize = 16;

/// Offset of the payload in every buffer.
const PAYLOAD: usize = RECVMSG_OUT + NAME_SPACE + RECEIVE_SPACE;

/// Gather entries of one submission; more writes are submitted in parts.
const IOVECS: usize = 4096;

const _: () = assert!(IOVECS >= MAX_WRITE_PIECES);

/// The engine of one decap worker.
pub struct DecapRing {
    ring: Ring,
    coalescer: Coalescer,
    iovecs: Box<[libc::iovec]>,
    /// Template of the multishot receives; the kernel copied it, parsing needs its lengths.
    template: Box<libc::msghdr>,
    stats: Arc<WorkerStats>,
    /// What is written to.
    queue: Arc<TunQueue>,
    // In use by the ring; kept so that they close after it.
    _sockets: Vec<Arc<Socket>>,
}

impl DecapRing {
    /// Everything the way in needs, made in the worker's own thread.
    pub(super) fn open(parts: DecapParts, stop: &StopEvent) -> Result<DecapRing, EngineError> {
        let DecapParts {
            sockets,
            queue,
            coalescer,
            stats,
        } = parts;
        // SAFETY: msghdr is plain old data for which all-zero bytes are valid.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME_SPACE as libc::socklen_t;
        template.msg_controllen = RECEIVE_SPACE as _;
        let layout = BufferLayout {
            count: DECAP_BUFFERS,
            headroom: 0,
            size: PAYLOAD + MAX_PACKET,
            batch_bytes: DECAP_BATCH_BYTES,
        };
        let receive = |socket: &Arc<Socket>| {
            let input = types::Fd(socket.as_raw_fd());
            opcode::RecvMsgMulti::new(input, &raw const *template, GROUP).build()
        };
        let inputs = sockets.iter().map(receive);
        // SAFETY: multishot receives on the sockets, which `Self` keeps open, and our group; the template is boxed,
        // never changed and outlives the ring, and the kernel copies it when one is armed.
        let ring = unsafe { Ring::new(stop, inputs, "the UDP socket", layout, stats.clone())? };
        Ok(DecapRing {
            ring,
            coalescer,
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            template,
            stats,
            queue,
            _sockets: sockets,
        })
    }

    /// Receive from now on.
    pub(super) fn begin(&mut self) {
        self.ring.begin();
    }

    /// End the batch: write what has been coalesced, and receive no more. Whether there are
    /// datagrams to take.
    pub(super) fn drain(&mut self) -> Result<bool, EngineError> {
        self.write_all(false)?;
        self.ring.drain()
    }

    /// End the batch: write what has been coalesced, give its buffers back and wait until
    /// there are datagrams to take or the stop event is raised.
    pub(super) fn next_batch(&mut self) -> Result<(), EngineError> {
        self.write_all(true)?;
        self.ring.next_batch()
    }

    fn write_all(&mut self, last: bool) -> Result<(), EngineError> {
        self.coalescer.finish(self.ring.buffers());
        let count = self.coalescer.writes().len();
        let mut next = 0;
        let mut refused = None;
        while next < count {
            next = self.queue_from(next);
            let last = last && next == count;
            let (coalescer, stats) = (&self.coalescer, &self.stats);
            self.ring.settle(last, |index, result| {
                let index = index as usize;
                if let Some(write) = coalescer.writes().get(index)
                    && note_written(stats, write, result)
                {
                    refused = Some(index);
                }
            })?;
        }
        note_refusal(&mut self.coalescer, refused, &self.stats);
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
            let arena = self.coalescer.arena();
            outgoing::gather(iovecs, pieces, arena, self.ring.outputs_from());
            let entry = prepare(&self.queue, iovecs);
            // SAFETY: the iovecs, the arena and the buffers belong to `self`, do not move, and are not
            // touched before `settle` has seen the completion; `Drop` waits for it as well.
            unsafe { self.ring.push_output(entry, index) };
        }
        end
    }
}

impl DecapIo for DecapRing {
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.coalescer, self.ring.buffers())
    }

    fn take(&mut self) -> Result<Option<Received>, EngineError> {
        let Some((buffer, len)) = self.ring.take() else {
            return Ok(None);
        };
        let bytes = self.ring.buffers().bytes(buffer);
        let bytes = &bytes[..len.min(bytes.len())];
        let mut datagram = Received {
            buffer,
            offset: PAYLOAD,
            len: 0,
            source: None,
            meta: RecvMeta::default(),
            truncated: true,
        };
        if let Ok(message) = RecvMsgOut::parse(bytes, &self.template) {
            datagram.len = message.payload_data().len();
            datagram.source = source(message.name_data());
            datagram.meta = cmsg::decode_receive(message.control_data());
            datagram.truncated = message.is_payload_truncated();
        }
        Ok(Some(datagram))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.write_all(false)
    }
}

impl Drop for DecapRing {
    fn drop(&mut self) {
        if !self.ring.shut_down() {
            // The kernel did not let go: leaking beats handing it memory that is used again.
            std::mem::forget(std::mem::take(&mut self.iovecs));
            std::mem::forget(self.coalescer.take_arena());
        }
    }
}

fn prepare(queue: &TunQueue, iovecs: &[libc::iovec]) -> squeue::Entry {
    let tun = types::Fd(queue.as_fd().as_raw_fd());
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
