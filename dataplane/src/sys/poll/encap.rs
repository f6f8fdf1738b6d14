//! From the TUN to the send sockets.

use super::Waiter;
use crate::stats::{Count, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::encap::{Encap, Input};
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EncapParts, EngineError, HEADROOM, MAX_PACKET, failed,
};
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Packets of one batch; one of super-packets ends earlier, by bytes.
const BUFFERS: u16 = 64;

/// Reads packets, each by a system call, until the TUN is empty or the batch is full.
pub struct TunReader {
    queue: Arc<TunQueue>,
    buffers: Buffers,
    /// Buffers filled in this batch: those of the lowest numbers.
    filled: u16,
    drained: bool,
    /// Bytes that this batch may still take.
    left: usize,
    stats: Arc<WorkerStats>,
}

impl TunReader {
    fn end_batch(&mut self) -> bool {
        for id in 0..self.filled {
            self.buffers.give(id);
        }
        self.stats.add(Count::Batches, u64::from(self.filled > 0));
        self.filled = 0;
        self.left = ENCAP_BATCH_BYTES;
        std::mem::take(&mut self.drained)
    }

    fn no_packet(&mut self, error: io::Error) -> Result<(), EngineError> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.drained = true;
            return Ok(());
        }
        super::after_failed_input("the TUN device", error, &self.stats)
    }
}

impl Input for TunReader {
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn take(&mut self) -> Result<Option<(u16, usize)>, EngineError> {
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
        let Ok(read) = usize::try_from(read) else {
            self.no_packet(io::Error::last_os_error())?;
            return Ok(None);
        };
        self.buffers.take(buffer);
        self.filled += 1;
        self.left = self.left.saturating_sub(read);
        Ok(Some((buffer, read)))
    }
}

impl Encap<TunReader> {
    /// Everything the way out needs. `waiter` will hear when there is something to take.
    pub(super) fn open(
        parts: EncapParts,
        waiter: &Waiter,
    ) -> Result<Encap<TunReader>, EngineError> {
        waiter.add(parts.queue.as_fd())?;
        let reader = TunReader {
            queue: parts.queue.clone(),
            buffers: Buffers::new(BUFFERS, HEADROOM + MAX_PACKET).map_err(failed("buffers"))?,
            filled: 0,
            drained: false,
            left: ENCAP_BATCH_BYTES,
            stats: parts.stats.clone(),
        };
        Ok(Encap::new(reader, parts))
    }

    /// Read from now on, as long as there is something to read.
    pub(super) fn begin(&mut self) -> Result<(), EngineError> {
        let set = self.queue().set_nonblocking(true);
        set.map_err(failed("O_NONBLOCK"))
    }

    /// End the batch: send what is planned and use the buffers anew. Tells whether the TUN
    /// was empty when it was last read.
    pub(super) fn end_batch(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        Ok(self.input.end_batch())
    }
}
