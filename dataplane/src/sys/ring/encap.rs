//! From the TUN to the send sockets.

use super::provided::{GROUP, Layout};
use super::{FIRST_OUTPUT_FILE, INPUT_FILE, Ring};
use crate::offload::plan::{MAX_FRAMES, MAX_SEND_PIECES, Send, SendPlan, Way};
use crate::stats::{Drop as Reason, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EngineError, HEADROOM, MAX_PACKET, TunPacket,
};
use crate::sys::event::StopEvent;
use crate::sys::outgoing::{self, EMPTY_IOVEC, Envelope};
use crate::sys::path::PathProbe;
use crate::sys::tap::Tap;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use io_uring::{opcode, squeue, types};
use socket2::Socket;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Buffers on offer. More would fall out of the second-level cache before they are read.
const BUFFERS: u16 = 32;

/// Gather entries of one submission; longer plans are submitted in parts.
const IOVECS: usize = 2048;

const _: () = assert!(IOVECS >= MAX_SEND_PIECES);

/// Batches without a refused send after which sending and waiting become one system call.
/// Before, what is refused must be seen and sent again before anything is waited for.
const CLEAN_BATCHES: u32 = 100;

/// Arguments of one `sendmsg`, at a stable address while the kernel has them.
struct Message {
    header: libc::msghdr,
    envelope: Envelope,
}

/// The engine of one encap worker.
pub struct EncapRing {
    ring: Ring,
    plan: SendPlan,
    messages: Box<[Message]>,
    iovecs: Box<[libc::iovec]>,
    /// Sends of the plan that the kernel refused, with the errno.
    refused: Vec<(usize, i32)>,
    /// Batches since the kernel last refused a send.
    clean_batches: u32,
    paths: PathProbe,
    stats: Arc<WorkerStats>,
    // Registered with the ring; kept so that they close after it.
    sockets: Arc<[Socket]>,
    tap: Option<Arc<Tap>>,
    queue: Arc<TunQueue>,
}

impl EncapRing {
    /// Everything an encap worker needs, made in the worker's own thread.
    ///
    /// `plan` bounds what one batch may hold; `sockets` are the send pool, indexed by
    /// [`TrainKey::bucket`](crate::offload::plan::TrainKey) and shared by all workers; `tap`
    /// takes super-packets that leave whole; `paths` learns why sends are refused.
    pub fn new(
        queue: Arc<TunQueue>,
        sockets: Arc<[Socket]>,
        tap: Option<Arc<Tap>>,
        stop: &StopEvent,
        plan: SendPlan,
        paths: PathProbe,
        stats: Arc<WorkerStats>,
    ) -> Result<EncapRing, EngineError> {
        let mut files = vec![stop.as_fd().as_raw_fd(), queue.as_fd().as_raw_fd()];
        files.extend(sockets.iter().map(|socket| socket.as_raw_fd()));
        // Behind the sockets, see `prepare`.
        files.extend(tap.as_ref().map(|tap| tap.as_fd().as_raw_fd()));
        let layout = Layout {
            count: BUFFERS,
            headroom: HEADROOM - VNET_HDR_LEN,
            size: VNET_HDR_LEN + MAX_PACKET,
            batch_bytes: ENCAP_BATCH_BYTES,
        };
        // io-uring 0.7.15 loses the flag that says that the file is a registered one.
        let read = opcode::ReadMulti::new(INPUT_FILE, 0, GROUP)
            .offset(u64::MAX)
            .build()
            .flags(squeue::Flags::FIXED_FILE);
        // SAFETY: a multishot read on the input file and our group that points to no memory.
        let ring = unsafe { Ring::new(&files, read, "the TUN device", layout, stats.clone())? };
        let messages = plan.capacity().max(MAX_FRAMES);
        Ok(EncapRing {
            ring,
            messages: (0..messages)
                .map(|_| Message {
                    header: outgoing::empty_header(),
                    envelope: Envelope::new(),
                })
                .collect(),
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            refused: Vec::with_capacity(plan.capacity()),
            clean_batches: 0,
            paths,
            plan,
            stats,
            sockets,
            tap,
            queue,
        })
    }

    /// Whether the stop event has been raised.
    pub fn stopped(&self) -> bool {
        self.ring.stopped
    }

    /// End the batch: send what is planned, give its buffers back and wait until there are
    /// packets to take or the stop event is raised.
    pub fn next_batch(&mut self) -> Result<(), EngineError> {
        self.send_plan(true)?;
        self.ring.next_batch()
    }

    fn send_plan(&mut self, last: bool) -> Result<(), EngineError> {
        let count = self.plan.sends().len();
        let mut next = 0;
        while next < count {
            next = self.queue_from(next);
            let last = last && next == count && self.clean_batches >= CLEAN_BATCHES;
            let (plan, stats, refused) = (&self.plan, &self.stats, &mut self.refused);
            self.ring.settle(last, |index, result| {
                let index = index as usize;
                if result < 0 {
                    refused.push((index, -result));
                } else if let Some(send) = plan.sends().get(index) {
                    outgoing::count_left(stats, send);
                }
            })?;
        }
        self.clean_batches = match self.refused.is_empty() {
            true => self.clean_batches.saturating_add(1),
            false => 0,
        };
        // In order, as far as it is in our hands: what left in between has overtaken them.
        for next in 0..self.refused.len() {
            let (index, errno) = self.refused[next];
            self.resend(index, errno)?;
        }
        self.refused.clear();
        self.plan.clear();
        Ok(())
    }

    /// Queue sends from index `next` on as far as they fit; returns the first that did not.
    fn queue_from(&mut self, next: usize) -> usize {
        let mut used = 0;
        let end = self.plan.sends().len().min(next + self.ring.room());
        for index in next..end {
            let send = &self.plan.sends()[index];
            let pieces = send.pieces();
            let Some(iovecs) = self.iovecs.get_mut(used..used + pieces.len()) else {
                return index;
            };
            used += pieces.len();
            outgoing::gather(iovecs, pieces, self.plan.arena(), self.ring.outputs_from());
            let stride = (send.frames > 1).then_some(send.stride);
            let message = &mut self.messages[index];
            let entry = match send.way {
                Way::Socket => prepare(message, iovecs, send, stride, self.sockets.len()),
                Way::Tunnel => prepare_whole(send, self.ring.outputs_from(), self.sockets.len()),
            };
            // SAFETY: the message with its name and control, the iovecs, the arena and the
            // buffers belong to `self`, do not move, and are not touched before `settle` has
            // seen the completion; `Drop` waits for it as well.
            unsafe { self.ring.push_output(entry, index) };
        }
        end
    }

    /// Frames of a refused train go out one by one; a refused single frame is dropped.
    fn resend(&mut self, index: usize, errno: i32) -> Result<(), EngineError> {
        let send = &self.plan.sends()[index];
        if send.way == Way::Tunnel {
            outgoing::note_refused_whole(send, errno, self.tap.as_deref(), &self.stats);
            return Ok(());
        }
        let (plan, paths) = (&mut self.plan, &mut self.paths);
        if !outgoing::may_go_singly(plan, index, errno, &self.stats, paths) {
            return Ok(());
        }
        self.queue_frames(index);
        let stats = &self.stats;
        self.ring.settle(false, |_, result| {
            if result < 0 {
                stats.count_drop(Reason::SendFailed);
            } else {
                outgoing::count_sent(stats, 1);
            }
        })
    }

    /// Queue each frame of one train as a datagram of its own.
    fn queue_frames(&mut self, index: usize) {
        let send = &self.plan.sends()[index];
        let mut used = 0;
        // A train is at most MAX_FRAMES long, and so many messages exist and fit the queue.
        for (message, frame) in self.messages.iter_mut().zip(outgoing::frames(send)) {
            let iovecs = &mut self.iovecs[used..used + frame.len()];
            used += frame.len();
            outgoing::gather(iovecs, frame, self.plan.arena(), self.ring.outputs_from());
            let entry = prepare(message, iovecs, send, None, self.sockets.len());
            // SAFETY: as in `queue_from`.
            unsafe { self.ring.push_output(entry, index) };
        }
    }
}

impl EncapIo for EncapRing {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, self.ring.buffers())
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        Ok(self.ring.take().map(|(buffer, len)| TunPacket {
            buffer,
            len: len.saturating_sub(VNET_HDR_LEN),
        }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.send_plan(false)
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        self.queue.write(packet)
    }
}

impl Drop for EncapRing {
    fn drop(&mut self) {
        if self.ring.shut_down() {
            return;
        }
        // The kernel did not let go: leaking beats handing it memory that is used again.
        std::mem::forget(std::mem::take(&mut self.messages));
        std::mem::forget(std::mem::take(&mut self.iovecs));
        std::mem::forget(std::mem::replace(&mut self.plan, SendPlan::new(0, 0, 1)));
    }
}

/// Fill `message` for one datagram or train and make the request for it.
fn prepare(
    message: &mut Message,
    iovecs: &mut [libc::iovec],
    send: &Send,
    stride: Option<u16>,
    sockets: usize,
) -> squeue::Entry {
    let Message { header, envelope } = message;
    envelope.address(header, iovecs, send, stride);
    let socket = types::Fixed(FIRST_OUTPUT_FILE + u32::from(send.key.bucket) % sockets as u32);
    opcode::SendMsg::new(socket, &raw const *header).build()
}

/// The request for a super-packet that leaves whole through the TAP, which is registered
/// behind the `sockets` sockets.
fn prepare_whole(send: &Send, buffers: &Buffers, sockets: usize) -> squeue::Entry {
    let tap = types::Fixed(FIRST_OUTPUT_FILE + sockets as u32);
    let (start, len) = outgoing::whole(send, buffers).unwrap_or((std::ptr::null(), 0));
    // Offset -1: the current position, as for any file that has none.
    opcode::Write::new(tap, start, len).offset(u64::MAX).build()
}
