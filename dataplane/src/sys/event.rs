//! The signals that end workers, and that wake one.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An eventfd that is raised once and never read, and a flag beside it for those who never
/// wait because they always find something to do.
///
/// Closing a descriptor does not wake those who wait on it; a level-triggered eventfd
/// wakes them all, however many there are and whenever they look.
pub struct StopEvent {
    fd: OwnedFd,
    raised: AtomicBool,
}

impl StopEvent {
    /// A new event, not raised.
    pub fn new() -> io::Result<StopEvent> {
        Ok(StopEvent {
            fd: eventfd()?,
            raised: AtomicBool::new(false),
        })
    }

    /// Whether it is raised, without a system call.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Wait until it is raised, at most `limit`; whether it is.
    pub fn wait(&self, limit: Duration) -> bool {
        let [raised] = wait([&self.fd], limit);
        raised
    }

    /// Raise it, for good.
    pub fn raise(&self) {
        // First: who is woken by the descriptor finds the flag set.
        self.raised.store(true, Ordering::Release);
        raise(&self.fd);
    }
}

impl AsFd for StopEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An eventfd that wakes one thread, which lowers it.
pub struct WakeEvent {
    fd: OwnedFd,
    raised: AtomicBool,
}

impl WakeEvent {
    /// A new event, not raised.
    pub fn new() -> io::Result<WakeEvent> {
        Ok(WakeEvent {
            fd: eventfd()?,
            raised: AtomicBool::new(false),
        })
    }

    /// Raise it. A system call only for the first since the thread last woke.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            raise(&self.fd);
        }
    }

    /// Wait until it or `stop` is raised, at most `limit`, and lower it; whether `stop` is.
    ///
    /// Who raises it from now on wakes the next wait; what was written before it was raised is
    /// there to see.
    pub fn wait(&self, stop: &StopEvent, limit: Duration) -> bool {
        let [stopped, woken] = wait([&stop.fd, &self.fd], limit);
        if woken {
            let mut count = [0; 8];
            // SAFETY: `count` has 8 writable bytes. It is readable, and read by nobody else.
            unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
            self.raised.swap(false, Ordering::AcqRel);
        }
        stopped
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Which of the eventfds are raised, after at most `limit`.
fn wait<const N: usize>(fds: [&OwnedFd; N], limit: Duration) -> [bool; N] {
    let mut polls = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: N pollfds, which outlive the call. Interrupted counts as timed out.
    unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, millis) };
    polls.map(|poll| poll.revents & libc::POLLIN != 0)
}

fn raise(fd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes. The result is of no interest: the counter cannot
    // overflow in practice, and then it is readable anyway.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_event_wakes_once_for_many_and_again_for_the_next() {
        let (stop, wake) = (StopEvent::new().unwrap(), WakeEvent::new().unwrap());
        for _ in 0..2 {
            wake.raise();
            wake.raise();
            assert!(!wake.wait(&stop, Duration::MAX));
            assert_eq!(super::wait([&wake.fd], Duration::ZERO), [false]);
        }
        stop.raise();
        assert!(wake.wait(&stop, Duration::MAX));
        assert!(stop.wait(Duration::MAX));
    }
}
