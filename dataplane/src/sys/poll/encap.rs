//! From the TUN to the send sockets.

use super::{Waiter, set_nonblocking};
use crate::offload::plan::SendPlan;
use crate::stats::{Count, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EngineError, HEADROOM, MAX_PACKET, TunPacket, failed,
};
use crate::sys::sender::Sender;
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Packets of one batch; one of super-packets ends earlier, by bytes.
const BUFFERS: u16 = 64;

/// The engine of the direction to the underlay.
pub struct EncapPoll {
    queue: Arc<TunQueue>,
    plan: SendPlan,
    sender: Sender,
    buffers: Buffers,
    /// Buffers filled in this batch: those of the lowest numbers.
    filled: u16,
    drained: bool,
    /// Bytes that this batch may still take.
    left: usize,
    stats: Arc<WorkerStats>,
}

impl EncapPoll {
    /// Everything one direction needs. `plan` bounds what one batch may hold, which leaves by
    /// `sender`. `waiter` will hear when there is something to take.
    pub fn new(
        queue: Arc<TunQueue>,
        sender: Sender,
        waiter: &Waiter,
        plan: SendPlan,
        stats: Arc<WorkerStats>,
    ) -> Result<EncapPoll, EngineError> {
        set_nonblocking(queue.as_fd())?;
        waiter.add(queue.as_fd())?;
        Ok(EncapPoll {
            queue,
            plan,
            sender,
            buffers: Buffers::new(BUFFERS, HEADROOM + MAX_PACKET).map_err(failed("buffers"))?,
            filled: 0,
            drained: false,
            left: ENCAP_BATCH_BYTES,
            stats,
        })
    }

    /// End the batch: send what is planned and use the buffers anew. Tells whether the TUN
    /// was empty when it was last read.
    pub fn end_batch(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        for id in 0..self.filled {
            self.buffers.give(id);
        }
        self.stats.add(Count::Batches, u64::from(self.filled > 0));
        self.filled = 0;
        self.left = ENCAP_BATCH_BYTES;
        Ok(std::mem::take(&mut self.drained))
    }
}

impl EncapIo for EncapPoll {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        let buffer = self.filled;
        let offset = HEADROOM - VNET_HDR_LEN;
        let len = VNET_HDR_LEN + MAX_PACKET;
        if self.drained || self.left == 0 {
            return Ok(None);
        }
        let Some(start) = self.buffers.address(buffer, offset, len) else {
            return Ok(None);
        };
        // SAFETY: `start` has `len` bytes in a buffer that is not lent out.
        let read = unsafe { libc::read(self.queue.as_fd().as_raw_fd(), start.cast(), len) };
        match usize::try_from(read) {
            Ok(read) => {
                self.buffers.take(buffer);
                self.filled += 1;
                self.left = self.left.saturating_sub(read);
                let len = read.saturating_sub(VNET_HDR_LEN);
                Ok(Some(TunPacket { buffer, len }))
            }
            Err(_) => self.no_packet(io::Error::last_os_error()),
        }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.sender.send(&mut self.plan, &self.buffers);
        Ok(())
    }

    fn reply(&mut self, packet: &[u8]) -> io::Result<()> {
        self.queue.write(packet)
    }
}

impl EncapPoll {
    fn no_packet(&mut self, error: io::Error) -> Result<Option<TunPacket>, EngineError> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.drained = true;
            return Ok(None);
        }
        super::after_failed_input("the TUN device", error, &self.stats)?;
        Ok(None)
    }
}
