//! From the TUN to the send sockets.

use super::provided::{GROUP, Layout};
use super::{FIRST_OUTPUT_FILE, Ring};
use crate::offload::plan::{MAX_SEND_PIECES, Send, SendPlan, Way};
use crate::stats::WorkerStats;
use crate::sys::buffers::Buffers;
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EngineError, HEADROOM, MAX_PACKET, TunPacket,
};
use crate::sys::event::StopEvent;
use crate::sys::outgoing::{self, EMPTY_IOVEC, Envelope};
use crate::sys::refusals::Refusals;
use crate::sys::resend::Resender;
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
    resender: Resender,
    refusals: Refusals,
    stats: Arc<WorkerStats>,
    // In use by the ring; kept so that they close after it.
    sockets: Arc<[Socket]>,
    tap: Option<Arc<Tap>>,
    queue: Arc<TunQueue>,
}

impl EncapRing {
    /// Everything an encap worker needs, made in the worker's own thread.
    ///
    /// `plan` bounds what one batch may hold; `sockets` are the send pool, indexed by
    /// [`TrainKey::bucket`](crate::offload::plan::TrainKey) and shared by all workers; `tap`
    /// takes super-packets that leave whole; `refusals` hears of sends that are refused.
    pub fn new(
        queue: Arc<TunQueue>,
        sockets: Arc<[Socket]>,
        tap: Option<Arc<Tap>>,
        stop: &StopEvent,
        plan: SendPlan,
        refusals: Refusals,
    ) -> Result<EncapRing, EngineError> {
        let mut files = vec![stop.as_fd().as_raw_fd()];
        files.extend(sockets.iter().map(|socket| socket.as_raw_fd()));
        // Behind the sockets, see `prepare`.
        files.extend(tap.as_ref().map(|tap| tap.as_fd().as_raw_fd()));
        let layout = Layout {
            count: BUFFERS,
            headroom: HEADROOM - VNET_HDR_LEN,
            size: VNET_HDR_LEN + MAX_PACKET,
            batch_bytes: ENCAP_BATCH_BYTES,
        };
        let input = types::Fd(queue.as_fd().as_raw_fd());
        let read = opcode::ReadMulti::new(input, 0, GROUP)
            .offset(u64::MAX)
            .build();
        let stats = refusals.stats.clone();
        // SAFETY: a multishot read on the queue, which `Self` keeps open, and our group; it points
        // to no memory.
        let ring = unsafe { Ring::new(&files, read, "the TUN device", layout, stats.clone())? };
        let messages = plan.capacity();
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
            resender: Resender::new(),
            refusals,
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
        self.send_plan()?;
        self.ring.next_batch()
    }

    /// Send all that is planned, wave by wave. What the kernel refuses of a wave is dealt with
    /// before the next one leaves, so that nothing overtakes it that may be of its flow.
    fn send_plan(&mut self) -> Result<(), EngineError> {
        let count = self.plan.sends().len();
        let mut next = 0;
        while next < count {
            if self.refusals.goes_singly(&self.plan.sends()[next]) {
                self.send_frames(next);
                next += 1;
                continue;
            }
            next = self.queue_wave(next);
            let (plan, stats, refused) = (&self.plan, &self.stats, &mut self.refused);
            self.ring.settle(false, |index, result| {
                let index = index as usize;
                if result < 0 {
                    refused.push((index, -result));
                } else if let Some(send) = plan.sends().get(index) {
                    outgoing::count_left(stats, send);
                }
            })?;
            for at in 0..self.refused.len() {
                let (index, errno) = self.refused[at];
                self.resend(index, errno);
            }
            self.refused.clear();
        }
        self.plan.clear();
        Ok(())
    }

    /// Queue sends from index `next` on as far as they fit and none has to wait for another;
    /// returns the first that is not among them.
    fn queue_wave(&mut self, next: usize) -> usize {
        let mut used = 0;
        let end = self.plan.sends().len().min(next + self.ring.room());
        for index in next..end {
            let send = &self.plan.sends()[index];
            let pieces = send.pieces();
            let iovecs = self.iovecs.get_mut(used..used + pieces.len());
            let waits = send.after.is_some_and(|before| {
                // A whole super-packet that is refused is lost: nothing has to wait for it.
                let before = usize::from(before);
                before >= next && self.plan.sends()[before].way == Way::Socket
            });
            let now = !waits && !self.refusals.goes_singly(send);
            let Some(iovecs) = iovecs.filter(|_| now) else {
                return index;
            };
            used += pieces.len();
            outgoing::gather(iovecs, pieces, self.plan.arena(), self.ring.outputs_from());
            let message = &mut self.messages[index];
            let entry = match send.way {
                Way::Socket => prepare(message, iovecs, send, self.sockets.len()),
                Way::Tunnel => prepare_whole(send, self.ring.outputs_from(), self.sockets.len()),
            };
            // SAFETY: the message with its name and control, the iovecs, the arena and the
            // buffers belong to `self`, do not move, and are not touched before `settle` has
            // seen the completion; `Drop` waits for it as well.
            unsafe { self.ring.push_output(entry, index) };
        }
        end
    }

    /// Deal with a send that was refused.
    fn resend(&mut self, index: usize, errno: i32) {
        let send = &self.plan.sends()[index];
        if send.way == Way::Tunnel {
            outgoing::note_refused_whole(send, errno, self.tap.as_deref(), &self.stats);
            return;
        }
        let socket = &self.sockets[usize::from(send.key.bucket) % self.sockets.len()];
        let (plan, refusals) = (&mut self.plan, &mut self.refusals);
        let buffers = self.ring.outputs_from();
        self.resender
            .resend(plan, index, errno, socket, buffers, refusals);
    }

    /// Send each frame of a train as a datagram of its own.
    fn send_frames(&mut self, index: usize) {
        let bucket = self.plan.sends()[index].key.bucket;
        let socket = &self.sockets[usize::from(bucket) % self.sockets.len()];
        let (plan, refusals) = (&self.plan, &self.refusals);
        let buffers = self.ring.outputs_from();
        self.resender
            .send_frames(plan, index, socket, buffers, refusals);
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
        self.send_plan()
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
    sockets: usize,
) -> squeue::Entry {
    let Message { header, envelope } = message;
    let stride = (send.frames > 1).then_some(send.stride);
    envelope.address(header, iovecs, send, stride);
    let socket = types::Fixed(FIRST_OUTPUT_FILE + u32::from(send.key.bucket) % sockets as u32);
    // Without this flag, io_uring would keep what finds no room, and send it when there is some:
    // whatever came behind would wait for it, or overtake it.
    opcode::SendMsg::new(socket, &raw const *header)
        .flags(libc::MSG_DONTWAIT as u32)
        .build()
}

/// The request for a super-packet that leaves whole through the TAP, which is registered
/// behind the `sockets` sockets.
fn prepare_whole(send: &Send, buffers: &Buffers, sockets: usize) -> squeue::Entry {
    let tap = types::Fixed(FIRST_OUTPUT_FILE + sockets as u32);
    let (start, len) = outgoing::whole(send, buffers).unwrap_or((std::ptr::null(), 0));
    // Offset -1: the current position, as for any file that has none.
    opcode::Write::new(tap, start, len).offset(u64::MAX).build()
}
