//! The way out that both engines share: planned sends leave one after the other, in order,
//! whatever the kernel refuses.
//!
//! Plain system calls, also beside io_uring: these never wait, so there is nothing to do
//! meanwhile, and a call for each run of sends by one socket costs next to nothing beside what
//! it carries. Requests of a ring would all be under way before the first refusal is known, and
//! whatever is sent again then comes late.
#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::outgoing::{self, EMPTY_IOVEC, Envelope};
use super::refusals::{Refusals, Verdict};
use super::tap::Tap;
use super::udp;
use crate::offload::plan::{MAX_FRAMES, MAX_SEND_PIECES, Piece, Send, SendPlan, Via};
use crate::offload::tunnel_gso::recut::Recut;
use socket2::Socket;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Gather entries of one system call.
const IOVECS: usize = 2048;

const _: () = assert!(IOVECS >= MAX_SEND_PIECES);

/// Bytes that may wait below a socket, in queues of devices, for trains to be sent by it. Peers
/// of one socket are reached by one device.
///
/// Queues count packets, and a train is one: a thousand of them would hold back everybody who
/// shares the queue for thirty times as long as a thousand frames do. So trains leave only
/// while devices keep up with them, and single frames otherwise, which fill a queue as those of
/// the kernel's VXLAN do. One batch is as long.
const TRAINS_WAITING: usize = 256 << 10;

/// Sends and bytes of headers of a super-packet that is cut after all, of which further ones take
/// their turn: one of 64 KB has two trains of 46 frames in all.
const RECUT_SENDS: usize = 4;
const RECUT_ARENA: usize = 8 << 10;

/// The system calls that packets leave by. Tests have others in their place, which refuse what
/// no kernel can be made to refuse at will.
pub trait Transmit {
    /// `sendmmsg`: how many of `messages` were taken, or why the first was not. Does not wait.
    ///
    /// # Safety
    /// The messages must point to memory that can be read, as their lengths have it.
    unsafe fn send(&mut self, socket: &Socket, messages: &mut [libc::mmsghdr])
    -> io::Result<usize>;

    /// Bytes that were sent by `socket` and have left no device yet.
    fn waiting(&mut self, socket: &Socket) -> usize;
}

/// The kernel's own.
pub struct Kernel;

impl Transmit for Kernel {
    unsafe fn send(
        &mut self,
        socket: &Socket,
        messages: &mut [libc::mmsghdr],
    ) -> io::Result<usize> {
        let count = messages.len() as u32;
        // SAFETY: the caller vouches for what the messages point to; the kernel only reads it.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn waiting(&mut self, socket: &Socket) -> usize {
        udp::waiting(socket)
    }
}

/// Sends what workers plan.
pub struct Sender<T = Kernel> {
    sockets: Arc<[Socket]>,
    tap: Option<Arc<Tap>>,
    /// Room for what becomes of a super-packet that the TAP refuses.
    trains: Option<SendPlan>,
    messages: Messages,
    refusals: Refusals,
    calls: T,
}

impl Sender {
    /// `sockets` are the send pool, indexed by
    /// [`TrainKey::bucket`](crate::offload::plan::TrainKey) and shared by all workers; `tap`
    /// takes those of tunnel GSO; `refusals` hears of sends that are refused.
    pub fn new(sockets: Arc<[Socket]>, tap: Option<Arc<Tap>>, refusals: Refusals) -> Sender {
        Sender::by(Kernel, sockets, tap, refusals)
    }
}

impl<T: Transmit> Sender<T> {
    /// The same by other system calls.
    fn by(
        calls: T,
        sockets: Arc<[Socket]>,
        tap: Option<Arc<Tap>>,
        refusals: Refusals,
    ) -> Sender<T> {
        let trains = || SendPlan::new(RECUT_SENDS, RECUT_ARENA, MAX_FRAMES as u16);
        Sender {
            sockets,
            trains: tap.as_ref().map(|_| trains()),
            tap,
            messages: Messages::new(),
            refusals,
            calls,
        }
    }

    /// Send all of `plan`, whose pieces lie in its arena and in `buffers`, and clear it. What
    /// cannot leave is counted.
    pub(super) fn send(&mut self, plan: &mut SendPlan, buffers: &Buffers) {
        let mut next = 0;
        while let Some(send) = plan.sends().get(next) {
            next = match send.via {
                Via::Socket => self.send_run(plan, next, buffers),
                Via::TunnelGso => {
                    self.send_tunnel_gso(plan, next, buffers);
                    next + 1
                }
            };
        }
        plan.clear();
        self.refusals.limit(plan);
    }

    /// Send those from index `next` on that share its socket, as far as the kernel takes them
    /// in one call; the index of the next to send.
    fn send_run(&mut self, plan: &SendPlan, next: usize, buffers: &Buffers) -> usize {
        let count = self.address_run(plan, next, buffers);
        if count == 0 {
            self.send_frames(plan, next, buffers);
            return next + 1;
        }
        let socket = socket(&self.sockets, &plan.sends()[next]);
        match self.messages.send(&mut self.calls, 0..count, socket) {
            Ok(sent) => {
                for send in &plan.sends()[next..next + sent] {
                    outgoing::count_left(&self.refusals.stats, send);
                }
                next + sent
            }
            Err(error) => {
                self.resend(plan, next, errno(&error), buffers);
                next + 1
            }
        }
    }

    /// Make messages of those from index `next` on that share its socket and can go as they are
    /// planned; how many there are.
    fn address_run(&mut self, plan: &SendPlan, next: usize, buffers: &Buffers) -> usize {
        let first = &plan.sends()[next];
        let mut room = None;
        self.messages.clear();
        for send in &plan.sends()[next..] {
            if send.via != Via::Socket || send.key.bucket != first.key.bucket {
                break;
            }
            if send.frames > 1 {
                let room = room.get_or_insert_with(|| {
                    let waiting = self.calls.waiting(socket(&self.sockets, first));
                    TRAINS_WAITING.saturating_sub(waiting)
                });
                if *room == 0 || self.refusals.goes_singly(send) {
                    break;
                }
                *room = room.saturating_sub(send.bytes as usize);
            }
            let stride = (send.frames > 1).then_some(send.stride);
            if !self
                .messages
                .add(send, send.pieces(), stride, plan, buffers)
            {
                break;
            }
        }
        self.messages.len
    }

    /// Deal with send `index` of `plan`, which the kernel refused with `errno`: when this
    /// returns, it has left or its loss is counted.
    fn resend(&mut self, plan: &SendPlan, index: usize, refusal: i32, buffers: &Buffers) {
        let (mut refusal, mut tries) = (refusal, 0);
        loop {
            let send = &plan.sends()[index];
            match self.refusals.verdict(send, refusal, tries) {
                Verdict::Dropped => return,
                Verdict::Singly => {
                    // If its frames cannot leave either, that it is a train was not the reason.
                    if self.send_frames(plan, index, buffers) > 0 {
                        self.refusals.note_train(send, refusal);
                    }
                    return;
                }
                Verdict::Again => tries += 1,
            }
            let stride = (send.frames > 1).then_some(send.stride);
            self.messages.clear();
            self.messages
                .add(send, send.pieces(), stride, plan, buffers);
            let socket = socket(&self.sockets, send);
            match self.messages.send(&mut self.calls, 0..1, socket) {
                Ok(_) => return outgoing::count_left(&self.refusals.stats, send),
                Err(error) => refusal = errno(&error),
            }
        }
    }

    /// Send each frame of a train as a datagram of its own; how many left.
    fn send_frames(&mut self, plan: &SendPlan, index: usize, buffers: &Buffers) -> usize {
        let send = &plan.sends()[index];
        debug_assert_eq!(send.via, Via::Socket);
        self.messages.clear();
        for frame in outgoing::frames(send) {
            // A train has no more frames and pieces than there is room for.
            self.messages.add(send, frame, None, plan, buffers);
        }
        let (count, socket) = (self.messages.len, socket(&self.sockets, send));
        let (mut next, mut tries, mut left) = (0, 0, 0);
        while next < count {
            match self.messages.send(&mut self.calls, next..count, socket) {
                Ok(sent) => {
                    (0..sent).for_each(|_| outgoing::count_sent(&self.refusals.stats, 1));
                    (next, tries, left) = (next + sent, 0, left + sent);
                }
                // What is full stays so for the rest: a call for each would tell nothing new.
                Err(error) if is_full(&error) => {
                    let rest = (count - next) as u16;
                    self.refusals.lost(send, rest, errno(&error));
                    break;
                }
                Err(error) => match self.refusals.verdict_of_frame(send, errno(&error), tries) {
                    Verdict::Again => tries += 1,
                    _ => (next, tries) = (next + 1, 0),
                },
            }
        }
        left
    }

    /// Write super-packet `index` of `plan` to the TAP. One that the TAP refuses leaves in frames,
    /// in its place.
    fn send_tunnel_gso(&mut self, plan: &SendPlan, index: usize, buffers: &Buffers) {
        let send = &plan.sends()[index];
        let target = self.tap.as_deref().zip(outgoing::tap_packet(send, buffers));
        let Some((tap, packet)) = target else {
            self.refusals.lost(send, send.frames, libc::EINVAL);
            return;
        };
        match tap.write(packet) {
            Ok(()) => outgoing::count_left(&self.refusals.stats, send),
            Err(_) => self.send_recut(send, packet, plan.max_frames(), buffers),
        }
    }

    /// Send a super-packet that the TAP refused in trains of at most `max_frames` frames.
    #[cold]
    fn send_recut(&mut self, send: &Send, packet: &[u8], max_frames: u16, buffers: &Buffers) {
        let recut = Recut::new(send, packet);
        // Taken for one that is cut only: it must come back.
        let room = recut.is_some().then(|| self.trains.take()).flatten();
        let Some((mut recut, mut trains)) = recut.zip(room) else {
            self.refusals.lost(send, send.frames, libc::EINVAL);
            return;
        };
        trains.limit_frames(max_frames);
        while !recut.plan(packet, &mut trains) {
            self.send(&mut trains, buffers);
        }
        self.send(&mut trains, buffers);
        self.trains = Some(trains);
    }
}

/// The socket of the pool by which a send leaves.
fn socket<'a>(sockets: &'a [Socket], send: &Send) -> &'a Socket {
    &sockets[usize::from(send.key.bucket) % sockets.len()]
}

/// Whether there was no room in the socket or in the queue of the device.
fn is_full(error: &io::Error) -> bool {
    matches!(errno(error), libc::EAGAIN | libc::ENOBUFS)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Arguments of one `sendmmsg`.
struct Messages {
    headers: Box<[libc::mmsghdr]>,
    envelopes: Box<[Envelope]>,
    iovecs: Box<[libc::iovec]>,
    len: usize,
    /// Gather entries in use.
    used: usize,
}

impl Messages {
    fn new() -> Messages {
        let header = libc::mmsghdr {
            msg_hdr: outgoing::empty_header(),
            msg_len: 0,
        };
        Messages {
            headers: vec![header; MAX_FRAMES].into_boxed_slice(),
            envelopes: (0..MAX_FRAMES).map(|_| Envelope::new()).collect(),
            iovecs: vec![EMPTY_IOVEC; IOVECS].into_boxed_slice(),
            len: 0,
            used: 0,
        }
    }

    fn clear(&mut self) {
        (self.len, self.used) = (0, 0);
    }

    /// Add one datagram, or train of `stride`, of `pieces` of a send; `false` if it does not
    /// fit.
    fn add(
        &mut self,
        send: &Send,
        pieces: &[Piece],
        stride: Option<u16>,
        plan: &SendPlan,
        buffers: &Buffers,
    ) -> bool {
        let iovecs = self.iovecs.get_mut(self.used..self.used + pieces.len());
        let (Some(iovecs), Some(header)) = (iovecs, self.headers.get_mut(self.len)) else {
            return false;
        };
        outgoing::gather(iovecs, pieces, plan.arena(), buffers);
        self.envelopes[self.len].address(&mut header.msg_hdr, iovecs, send, stride);
        self.used += pieces.len();
        self.len += 1;
        true
    }

    /// Send these messages in one call as far as the kernel takes them: how many it took, or
    /// why it did not take the first.
    fn send(
        &mut self,
        calls: &mut impl Transmit,
        range: Range<usize>,
        socket: &Socket,
    ) -> io::Result<usize> {
        // SAFETY: `add` has filled the headers; they point into envelopes and iovecs of `self`
        // and on into an arena and buffers that the caller has borrowed since.
        unsafe { calls.send(socket, &mut self.headers[range]) }
    }
}

#[cfg(test)]
mod tests;
