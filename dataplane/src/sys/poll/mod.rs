//! The readiness engine: plain system calls where io_uring is not to be had.
//!
//! Every call is made when its turn comes and nothing is in the kernel between calls, so
//! buffers are taken in the order of their numbers and start anew with every batch: the few
//! that a batch needs stay in the cache.
#![allow(unsafe_code)]

pub mod decap;
pub mod encap;

use super::engine::{EngineError, INPUT_REST, failed, input_passes};
use super::event::StopEvent;
use crate::stats::{Count, WorkerStats};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STOP: Token = Token(0);
const INPUT: Token = Token(1);

/// Waits until one of its inputs has something to read, or the stop event is raised.
///
/// Readiness is edge-triggered: wait only after every input has said that it is empty.
pub struct Waiter {
    poll: Poll,
    events: Events,
    spin: Duration,
    stop: Arc<StopEvent>,
}

impl Waiter {
    /// Wait for `stop`, and for inputs yet to be added. Before it sleeps, a wait looks again
    /// and again for as long as `spin`, but lets everybody else go first.
    pub fn new(stop: Arc<StopEvent>, spin: Duration) -> Result<Waiter, EngineError> {
        let poll = Poll::new().map_err(failed("epoll"))?;
        let waiter = Waiter {
            poll,
            events: Events::with_capacity(8),
            spin,
            stop: stop.clone(),
        };
        waiter.register(stop.as_fd(), STOP)?;
        Ok(waiter)
    }

    /// Wait for this input, too.
    pub fn add(&self, input: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.register(input, INPUT)
    }

    fn register(&self, fd: BorrowedFd<'_>, token: Token) -> Result<(), EngineError> {
        let fd = fd.as_raw_fd();
        let registry = self.poll.registry();
        registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(failed("epoll_ctl"))
    }

    /// Block until there is something to do.
    ///
    /// Spinning stops once the time is over, however it was spent: a thread that had to let
    /// others run finds that it is, so a busy machine spins little.
    pub fn wait(&mut self) -> Result<(), EngineError> {
        if !self.spin.is_zero() {
            let start = Instant::now();
            while start.elapsed() < self.spin {
                if self.look(Some(Duration::ZERO))? {
                    return Ok(());
                }
                std::thread::yield_now();
            }
        }
        self.look(None).map(drop)
    }

    /// Wait for events, at most `limit`; whether there were any.
    fn look(&mut self, limit: Option<Duration>) -> Result<bool, EngineError> {
        match self.poll.poll(&mut self.events, limit) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(failed("epoll_wait")(error)),
        }
        Ok(!self.events.is_empty())
    }

    /// Whether the stop event has been raised, also where no wait could tell: inputs that never
    /// run dry leave none.
    pub fn stopped(&self) -> bool {
        self.stop.is_raised()
    }
}

/// What follows when `from` could not be read: nothing but a short rest if the next read may
/// fare better, else the end.
fn after_failed_input(
    from: &'static str,
    error: io::Error,
    stats: &WorkerStats,
) -> Result<(), EngineError> {
    let errno = error.raw_os_error().unwrap_or(0);
    if !input_passes(errno) {
        return Err(EngineError::Input { from, error });
    }
    if errno != libc::EINTR {
        stats.add(Count::InputFailures, 1);
        std::thread::sleep(INPUT_REST);
    }
    Ok(())
}

/// Let reads return at once when there is nothing to read.
fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), EngineError> {
    // SAFETY: F_GETFL and F_SETFL take and return plain numbers.
    let done = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
    };
    match done {
        true => Ok(()),
        false => Err(failed("O_NONBLOCK")(io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests;
