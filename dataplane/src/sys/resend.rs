//! Sends that are made in their turn, one system call after the other: those that the kernel
//! refused as they were planned. Both engines come here, so that the order of a flow holds
//! whatever is refused.
#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::outgoing::{self, EMPTY_IOVEC, Envelope};
use super::refusals::{Refusals, Verdict};
use crate::offload::plan::{MAX_FRAMES, MAX_SEND_PIECES, Send, SendPlan};
use socket2::Socket;
use std::io;
use std::os::fd::AsRawFd;

/// Arguments of `sendmmsg` for the frames of one train.
pub(super) struct Resender {
    headers: Box<[libc::mmsghdr]>,
    envelopes: Box<[Envelope]>,
    iovecs: Box<[libc::iovec]>,
}

impl Resender {
    pub(super) fn new() -> Resender {
        let header = libc::mmsghdr {
            msg_hdr: outgoing::empty_header(),
            msg_len: 0,
        };
        Resender {
            headers: vec![header; MAX_FRAMES].into_boxed_slice(),
            envelopes: (0..MAX_FRAMES).map(|_| Envelope::new()).collect(),
            iovecs: vec![EMPTY_IOVEC; MAX_SEND_PIECES].into_boxed_slice(),
        }
    }

    /// Deal with send `index` of `plan`, which the kernel refused with `errno`: when this
    /// returns, it has left or its loss is counted.
    pub(super) fn resend(
        &mut self,
        plan: &mut SendPlan,
        index: usize,
        errno: i32,
        socket: &Socket,
        buffers: &Buffers,
        refusals: &mut Refusals,
    ) {
        let (mut errno, mut tries) = (errno, 0);
        loop {
            match refusals.judge(plan, index, errno, tries) {
                Verdict::Dropped => return,
                Verdict::Singly => return self.send_frames(plan, index, socket, buffers, refusals),
                Verdict::Again => tries += 1,
            }
            let send = &plan.sends()[index];
            match self.send_whole(send, plan.arena(), socket, buffers) {
                Ok(()) => return outgoing::count_left(&refusals.stats, send),
                Err(error) => errno = error.raw_os_error().unwrap_or(0),
            }
        }
    }

    /// Send each frame of train `index` as a datagram of its own.
    pub(super) fn send_frames(
        &mut self,
        plan: &SendPlan,
        index: usize,
        socket: &Socket,
        buffers: &Buffers,
        refusals: &Refusals,
    ) {
        let send = &plan.sends()[index];
        let count = self.address_frames(send, plan.arena(), buffers);
        let (mut next, mut tries) = (0, 0);
        while next < count {
            match self.send(next..count, socket) {
                Ok(sent) => {
                    (0..sent).for_each(|_| outgoing::count_sent(&refusals.stats, 1));
                    (next, tries) = (next + sent, 0);
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    if refusals.passes(errno, tries) {
                        tries += 1;
                        continue;
                    }
                    refusals.lost(send, 1, errno);
                    (next, tries) = (next + 1, 0);
                }
            }
        }
    }

    /// Send a train or a frame as it was planned.
    fn send_whole(
        &mut self,
        send: &Send,
        arena: &[u8],
        socket: &Socket,
        buffers: &Buffers,
    ) -> io::Result<()> {
        let pieces = send.pieces();
        let iovecs = &mut self.iovecs[..pieces.len()];
        outgoing::gather(iovecs, pieces, arena, buffers);
        let stride = (send.frames > 1).then_some(send.stride);
        let header = &mut self.headers[0].msg_hdr;
        self.envelopes[0].address(header, iovecs, send, stride);
        self.send(0..1, socket).map(drop)
    }

    /// Make a message of each frame of a train; how many there are.
    fn address_frames(&mut self, send: &Send, arena: &[u8], buffers: &Buffers) -> usize {
        let mut used = 0;
        let messages = self.headers.iter_mut().zip(&mut self.envelopes);
        let mut count = 0;
        // A train has MAX_FRAMES frames and MAX_SEND_PIECES pieces at most.
        for (frame, (header, envelope)) in outgoing::frames(send).zip(messages) {
            let iovecs = &mut self.iovecs[used..used + frame.len()];
            used += frame.len();
            outgoing::gather(iovecs, frame, arena, buffers);
            envelope.address(&mut header.msg_hdr, iovecs, send, None);
            count += 1;
        }
        count
    }

    /// Send these messages in one call as far as the kernel takes them: how many it took, or
    /// why it did not take the first.
    fn send(&mut self, range: std::ops::Range<usize>, socket: &Socket) -> io::Result<usize> {
        let headers = &mut self.headers[range];
        // SAFETY: the headers were filled right before, by `send_whole` or `address_frames`;
        // they point into envelopes, iovecs, arena and buffers that have not been touched
        // since, and the kernel only reads through them.
        let sent = unsafe {
            let count = headers.len() as u32;
            let flags = libc::MSG_DONTWAIT;
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
