//! From the TUN to the send sockets.

use super::Waiter;
use super::waiter::{Waited, Way};
use crate::stats::{Count, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::encap::{Encap, Input};
use crate::sys::engine::{
    ENCAP_BATCH_BYTES, EncapIo, EncapParts, EngineError, HEADROOM, MAX_PACKET, failed,
};
use crate::sys::shares::{Shares, Turn};
use crate::sys::tun::{TunQueue, VNET_HDR_LEN};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Packets of one batch; one of super-packets ends earlier, by bytes.
const BUFFERS: u16 = 64;

/// Packets read one after the other from a queue while others have some, too.
const TURN: u16 = 4;

/// Reads packets, each by a system call, until the TUN is empty or the batch is full.
pub struct TunReader {
    shares: Shares<Arc<TunQueue>>,
    /// The queue that is read, and how many more packets it may give.
    turn: Option<(usize, u16)>,
    buffers: Buffers,
    /// Buffers filled in this batch: those of the lowest numbers.
    filled: u16,
    /// A read failed otherwise than for lack of packets: the batch ends.
    broken_off: bool,
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
        self.broken_off = false;
        self.shares.are_empty()
    }

    /// There may be something to read from queue number `share`.
    pub(super) fn note_ready(&mut self, share: usize) {
        self.shares.set_ready(share, true);
    }

    /// The number of the queue whose turn it is; none if all are empty.
    fn share(&mut self) -> Option<usize> {
        if let Some((share, more @ 1..)) = self.turn {
            self.turn = Some((share, more - 1));
            return Some(share);
        }
        let Turn { share, alone } = self.shares.next_turn()?;
        self.turn = Some((share, if alone { BUFFERS } else { TURN } - 1));
        Some(share)
    }

    fn no_packet(&mut self, share: usize, error: io::Error) -> Result<(), EngineError> {
        self.turn = None;
        if error.kind() == io::ErrorKind::WouldBlock {
            self.shares.set_ready(share, false);
            return Ok(());
        }
        self.broken_off = true;
        super::after_failed_input("the TUN device", error, &self.stats)
    }

    /// Read one packet from queue number `share` into the buffer behind the filled ones: the buffer and
    /// the bytes read, if there is one.
    fn read(&mut self, share: usize) -> Result<Option<(u16, usize)>, EngineError> {
        let buffer = self.filled;
        let offset = HEADROOM - VNET_HDR_LEN;
        let len = VNET_HDR_LEN + MAX_PACKET;
        let Some(start) = self.buffers.address(buffer, offset, len) else {
            return Ok(None);
        };
        let fd = self.shares.queue(share).as_fd().as_raw_fd();
        // SAFETY: `start` has `len` bytes in a buffer that is not lent out.
        let read = unsafe { libc::read(fd, start.cast(), len) };
        let Ok(read) = usize::try_from(read) else {
            self.no_packet(share, io::Error::last_os_error())?;
            return Ok(None);
        };
        self.buffers.take(buffer);
        self.filled += 1;
        self.left = self.left.saturating_sub(read);
        Ok(Some((buffer, read)))
    }
}

impl Input for TunReader {
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn take(&mut self) -> Result<Option<(u16, usize)>, EngineError> {
        while !self.broken_off && self.left > 0 && self.filled < BUFFERS {
            let Some(share) = self.share() else {
                return Ok(None);
            };
            if let Some(packet) = self.read(share)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }
}

impl Encap<TunReader> {
    /// Everything the way out needs. `waiter` will hear when there is something to take.
    pub(super) fn open(
        parts: EncapParts,
        waiter: &Waiter,
    ) -> Result<Encap<TunReader>, EngineError> {
        for (share, queue) in parts.queues.iter().enumerate() {
            let way = Way::Out;
            waiter.add(queue.as_fd(), Waited { way, share })?;
        }
        let reader = TunReader {
            shares: Shares::new(parts.queues.iter().cloned()),
            turn: None,
            buffers: Buffers::new(BUFFERS, HEADROOM + MAX_PACKET).map_err(failed("buffers"))?,
            filled: 0,
            broken_off: false,
            left: ENCAP_BATCH_BYTES,
            stats: parts.stats.clone(),
        };
        Ok(Encap::new(reader, parts))
    }

    /// Read from now on, as long as there is something to read.
    pub(super) fn begin(&mut self) -> Result<(), EngineError> {
        self.set_nonblocking(true)
    }

    /// End the batch: send what is planned and use the buffers anew. Tells whether all queues
    /// were empty when they were last read.
    pub(super) fn end_batch(&mut self) -> Result<bool, EngineError> {
        self.flush()?;
        Ok(self.input.end_batch())
    }
}
