//! From the TUN to the send sockets.

use super::{Waiter, set_nonblocking};
use crate::offload::plan::{MAX_SEND_PIECES, SendPlan, Way};
use crate::stats::{Count, Drop as Reason, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EngineError, HEADROOM, MAX_PACKET, TunPacket, failed,
};
use crate::sys::outgoing::{self, EMPTY_IOVEC, Envelope};
use crate::sys::refusals::Refusals;
use crate::sys::resend::Resender;
use crate::sys::tap::Tap;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use socket2::Socket;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Packets of one batch; one of super-packets ends earlier, by bytes.
const BUFFERS: u16 = 64;

/// Gather entries of one system call.
const IOVECS: usize = 2048;

const _: () = assert!(IOVECS >= MAX_SEND_PIECES);

/// The engine of the direction to the underlay.
pub struct EncapPoll {
    queue: Arc<TunQueue>,
    sockets: Arc<[Socket]>,
    tap: Option<Arc<Tap>>,
    plan: SendPlan,
    buffers: Buffers,
    /// Buffers filled in this batch: those of the lowest numbers.
    filled: u16,
    drained: bool,
    /// Bytes that this batch may still take.
    left: usize,
    headers: Box<[libc::mmsghdr]>,
    envelopes: Box<[Envelope]>,
    iovecs: Box<[libc::iovec]>,
    resender: Resender,
    refusals: Refusals,
    stats: Arc<WorkerStats>,
}

impl EncapPoll {
    /// Everything one direction needs. `plan` bounds what one batch may hold; `sockets` are
    /// the send pool, indexed by [`TrainKey::bucket`](crate::offload::plan::TrainKey) and
    /// shared by all workers; `tap` takes super-packets that leave whole; `refusals`
    /// hears of sends that are refused. `waiter` will hear when there is something to take.
    pub fn new(
        queue: Arc<TunQueue>,
        sockets: Arc<[Socket]>,
        tap: Option<Arc<Tap>>,
        waiter: &Waiter,
        plan: SendPlan,
        refusals: Refusals,
    ) -> Result<EncapPoll, EngineError> {
        set_nonblocking(queue.as_fd())?;
        waiter.add(queue.as_fd())?;
        let messages = plan.capacity();
        let header = libc::mmsghdr {
            msg_hdr: outgoing::empty_header(),
            msg_len: 0,
        };
        Ok(EncapPoll {
            queue,
            sockets,
            tap,
            buffers: Buffers::new(BUFFERS, HEADROOM + MAX_PACKET).map_err(failed("buffers"))?,
            filled: 0,
            drained: false,
            left: ENCAP_BATCH_BYTES,
            headers: vec![header; messages].into_boxed_slice(),
            envelopes: (0..messages).map(|_| Envelope::new()).collect(),
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            plan,
            resender: Resender::new(),
            stats: refusals.stats.clone(),
            refusals,
        })
    }

    /// End the batch: send what is planned and use the buffers anew. Tells whether the TUN
    /// was empty when it was last read.
    pub fn end_batch(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        for id in 0..self.filled {
            self.buffers.give(id);
        }
        self.stats.add(Count::Batches, u64::from(self.filled > 0));
        self.filled = 0;
        self.left = ENCAP_BATCH_BYTES;
        Ok(std::mem::take(&mut self.drained))
    }

    /// Make messages of the sends from `next` on that share its socket, as far as they fit;
    /// returns the first that is not among them.
    fn queue_from(&mut self, next: usize) -> usize {
        let sends = self.plan.sends();
        let bucket = sends[next].key.bucket;
        let mut used = 0;
        for (index, send) in sends.iter().enumerate().skip(next) {
            let pieces = send.pieces();
            let iovecs = self.iovecs.get_mut(used..used + pieces.len());
            let alike = send.way == Way::Socket && send.key.bucket == bucket;
            let together = alike && !self.refusals.goes_singly(send);
            let Some(iovecs) = iovecs.filter(|_| together) else {
                return index;
            };
            used += pieces.len();
            outgoing::gather(iovecs, pieces, self.plan.arena(), &self.buffers);
            let stride = (send.frames > 1).then_some(send.stride);
            let header = &mut self.headers[index].msg_hdr;
            self.envelopes[index].address(header, iovecs, send, stride);
        }
        sends.len()
    }

    /// Send the messages of sends `range`, which share a socket, in one call as far as the
    /// kernel takes them: how many it took, or why it did not take the first.
    fn send(&mut self, range: std::ops::Range<usize>, bucket: u8) -> io::Result<usize> {
        let socket = &self.sockets[usize::from(bucket) % self.sockets.len()];
        let headers = &mut self.headers[range];
        // SAFETY: the headers were filled by `queue_from`, which comes right before; they point into envelopes, iovecs, arena and buffers of `self`, none of which
        // has been touched since, and the kernel only reads through them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Write super-packet `index` to the TAP.
    fn send_whole(&self, index: usize) {
        let send = &self.plan.sends()[index];
        let target = self
            .tap
            .as_deref()
            .zip(outgoing::whole(send, &self.buffers));
        let Some((tap, (start, len))) = target else {
            self.stats
                .count_drops(Reason::SendFailed, u64::from(send.frames));
            return;
        };
        let fd = tap.as_fd().as_raw_fd();
        // SAFETY: `len` bytes from `start` lie in a filled buffer of `self`.
        if unsafe { libc::write(fd, start.cast(), len as usize) } >= 0 {
            outgoing::count_left(&self.stats, send);
        } else {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            outgoing::note_refused_whole(send, errno, Some(tap), &self.stats);
        }
    }
}

impl EncapIo for EncapPoll {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        let buffer = self.filled;
        let offset = HEADROOM - VNET_HDR_LEN;
        let len = VNET_HDR_LEN + MAX_PACKET;
        if self.drained || self.left == 0 {
            return Ok(None);
        }
        let Some(start) = self.buffers.address(buffer, offset, len) else {
            return Ok(None);
        };
        // SAFETY: `start` has `len` bytes in a buffer that is not lent out.
        let read = unsafe { libc::read(self.queue.as_fd().as_raw_fd(), start.cast(), len) };
        match usize::try_from(read) {
            Ok(read) => {
                self.buffers.take(buffer);
                self.filled += 1;
                self.left = self.left.saturating_sub(read);
                let len = read.saturating_sub(VNET_HDR_LEN);
                Ok(Some(TunPacket { buffer, len }))
            }
            Err(_) => self.no_packet(io::Error::last_os_error()),
        }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let count = self.plan.sends().len();
        let mut next = 0;
        while next < count {
            let send = &self.plan.sends()[next];
            if send.way == Way::Tunnel {
                self.send_whole(next);
                next += 1;
                continue;
            }
            let bucket = send.key.bucket;
            let socket = usize::from(bucket) % self.sockets.len();
            if self.refusals.goes_singly(send) {
                let (plan, socket) = (&self.plan, &self.sockets[socket]);
                let (buffers, refusals) = (&self.buffers, &self.refusals);
                self.resender
                    .send_frames(plan, next, socket, buffers, refusals);
                next += 1;
                continue;
            }
            let end = self.queue_from(next);
            match self.send(next..end, bucket) {
                Ok(sent) => {
                    for send in &self.plan.sends()[next..next + sent] {
                        outgoing::count_left(&self.stats, send);
                    }
                    next += sent;
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    let (plan, socket) = (&mut self.plan, &self.sockets[socket]);
                    let (buffers, refusals) = (&self.buffers, &mut self.refusals);
                    self.resender
                        .resend(plan, next, errno, socket, buffers, refusals);
                    next += 1;
                }
            }
        }
        self.plan.clear();
        Ok(())
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        self.queue.write(packet)
    }
}

impl EncapPoll {
    fn no_packet(&mut self, error: io::Error) -> Result<Option<TunPacket>, EngineError> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.drained = true;
            return Ok(None);
        }
        super::after_failed_input("the TUN device", error, &self.stats)?;
        Ok(None)
    }
}
