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

/// Events of one wait; what is left comes with the next.
const EVENTS: usize = 16;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the TUN to the underlay.
    Out,
    /// From the underlay to the TUN.
    In,
}

/// One of the queues that a way reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waited {
    pub(super) way: Way,
    pub(super) share: usize,
}

impl Waited {
    fn token(self) -> Token {
        Token(1 + 2 * self.share + usize::from(self.way == Way::In))
    }

    /// The input whose token this is; none for [`STOP`].
    fn of(token: Token) -> Option<Waited> {
        let number = token.0.checked_sub(1)?;
        let way = if number % 2 == 0 { Way::Out } else { Way::In };
        let share = number / 2;
        Some(Waited { way, share })
    }
}

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

    /// Wait for this one, too, which [`Waiter::ready`] will call `input`.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, input: Waited) -> Result<(), EngineError> {
        self.register(fd, input.token())
    }

    /// The inputs that the last wait ended with.
    pub(super) fn ready(&self) -> impl Iterator<Item = Waited> {
        let events = self.events.iter();
        events.filter_map(|event| Waited::of(event.token()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_inputs_apart() {
        assert_eq!(Waited::of(STOP), None);
        let mut seen = vec![STOP];
        for share in 0..8 {
            for way in [Way::Out, Way::In] {
                let input = Waited { way, share };
                assert_eq!(Waited::of(input.token()), Some(input));
                assert!(!seen.contains(&input.token()));
                seen.push(input.token());
            }
        }
    }
}
