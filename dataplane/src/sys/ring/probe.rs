//! Whether this kernel has all of io_uring that the rings need, found out by using it.

use super::Ring;
use super::provided::{BufferLayout, GROUP};
use crate::stats::WorkerStats;
use crate::sys::engine::{EngineError, failed};
use crate::sys::event::StopEvent;
use io_uring::{opcode, types};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Read one byte from a pipe the way that packets are read from the TUN: ring flags,
/// registered files, a buffer ring, and the multishot read, the youngest of them (Linux 6.7).
pub fn probe() -> Result<(), EngineError> {
    let stop = StopEvent::new().map_err(failed("eventfd"))?;
    let (reader, mut writer) = std::io::pipe().map_err(failed("pipe"))?;
    let layout = BufferLayout {
        count: 1,
        headroom: 0,
        size: 64,
        batch_bytes: 64,
    };
    let read = opcode::ReadMulti::new(types::Fd(reader.as_raw_fd()), 0, GROUP)
        .offset(u64::MAX)
        .build();
    // SAFETY: a multishot read on the pipe, which is closed after the ring, and our group; it
    // points to no memory.
    let mut ring = unsafe {
        Ring::new(
            &stop,
            [read],
            "a pipe",
            layout,
            Arc::<WorkerStats>::default(),
        )?
    };
    ring.begin();
    writer.write_all(&[0]).map_err(failed("pipe"))?;
    ring.next_batch()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_answers() {
        match probe() {
            Ok(()) => {}
            Err(error) => assert!(matches!(error, EngineError::RingRefused(_)), "{error}"),
        }
    }
}
