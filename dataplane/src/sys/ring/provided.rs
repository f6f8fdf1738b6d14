//! Buffers that multishot requests pick for themselves (`IORING_REGISTER_PBUF_RING`).

use crate::sys::buffers::{Buffers, Mapping};
use crate::sys::engine::{EngineError, failed};
use io_uring::{IoUring, types::BufRingEntry};
use std::sync::atomic::{AtomicU16, Ordering};

/// The buffer group; each ring has just one.
pub(super) const GROUP: u16 = 0;

/// How many buffers, and how they are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferLayout {
    /// Number of buffers, a power of two.
    pub(super) count: u16,
    /// Bytes at the start of each that the kernel leaves alone.
    pub(super) headroom: usize,
    /// Bytes behind them that it may fill.
    pub(super) size: usize,
    /// Bytes after which a batch takes no further one.
    pub(super) batch_bytes: usize,
}

/// Buffers and the ring of those that the kernel may fill next.
pub(super) struct Provided {
    pub(super) buffers: Buffers,
    headroom: usize,
    entries: Mapping,
    mask: u16,
    tail: u16,
}

impl Provided {
    /// Buffers as laid out, registered with `uring` and all on offer.
    pub(super) fn new(uring: &IoUring, layout: BufferLayout) -> Result<Provided, EngineError> {
        let BufferLayout {
            count,
            headroom,
            size,
            ..
        } = layout;
        debug_assert!(count.is_power_of_two());
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let entries =
            Mapping::new(bytes.next_multiple_of(4096)).map_err(failed("io_uring: buffer ring"))?;
        let buffers = Buffers::new(count, headroom + size).map_err(failed("buffers"))?;
        // SAFETY: `entries` holds `count` entries, is page-aligned, and lives until
        // the owner has unregistered it, or is leaked.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)
        }
        .map_err(EngineError::RingRefused)?;
        let mut provided = Provided {
            buffers,
            headroom,
            entries,
            mask: count - 1,
            tail: 0,
        };
        provided.offer(0..count);
        Ok(provided)
    }

    /// Give buffers back to the kernel.
    pub(super) fn offer(&mut self, ids: impl Iterator<Item = u16>) {
        let base: *mut BufRingEntry = self.entries.as_ptr().cast();
        for id in ids {
            self.buffers.give(id);
            let len = self.buffers.size() - self.headroom;
            let Some(start) = self.buffers.address(id, self.headroom, len) else {
                continue;
            };
            // SAFETY: the masked tail lies inside the entries. The kernel does not read an
            // entry before the tail is published below, and no other reference to it exists.
            let entry = unsafe { &mut *base.add(usize::from(self.tail & self.mask)) };
            entry.set_addr(start as u64);
            entry.set_len(len as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the tail shares the first entry's reserved field, is aligned, and this
        // thread is its only writer; the kernel reads it with acquire semantics.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
