//! The readiness engine: plain system calls where io_uring is not to be had.
//!
//! Every call is made when its turn comes and nothing is in the kernel between calls, so
//! buffers are taken in the order of their numbers and start anew with every batch: the few
//! that a batch needs stay in the cache.
#![allow(unsafe_code)]

pub mod decap;
mod encap;
mod waiter;

pub use encap::TunReader;

use super::encap::Encap;
use super::engine::{DecapParts, EncapParts, Engine, EngineError, INPUT_REST, input_passes};
use super::event::StopEvent;
use crate::stats::{Count, WorkerStats};
use decap::DecapPoll;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use waiter::{Waited, Waiter, Way};

/// System calls for each packet or run of packets, and epoll between batches.
pub struct PollEngine {
    waiter: Waiter,
}

impl Engine for PollEngine {
    type Encap = Encap<TunReader>;
    type Decap = DecapPoll;

    const SPINS: bool = true;

    fn open(stop: Arc<StopEvent>, spin: Duration) -> Result<PollEngine, EngineError> {
        Ok(PollEngine {
            waiter: Waiter::new(stop, spin)?,
        })
    }

    fn encap(&self, parts: EncapParts) -> Result<Encap<TunReader>, EngineError> {
        Encap::<TunReader>::open(parts, &self.waiter)
    }

    fn decap(&self, parts: DecapParts) -> Result<DecapPoll, EngineError> {
        DecapPoll::open(parts, &self.waiter)
    }

    fn begin(
        &mut self,
        encap: Option<&mut Encap<TunReader>>,
        _: Option<&mut DecapPoll>,
    ) -> Result<(), EngineError> {
        // Sockets are told with every call.
        encap.map_or(Ok(()), |encap| encap.begin())
    }

    /// Only when all inputs are empty does the thread wait, so batches of two ways alternate. Those
    /// that were empty are looked at all the same, while others never are.
    fn wait(
        &mut self,
        mut encap: Option<&mut Encap<TunReader>>,
        mut decap: Option<&mut DecapPoll>,
    ) -> Result<(), EngineError> {
        let mut drained = true;
        if let Some(decap) = &mut decap {
            drained &= decap.end_batch()?;
        }
        if let Some(encap) = &mut encap {
            drained &= encap.end_batch()?;
        }
        match drained {
            true => self.waiter.wait()?,
            false => self.waiter.glance()?,
        }
        for Waited { way, share } in self.waiter.ready() {
            match way {
                Way::Out => encap
                    .iter_mut()
                    .for_each(|encap| encap.input.note_ready(share)),
                Way::In => decap.iter_mut().for_each(|decap| decap.note_ready(share)),
            }
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.waiter.stopped()
    }

    /// A batch takes all that was read for it, so that there never is anything left.
    fn drain(
        &mut self,
        encap: Option<&mut Encap<TunReader>>,
        decap: Option<&mut DecapPoll>,
    ) -> Result<bool, EngineError> {
        if let Some(decap) = decap {
            decap.end_batch()?;
        }
        if let Some(encap) = encap {
            encap.end_batch()?;
        }
        Ok(false)
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

#[cfg(test)]
mod tests;
