//! Planned sends as the kernel wants them.
#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::cmsg::{self, SEND_SPACE};
use crate::offload::plan::{Piece, Send, Source, Via};
use crate::stats::{Count, WorkerStats};
use socket2::SockAddr;

pub(super) const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// What the `msghdr` of one send points to, at a stable address while the kernel has it.
pub(super) struct Envelope {
    name: SockAddr,
    control: [u8; SEND_SPACE],
}

impl Envelope {
    pub(super) fn new() -> Envelope {
        Envelope {
            name: SockAddr::from(std::net::SocketAddr::from(([0, 0, 0, 0], 0))),
            control: [0; SEND_SPACE],
        }
    }

    /// Fill in `header` for one datagram, or a train of `stride`, of the bytes in `iovecs`.
    /// It then points to this envelope and to `iovecs`.
    pub(super) fn address(
        &mut self,
        header: &mut libc::msghdr,
        iovecs: &mut [libc::iovec],
        send: &Send,
        stride: Option<u16>,
    ) {
        self.name = SockAddr::from(send.to);
        let v6 = send.to.is_ipv6();
        let control_len = cmsg::encode_send(&mut self.control, stride, send.key.ecn, v6);
        header.msg_name = self.name.as_ptr().cast_mut().cast();
        header.msg_namelen = self.name.len();
        header.msg_iov = iovecs.as_mut_ptr();
        header.msg_iovlen = iovecs.len() as _;
        header.msg_control = match control_len {
            0 => std::ptr::null_mut(),
            _ => self.control.as_mut_ptr().cast(),
        };
        header.msg_controllen = control_len as _;
        header.msg_flags = 0;
    }
}

pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr is plain old data for which all-zero bytes are valid.
    unsafe { std::mem::zeroed() }
}

/// Fill `iovecs` with the addresses of `pieces`. One that leaves its memory, which only
/// a bug could make, becomes empty instead of reaching the kernel.
pub(super) fn gather(
    iovecs: &mut [libc::iovec],
    pieces: &[Piece],
    arena: &[u8],
    buffers: &Buffers,
) {
    for (iovec, piece) in iovecs.iter_mut().zip(pieces) {
        let (offset, len) = (piece.offset as usize, piece.len as usize);
        let start = match piece.source {
            Source::Arena => arena
                .get(offset..offset + len)
                .map(|s| s.as_ptr().cast_mut()),
            Source::Buffer(id) => buffers.address(id, offset, len),
        };
        debug_assert!(start.is_some(), "{piece:?}");
        *iovec = start.map_or(EMPTY_IOVEC, |start| libc::iovec {
            iov_base: start.cast(),
            iov_len: len,
        });
    }
}

/// The pieces of each frame of a train.
pub(super) fn frames(send: &Send) -> impl Iterator<Item = &[Piece]> {
    let mut pieces = send.pieces();
    std::iter::from_fn(move || {
        let mut len = 0;
        let mut count = 0;
        while len < u32::from(send.stride) && count < pieces.len() {
            len += pieces[count].len;
            count += 1;
        }
        let (frame, rest) = pieces.split_at(count);
        pieces = rest;
        (count > 0).then_some(frame)
    })
}

/// The packet of a send by tunnel GSO: its one piece.
pub(super) fn tap_packet<'a>(send: &Send, buffers: &'a Buffers) -> Option<&'a [u8]> {
    let [piece] = send.pieces() else {
        return None;
    };
    let Source::Buffer(id) = piece.source else {
        return None;
    };
    let (offset, len) = (piece.offset as usize, piece.len as usize);
    buffers.bytes(id).get(offset..offset + len)
}

/// Count `frames` frames that left in one send.
pub(super) fn count_sent(stats: &WorkerStats, frames: u16) {
    stats.add(Count::Sends, 1);
    stats.add(Count::FramesSent, u64::from(frames));
}

/// Count a planned send that left.
pub(super) fn count_left(stats: &WorkerStats, send: &Send) {
    count_sent(stats, send.frames);
    stats.add(Count::TunnelGsoSends, u64::from(send.via == Via::TunnelGso));
}
