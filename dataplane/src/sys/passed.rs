//! Descriptors that whoever started this process has left open for it, as sd_listen_fds(3) has it.
#![allow(unsafe_code)]

use super::adopt::close_on_exec;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of the first.
const FIRST: RawFd = 3;

/// They have been taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Take so many, in the order of their numbers; nothing the second time.
///
/// Must be called before this process opens anything: what is open then was passed to it.
pub fn take(count: usize) -> Vec<OwnedFd> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let numbers = (FIRST..RawFd::MAX).take(count);
    // SAFETY: F_GETFD takes a plain number, and tells whether it is that of an open descriptor.
    let open = numbers.take_while(|&number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0);
    // SAFETY: the descriptor is open, and nothing in this process has it: it was open before anything
    // here ran, by the promise above, and it is taken once.
    let taken = open.map(|number| unsafe { OwnedFd::from_raw_fd(number) });
    let taken: Vec<OwnedFd> = taken.collect();
    for descriptor in &taken {
        // At worst a program of the firewall has it, too, for as long as it runs.
        let _ = close_on_exec(descriptor.as_fd());
    }
    taken
}
