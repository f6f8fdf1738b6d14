//! The way out as both engines have it: packets are read by an engine's own means, and what was
//! planned of them leaves by a [`Sender`].

use super::buffers::Buffers;
use super::engine::{EncapIo, EncapParts, EngineError, TunPacket, failed};
use super::sender::Sender;
use super::tun::{TunQueue, VNET_HDR_LEN};
use crate::offload::plan::SendPlan;
use std::io;
use std::sync::Arc;

/// How an engine reads packets.
pub trait Input {
    /// The buffers that packets are read into.
    fn buffers(&mut self) -> &mut Buffers;

    /// The next packet of this batch: its buffer, and the bytes read with the `virtio_net_hdr`.
    fn take(&mut self) -> Result<Option<(u16, usize)>, EngineError>;
}

/// The encap side of an engine that reads by `I`.
pub struct Encap<I> {
    // First: it goes before the queues that it reads are closed.
    pub(super) input: I,
    plan: SendPlan,
    sender: Sender,
    queues: Vec<Arc<TunQueue>>,
}

impl<I> Encap<I> {
    /// Over an input that reads the queues of `parts`.
    pub(super) fn new(input: I, parts: EncapParts) -> Encap<I> {
        Encap {
            input,
            plan: parts.plan,
            sender: parts.sender,
            queues: parts.queues,
        }
    }

    /// Let reads of all queues return at once when there is nothing to read, or wait.
    pub(super) fn set_nonblocking(&self, on: bool) -> Result<(), EngineError> {
        let mut queues = self.queues.iter();
        let set = queues.try_for_each(|queue| queue.set_nonblocking(on));
        set.map_err(failed("O_NONBLOCK"))
    }
}

impl<I: Input> EncapIo for Encap<I> {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, self.input.buffers())
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        let taken = self.input.take()?;
        Ok(taken.map(|(buffer, read)| TunPacket {
            buffer,
            len: read.saturating_sub(VNET_HDR_LEN),
        }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.sender.send(&mut self.plan, self.input.buffers());
        Ok(())
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        let queue = self.queues.first().ok_or(io::ErrorKind::NotFound)?;
        queue.write(packet)
    }
}
