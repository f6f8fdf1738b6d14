//! From the TUN to the send sockets.

use super::Ring;
use super::provided::{GROUP, Layout};
use crate::offload::plan::SendPlan;
use crate::stats::WorkerStats;
use crate::sys::buffers::Buffers;
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EngineError, HEADROOM, MAX_PACKET, TunPacket,
};
use crate::sys::event::StopEvent;
use crate::sys::sender::Sender;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Buffers on offer. More would fall out of the second-level cache before they are read.
const BUFFERS: u16 = 32;

/// The engine of one encap worker.
pub struct EncapRing {
    ring: Ring,
    plan: SendPlan,
    sender: Sender,
    // In use by the ring; kept so that it closes after it.
    queue: Arc<TunQueue>,
}

impl EncapRing {
    /// Everything an encap worker needs, made in the worker's own thread. `plan` bounds what
    /// one batch may hold, which leaves by `sender`.
    pub fn new(
        queue: Arc<TunQueue>,
        sender: Sender,
        stop: &StopEvent,
        plan: SendPlan,
        stats: Arc<WorkerStats>,
    ) -> Result<EncapRing, EngineError> {
        let files = [stop.as_fd().as_raw_fd()];
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
        // SAFETY: a multishot read on the queue, which `Self` keeps open, and our group; it points
        // to no memory.
        let ring = unsafe { Ring::new(&files, read, "the TUN device", layout, stats)? };
        Ok(EncapRing {
            ring,
            plan,
            sender,
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
        self.flush()?;
        self.ring.next_batch()
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
        self.sender.send(&mut self.plan, self.ring.buffers());
        Ok(())
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        self.queue.write(packet)
    }
}
