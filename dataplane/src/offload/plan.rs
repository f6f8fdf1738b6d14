//! What one send or one write consists of.

use crate::wire::ecn::Ecn;
use std::net::SocketAddr;

/// Frames one UDP GSO send may carry (`UDP_MAX_SEGMENTS` since Linux 6.9; 64 before).
pub const MAX_FRAMES: usize = 128;

/// Payload bytes of one UDP datagram over IPv4, and so of one train: 65,535 - 20 - 8. Over
/// IPv6 20 more would fit, less than any frame.
pub const MAX_TRAIN_BYTES: usize = 65_507;

/// Every frame is at most a header piece and a payload piece.
const PIECES_PER_FRAME: usize = 2;

/// Pieces of one send.
pub const MAX_SEND_PIECES: usize = PIECES_PER_FRAME * MAX_FRAMES;

/// Memory a [`Piece`] lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The plan's header arena.
    Arena,
    /// The receive buffer of this number.
    Buffer(u16),
}

/// A run of bytes to gather: `len` bytes from `offset` in `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which memory.
    pub source: Source,
    /// First byte, from the start of that memory.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Piece {
    pub(super) const EMPTY: Piece = Piece {
        source: Source::Arena,
        offset: 0,
        len: 0,
    };
}

/// What frames must share to travel in one train.
///
/// Frames of one inner flow always share `peer` and `bucket`, so order within a flow is
/// order within these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainKey {
    /// Index of the peer in the routing table of this batch.
    pub peer: u32,
    /// Which socket of the send pool, and so which outer source port.
    pub bucket: u8,
    /// Outer ECN field.
    pub ecn: Ecn,
}

/// By what a send leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A send socket: a single frame or a train.
    Socket,
    /// The TAP of tunnel GSO: a super-packet in one piece, with all its headers and its
    /// `virtio_net_hdr` (see [`super::tunnel_gso`]).
    TunnelGso,
}

/// One `sendmsg` or one write to the TAP.
#[derive(Clone, Debug)]
pub struct Send {
    /// By what it leaves.
    pub via: Via,
    /// What the frames of this send share.
    pub key: TrainKey,
    /// Underlay destination.
    pub to: SocketAddr,
    /// Length of every frame but the last, in bytes.
    pub stride: u16,
    /// Number of frames.
    pub frames: u16,
    /// Total payload in bytes.
    pub bytes: u32,
    /// A shorter frame ended the train.
    sealed: bool,
    piece_count: u16,
    pieces: [Piece; MAX_SEND_PIECES],
}

impl Send {
    fn new() -> Send {
        Send {
            via: Via::Socket,
            key: TrainKey {
                peer: 0,
                bucket: 0,
                ecn: Ecn::NotEct,
            },
            to: SocketAddr::from(([0, 0, 0, 0], 0)),
            stride: 0,
            frames: 0,
            bytes: 0,
            sealed: false,
            piece_count: 0,
            pieces: [Piece::EMPTY; MAX_SEND_PIECES],
        }
    }

    /// The bytes to gather, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..usize::from(self.piece_count)]
    }

    fn start(&mut self, key: TrainKey, to: SocketAddr, stride: u16) {
        self.via = Via::Socket;
        self.key = key;
        self.to = to;
        self.stride = stride;
        self.frames = 0;
        self.bytes = 0;
        self.sealed = false;
        self.piece_count = 0;
    }

    #[inline]
    fn can_append(&self, ecn: Ecn, frame_len: usize, max_frames: u16) -> bool {
        // Each frame has two pieces at most, so that there is room for those of all.
        !self.sealed
            && self.key.ecn == ecn
            && frame_len <= usize::from(self.stride)
            && self.frames < max_frames
            && self.bytes as usize + frame_len <= MAX_TRAIN_BYTES
    }

    #[inline(always)]
    fn append<const N: usize>(&mut self, frame_len: usize, pieces: &[Piece; N]) {
        const { assert!(N <= PIECES_PER_FRAME) };
        let at = usize::from(self.piece_count);
        debug_assert!(at + N <= MAX_SEND_PIECES);
        if let Some(slots) = self
            .pieces
            .get_mut(at..)
            .and_then(|rest| rest.first_chunk_mut())
        {
            *slots = *pieces;
            self.piece_count += N as u16;
        }
        self.frames += 1;
        self.bytes += frame_len as u32;
        self.sealed = frame_len < usize::from(self.stride);
    }
}

/// The plan has no room left: send what it holds, clear it and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The sends of one batch, in order, and the headers they point to.
///
/// All memory is taken in [`SendPlan::new`]; nothing allocates afterwards.
pub struct SendPlan {
    arena: Box<[u8]>,
    arena_used: usize,
    sends: Box<[Send]>,
    send_count: usize,
    max_frames: u16,
}

impl SendPlan {
    /// A plan of at most `sends` sends and `arena` bytes of headers, each send at most
    /// `max_frames` frames (1 to [`MAX_FRAMES`]; 1 turns trains off).
    pub fn new(sends: usize, arena: usize, max_frames: u16) -> SendPlan {
        SendPlan {
            arena: vec![0; arena].into_boxed_slice(),
            arena_used: 0,
            sends: (0..sends).map(|_| Send::new()).collect(),
            send_count: 0,
            max_frames: max_frames.clamp(1, MAX_FRAMES as u16),
        }
    }

    /// Sends it can hold.
    pub fn capacity(&self) -> usize {
        self.sends.len()
    }

    /// Forget all sends and headers.
    pub fn clear(&mut self) {
        self.arena_used = 0;
        self.send_count = 0;
    }

    /// Lower the number of frames a send may carry, for kernels that refuse trains.
    pub fn limit_frames(&mut self, max_frames: u16) {
        self.max_frames = self.max_frames.min(max_frames).max(1);
    }

    /// Frames that a send may carry.
    pub fn max_frames(&self) -> u16 {
        self.max_frames
    }

    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.send_count == 0
    }

    /// Whether not even a frame without a header of its own fits.
    pub fn is_full(&self) -> bool {
        self.send_count >= self.sends.len()
    }

    /// Whether one more frame with a header of `header` bytes surely fits.
    pub fn has_room(&self, header: usize) -> bool {
        self.arena_used + header <= self.arena.len() && self.send_count < self.sends.len()
    }

    /// The planned sends, in the order in which they must leave.
    pub fn sends(&self) -> &[Send] {
        &self.sends[..self.send_count]
    }

    /// The header arena that [`Source::Arena`] pieces point into.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Take `len` bytes of arena for a header; `None` when it does not fit.
    pub fn header(&mut self, len: usize) -> Option<(Piece, &mut [u8])> {
        let offset = self.arena_used;
        let slot = self.arena.get_mut(offset..offset.checked_add(len)?)?;
        self.arena_used += len;
        let piece = Piece {
            source: Source::Arena,
            offset: offset as u32,
            len: len as u32,
        };
        Some((piece, slot))
    }

    /// Append one frame of `frame_len` bytes made of `pieces`, one or two.
    ///
    /// It joins the latest send of its peer and bucket if that may still grow, and opens a
    /// new one otherwise; an earlier one never grows, so a flow keeps its order.
    #[inline]
    pub fn push<const N: usize>(
        &mut self,
        key: TrainKey,
        to: SocketAddr,
        frame_len: usize,
        pieces: &[Piece; N],
    ) -> Result<(), Full> {
        let max_frames = self.max_frames;
        if let Some(send) = self.latest(key)
            && send.can_append(key.ecn, frame_len, max_frames)
        {
            send.append(frame_len, pieces);
            return Ok(());
        }
        self.open(key, to, frame_len, pieces)?;
        Ok(())
    }

    /// Append one frame that is too long for its path as a send of its own, which stays one:
    /// IP fragments single datagrams only.
    pub fn push_alone<const N: usize>(
        &mut self,
        key: TrainKey,
        to: SocketAddr,
        frame_len: usize,
        pieces: &[Piece; N],
    ) -> Result<(), Full> {
        self.open(key, to, frame_len, pieces)?.sealed = true;
        Ok(())
    }

    /// Append a super-packet of `frames` frames that leaves uncut through the TAP. Later
    /// frames of its flow do not overtake it.
    pub fn push_tunnel_gso(
        &mut self,
        key: TrainKey,
        to: SocketAddr,
        frames: u16,
        piece: Piece,
    ) -> Result<(), Full> {
        let send = self.open(key, to, piece.len as usize, &[piece])?;
        send.via = Via::TunnelGso;
        send.stride = 0;
        send.frames = frames;
        send.sealed = true;
        Ok(())
    }

    /// The latest send with the peer and bucket of `key`.
    #[inline]
    fn latest(&mut self, key: TrainKey) -> Option<&mut Send> {
        let sends = self.sends.get_mut(..self.send_count)?;
        let mut sends = sends.iter_mut().rev();
        sends.find(|send| send.key.peer == key.peer && send.key.bucket == key.bucket)
    }

    fn open<const N: usize>(
        &mut self,
        key: TrainKey,
        to: SocketAddr,
        frame_len: usize,
        pieces: &[Piece; N],
    ) -> Result<&mut Send, Full> {
        let send = self.sends.get_mut(self.send_count).ok_or(Full)?;
        send.start(key, to, frame_len as u16);
        send.append(frame_len, pieces);
        self.send_count += 1;
        Ok(send)
    }
}

#[cfg(test)]
mod tests;
