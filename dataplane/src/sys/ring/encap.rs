//! From the TUN to the send sockets.

use super::Ring;
use super::provided::{BufferLayout, GROUP};
use crate::sys::buffers::Buffers;
use crate::sys::encap::{Encap, Input};
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EncapParts, EngineError, HEADROOM, MAX_PACKET,
};
use crate::sys::event::StopEvent;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use io_uring::{opcode, types};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Buffers on offer. More would fall out of the second-level cache before they are read.
const BUFFERS: u16 = 32;

impl Input for Ring {
    fn buffers(&mut self) -> &mut Buffers {
        Ring::buffers(self)
    }

    fn take(&mut self) -> Result<Option<(u16, usize)>, EngineError> {
        Ok(Ring::take(self))
    }
}

impl Encap<Ring> {
    /// Everything the way out needs, made in the worker's own thread.
    pub(super) fn open(parts: EncapParts, stop: &StopEvent) -> Result<Encap<Ring>, EngineError> {
        let layout = BufferLayout {
            count: BUFFERS,
            headroom: HEADROOM - VNET_HDR_LEN,
            size: VNET_HDR_LEN + MAX_PACKET,
            batch_bytes: ENCAP_BATCH_BYTES,
        };
        let read = |queue: &Arc<TunQueue>| {
            let input = types::Fd(queue.as_fd().as_raw_fd());
            let read = opcode::ReadMulti::new(input, 0, GROUP);
            read.offset(u64::MAX).build()
        };
        let reads = parts.queues.iter().map(read);
        let stats = parts.stats.clone();
        // SAFETY: multishot reads on the queues, which `Encap` keeps open, and our group; they
        // point to no memory.
        let ring = unsafe { Ring::new(stop, reads, "the TUN device", layout, stats)? };
        Ok(Encap::new(ring, parts))
    }

    /// Read from now on. The kernel answers requests on files that do not block with `-EAGAIN`
    /// at once, instead of waiting for them.
    pub(super) fn begin(&mut self) -> Result<(), EngineError> {
        self.set_nonblocking(false)?;
        self.input.begin();
        Ok(())
    }

    /// End the batch: send what is planned, and read no more. Whether there are packets to take.
    pub(super) fn drain(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        self.input.drain()
    }

    /// End the batch: send what is planned, give its buffers back and wait until there are
    /// packets to take or the stop event is raised.
    pub(super) fn next_batch(&mut self) -> Result<(), EngineError> {
        self.flush()?;
        self.input.next_batch()
    }
}
