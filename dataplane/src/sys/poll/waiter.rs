//! Sleeping until there is something to read.

use crate::sys::engine::{EngineError, failed};
use crate::sys::event::StopEvent;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STOP: Token = Token(0);
const INPUT: Token = Token(1);
/// The first of the inputs that are told apart.
const SHARES: usize = 2;

/// Events of one wait; what is left comes with the next.
const EVENTS: usize = 16;

/// Waits until one of its inputs has something to read, or the stop event is raised.
///
/// Readiness is edge-triggered: wait only after every input has said that it is empty.
pub(super) struct Waiter {
    poll: Poll,
    events: Events,
    spin: Duration,
    stop: Arc<StopEvent>,
}

impl Waiter {
    /// Wait for `stop`, and for inputs yet to be added. Before it sleeps, a wait looks again
    /// and again for as long as `spin`, but lets everybody else go first.
    pub(super) fn new(stop: Arc<StopEvent>, spin: Duration) -> Result<Waiter, EngineError> {
        let poll = Poll::new().map_err(failed("epoll"))?;
        let waiter = Waiter {
            poll,
            events: Events::with_capacity(EVENTS),
            spin,
            stop: stop.clone(),
        };
        waiter.register(stop.as_fd(), STOP)?;
        Ok(waiter)
    }

    /// Wait for this input, too.
    pub(super) fn add(&self, input: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.register(input, INPUT)
    }

    /// Wait for input number `share`, too, which [`Waiter::ready`] will name.
    pub(super) fn add_share(&self, input: BorrowedFd<'_>, share: usize) -> Result<(), EngineError> {
        self.register(input, Token(SHARES + share))
    }

    /// The numbers of the inputs that the last wait ended with.
    pub(super) fn ready(&self) -> impl Iterator<Item = usize> {
        let tokens = self.events.iter().map(|event| event.token().0);
        tokens.filter_map(|token| token.checked_sub(SHARES))
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
    pub(super) fn wait(&mut self) -> Result<(), EngineError> {
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

    /// See which inputs have something to read, without waiting for any.
    pub(super) fn glance(&mut self) -> Result<(), EngineError> {
        self.look(Some(Duration::ZERO)).map(drop)
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
    pub(super) fn stopped(&self) -> bool {
        self.stop.is_raised()
    }
}
