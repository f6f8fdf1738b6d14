//! The rings as an engine.

use super::Ring;
use super::decap::DecapRing;
use crate::sys::encap::Encap;
use crate::sys::engine::{DecapParts, EncapParts, Engine, EngineError};
use crate::sys::event::StopEvent;
use std::sync::Arc;
use std::time::Duration;

/// io_uring, with a ring for each way.
pub struct RingEngine {
    stop: Arc<StopEvent>,
}

impl Engine for RingEngine {
    type Encap = Encap<Ring>;
    type Decap = DecapRing;

    const SPINS: bool = false;

    fn open(stop: Arc<StopEvent>, _spin: Duration) -> Result<RingEngine, EngineError> {
        Ok(RingEngine { stop })
    }

    fn encap(&self, parts: EncapParts) -> Result<Encap<Ring>, EngineError> {
        Encap::<Ring>::open(parts, &self.stop)
    }

    fn decap(&self, parts: DecapParts) -> Result<DecapRing, EngineError> {
        DecapRing::open(parts, &self.stop)
    }

    fn begin(
        &mut self,
        encap: Option<&mut Encap<Ring>>,
        decap: Option<&mut DecapRing>,
    ) -> Result<(), EngineError> {
        if let Some(encap) = encap {
            encap.begin()?;
        }
        if let Some(decap) = decap {
            decap.begin();
        }
        Ok(())
    }

    fn wait(
        &mut self,
        encap: Option<&mut Encap<Ring>>,
        decap: Option<&mut DecapRing>,
    ) -> Result<(), EngineError> {
        // A thread sleeps in one ring, so it has one way only.
        debug_assert!(encap.is_none() || decap.is_none());
        match (encap, decap) {
            (Some(encap), _) => encap.next_batch(),
            (None, Some(decap)) => decap.next_batch(),
            (None, None) => Ok(()),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.is_raised()
    }

    fn drain(
        &mut self,
        encap: Option<&mut Encap<Ring>>,
        decap: Option<&mut DecapRing>,
    ) -> Result<bool, EngineError> {
        let mut left = false;
        if let Some(decap) = decap {
            left |= decap.drain()?;
        }
        if let Some(encap) = encap {
            left |= encap.drain()?;
        }
        Ok(left)
    }
}
