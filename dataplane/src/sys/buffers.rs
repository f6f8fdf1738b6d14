//! Numbered packet buffers that the kernel fills.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// Anonymous memory from mmap, unmapped on drop.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain memory owned by this value alone; nothing about it is bound to
// the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(len: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous private mapping overlaps nothing of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Huge pages first, then fault everything in, so that no worker does it later.
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
            // SAFETY: the advice concerns just the mapping made above; refusal does no harm.
            unsafe { libc::madvise(start, len, advice) };
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and owners of a Mapping drop it only once no
        // kernel request refers to it (see `ring`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Where a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The kernel may write to it at any moment.
    Kernel,
    /// It holds a packet and is ours.
    Filled,
}

/// Equal buffers in one mapping. Those the kernel owns cannot be looked at.
pub struct Buffers {
    memory: Mapping,
    size: usize,
    owners: Box<[Owner]>,
}

impl Buffers {
    /// `count` buffers of at least `size` bytes, all owned by the kernel.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Buffers> {
        // An odd number of cache lines: with a multiple of 4 KiB the headers of all buffers
        // would compete for the same few lines of the first-level cache.
        let size = size.next_multiple_of(64);
        let size = if (size / 64).is_multiple_of(2) {
            size + 64
        } else {
            size
        };
        Ok(Buffers {
            memory: Mapping::new(usize::from(count) * size)?,
            size,
            owners: vec![Owner::Kernel; usize::from(count)].into_boxed_slice(),
        })
    }

    /// `count` buffers of at least `size` bytes that no kernel will ever get, all filled with
    /// zeros: for an engine that replays packets.
    pub fn detached(count: u16, size: usize) -> io::Result<Buffers> {
        let mut buffers = Buffers::new(count, size)?;
        buffers.owners.fill(Owner::Filled);
        Ok(buffers)
    }

    /// Number of buffers.
    pub fn count(&self) -> u16 {
        self.owners.len() as u16
    }

    /// Bytes in each.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Address of `len` bytes from `offset` of buffer `id`; `None` if they do not lie inside.
    pub(super) fn address(&self, id: u16, offset: usize, len: usize) -> Option<*mut u8> {
        if id >= self.count() || offset.checked_add(len)? > self.size {
            return None;
        }
        // SAFETY: checked to lie inside the mapping.
        Some(unsafe {
            self.memory
                .as_ptr()
                .add(usize::from(id) * self.size + offset)
        })
    }

    /// Note that the kernel has filled `id`.
    pub(crate) fn take(&mut self, id: u16) {
        if let Some(owner) = self.owners.get_mut(usize::from(id)) {
            *owner = Owner::Filled;
        }
    }

    /// Note that `id` goes back to the kernel.
    pub(super) fn give(&mut self, id: u16) {
        if let Some(owner) = self.owners.get_mut(usize::from(id)) {
            *owner = Owner::Kernel;
        }
    }

    fn filled(&self, id: u16) -> Option<*mut u8> {
        match self.owners.get(usize::from(id))? {
            Owner::Filled => self.address(id, 0, self.size),
            Owner::Kernel => None,
        }
    }

    /// The bytes of a filled buffer; empty for one that is not ours.
    pub fn bytes(&self, id: u16) -> &[u8] {
        let Some(start) = self.filled(id) else {
            return &[];
        };
        // SAFETY: the buffer lies inside the mapping, was zeroed by mmap, and is ours: the
        // kernel writes only to buffers of its own, and `&self` bars `bytes_mut`.
        unsafe { std::slice::from_raw_parts(start, self.size) }
    }

    /// The bytes of a filled buffer for patching; empty for one that is not ours.
    pub fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        let Some(start) = self.filled(id) else {
            return &mut [];
        };
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(start, self.size) }
    }
}

impl crate::offload::coalesce::PacketBuffers for Buffers {
    fn bytes(&self, id: u16) -> &[u8] {
        Buffers::bytes(self, id)
    }

    fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        Buffers::bytes_mut(self, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filled_buffers_can_be_seen() {
        let mut buffers = Buffers::new(4, 100).unwrap();
        assert!(buffers.bytes(1).is_empty());
        assert!(buffers.bytes_mut(9).is_empty());
        buffers.take(1);
        buffers.bytes_mut(1)[0] = 7;
        assert_eq!(buffers.bytes(1)[0], 7);
        buffers.give(1);
        assert!(buffers.bytes_mut(1).is_empty());
    }

    #[test]
    fn buffers_do_not_overlap_or_alias_in_the_cache() {
        let mut buffers = Buffers::new(3, 4096).unwrap();
        assert_eq!(buffers.size(), 4096 + 64);
        for id in 0..3 {
            buffers.take(id);
            buffers.bytes_mut(id).fill(id as u8);
        }
        assert!((0..3).all(|id| buffers.bytes(id).iter().all(|&b| b == id as u8)));
    }
}
