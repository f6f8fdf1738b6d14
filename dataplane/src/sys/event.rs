//! The signal that ends workers.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An eventfd that is raised once and never read.
///
/// Closing a descriptor does not wake those who wait on it; a level-triggered eventfd
/// wakes them all, however many there are and whenever they look.
pub struct StopEvent(OwnedFd);

impl StopEvent {
    /// A new event, not raised.
    pub fn new() -> io::Result<StopEvent> {
        // SAFETY: eventfd takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        Ok(StopEvent(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wait until it is raised, at most `limit`; whether it is.
    pub fn wait(&self, limit: Duration) -> bool {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd, which outlives the call. Interrupted counts as timed out.
        unsafe { libc::poll(&raw mut poll, 1, millis) == 1 }
    }

    /// Raise it, for good.
    pub fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is 8 readable bytes. The result is of no interest: the counter of an
        // eventfd that is only ever raised cannot overflow in practice, and then it is
        // readable anyway.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsFd for StopEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
