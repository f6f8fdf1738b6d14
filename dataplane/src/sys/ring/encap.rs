//! From the TUN to the send sockets.

use super::provided::{GROUP, Layout};
use super::{EMPTY_IOVEC, FIRST_OUTPUT_FILE, INPUT_FILE, Ring, RingError};
use crate::offload::plan::{MAX_FRAMES, MAX_SEND_PIECES, Send, SendPlan};
use crate::stats::{Count, Drop as Reason, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::{self, SEND_SPACE};
use crate::sys::event::StopEvent;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use io_uring::{opcode, squeue, types};
use socket2::{SockAddr, Socket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Free bytes in front of the IP packet of every buffer. The `virtio_net_hdr` lies at their
/// end; a frame's 22 bytes of VXLAN and Ethernet may overwrite it and what is before it.
pub const HEADROOM: usize = 64;

/// Longest packet a TUN hands out.
const MAX_PACKET: usize = 65_535;

/// Buffers on offer. More would fall out of the second-level cache before they are read.
const BUFFERS: u16 = 32;

/// Gather entries of one submission; longer plans are submitted in parts.
const IOVECS: usize = 2048;

const _: () = assert!(IOVECS >= MAX_SEND_PIECES);

/// Batches without a refused send after which sending and waiting become one system call.
/// Before, what is refused must be seen and sent again before anything is waited for.
const CLEAN_BATCHES: u32 = 100;

/// One packet read from the TUN.
#[derive(Clone, Copy, Debug)]
pub struct TunPacket {
    /// The buffer that holds it: `virtio_net_hdr` right before offset [`HEADROOM`], IP packet
    /// from there on.
    pub buffer: u16,
    /// Length of the IP packet in bytes; 0 when the read was too short for a header.
    pub len: usize,
}

/// Arguments of one `sendmsg`, at a stable address while the kernel has them.
struct Message {
    header: libc::msghdr,
    name: SockAddr,
    control: [u8; SEND_SPACE],
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
    stats: Arc<WorkerStats>,
    // Registered with the ring; kept so that sockets close after it.
    sockets: Arc<[Socket]>,
    _queue: Arc<TunQueue>,
}

impl EncapRing {
    /// Everything an encap worker needs, made in the worker's own thread.
    ///
    /// `plan` bounds what one batch may hold; `sockets` are the send pool, indexed by
    /// [`TrainKey::bucket`](crate::offload::plan::TrainKey) and shared by all workers.
    pub fn new(
        queue: Arc<TunQueue>,
        sockets: Arc<[Socket]>,
        stop: &StopEvent,
        plan: SendPlan,
        stats: Arc<WorkerStats>,
    ) -> Result<EncapRing, RingError> {
        let mut files = vec![stop.as_fd().as_raw_fd(), queue.as_fd().as_raw_fd()];
        files.extend(sockets.iter().map(|socket| socket.as_raw_fd()));
        let layout = Layout {
            count: BUFFERS,
            headroom: HEADROOM - VNET_HDR_LEN,
            size: VNET_HDR_LEN + MAX_PACKET,
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
            messages: (0..messages).map(|_| empty_message()).collect(),
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            refused: Vec::with_capacity(plan.capacity()),
            clean_batches: 0,
            plan,
            stats,
            sockets,
            _queue: queue,
        })
    }

    /// The plan of this batch and the buffers its pieces may point to.
    pub fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, self.ring.buffers())
    }

    /// The next packet of this batch, if there is one.
    pub fn take(&mut self) -> Option<TunPacket> {
        let (buffer, len) = self.ring.take()?;
        let len = len.saturating_sub(VNET_HDR_LEN);
        Some(TunPacket { buffer, len })
    }

    /// Whether the stop event has been raised.
    pub fn stopped(&self) -> bool {
        self.ring.stopped
    }

    /// Send what is planned, in the middle of a batch.
    pub fn flush(&mut self) -> Result<(), RingError> {
        self.send_plan(false)
    }

    /// End the batch: send what is planned, give its buffers back and wait until there are
    /// packets to take or the stop event is raised.
    pub fn next_batch(&mut self) -> Result<(), RingError> {
        self.send_plan(true)?;
        self.ring.next_batch()
    }

    fn send_plan(&mut self, last: bool) -> Result<(), RingError> {
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
                    stats.add(Count::Sends, 1);
                    stats.add(Count::FramesSent, u64::from(send.frames));
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
            self.ring.gather(iovecs, pieces, self.plan.arena());
            let stride = (send.frames > 1).then_some(send.stride);
            let message = &mut self.messages[index];
            let entry = prepare(message, iovecs, send, stride, self.sockets.len());
            // SAFETY: the message with its name and control, the iovecs, the arena and the
            // buffers belong to `self`, do not move, and are not touched before `settle` has
            // seen the completion; `Drop` waits for it as well.
            unsafe { self.ring.push_output(entry, index) };
        }
        end
    }

    /// Frames of a refused train go out one by one; a refused single frame is dropped.
    fn resend(&mut self, index: usize, errno: i32) -> Result<(), RingError> {
        let frames = self.plan.sends()[index].frames;
        // EIO: no checksum offload for GSO on the way; EINVAL: the kernel knows no GSO, or 64
        // segments at most (before Linux 6.9); EMSGSIZE: a frame exceeds the path's MTU and must be fragmented,
        // which only single datagrams can be.
        if frames == 1 || !matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE) {
            self.stats
                .count_drops(Reason::SendFailed, u64::from(frames));
            return Ok(());
        }
        if errno == libc::EMSGSIZE {
            let to = self.plan.sends()[index].to.ip();
            self.plan.send_singly(to);
        } else {
            self.stats.add(Count::Downgrades, 1);
            let too_long = errno == libc::EINVAL && frames > 64;
            self.plan.limit_frames(if too_long { 64 } else { 1 });
        }
        self.queue_frames(index);
        let stats = &self.stats;
        self.ring.settle(false, |_, result| {
            if result < 0 {
                stats.count_drop(Reason::SendFailed);
            } else {
                stats.add(Count::Sends, 1);
                stats.add(Count::FramesSent, 1);
            }
        })
    }

    /// Queue each frame of one train as a datagram of its own.
    fn queue_frames(&mut self, index: usize) {
        let send = &self.plan.sends()[index];
        let mut pieces = send.pieces();
        let mut used = 0;
        // A train is at most MAX_FRAMES long, and so many messages exist and fit the queue.
        for message in self.messages.iter_mut().take(usize::from(send.frames)) {
            let mut len = 0;
            let mut count = 0;
            while len < u32::from(send.stride) && count < pieces.len() {
                len += pieces[count].len;
                count += 1;
            }
            let (frame, rest) = pieces.split_at(count);
            pieces = rest;
            let iovecs = &mut self.iovecs[used..used + count];
            used += count;
            self.ring.gather(iovecs, frame, self.plan.arena());
            let entry = prepare(message, iovecs, send, None, self.sockets.len());
            // SAFETY: as in `queue_from`.
            unsafe { self.ring.push_output(entry, index) };
        }
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

fn empty_message() -> Message {
    Message {
        // SAFETY: msghdr is plain old data for which all-zero bytes are valid.
        header: unsafe { std::mem::zeroed() },
        name: SockAddr::from(std::net::SocketAddr::from(([0, 0, 0, 0], 0))),
        control: [0; SEND_SPACE],
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
    message.name = SockAddr::from(send.to);
    let control_len = cmsg::encode_send(
        &mut message.control,
        stride,
        send.key.ecn,
        send.to.is_ipv6(),
    );
    message.header.msg_name = message.name.as_ptr().cast_mut().cast();
    message.header.msg_namelen = message.name.len();
    message.header.msg_iov = iovecs.as_mut_ptr();
    message.header.msg_iovlen = iovecs.len() as _;
    message.header.msg_control = match control_len {
        0 => std::ptr::null_mut(),
        _ => message.control.as_mut_ptr().cast(),
    };
    message.header.msg_controllen = control_len as _;
    let socket = types::Fixed(FIRST_OUTPUT_FILE + u32::from(send.key.bucket) % sockets as u32);
    opcode::SendMsg::new(socket, &raw const message.header).build()
}
