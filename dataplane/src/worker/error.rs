//! Why workers do not start.

use super::cores::CpusError;
use crate::sys::adopt::AdoptError;
use crate::sys::engine::EngineError;
use crate::sys::udp::SocketError;
use std::io;
use thiserror::Error;

/// Why the dataplane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was adopted is not what the workers need.
    #[error(transparent)]
    Adopted(#[from] AdoptError),
    /// Cores.
    #[error(transparent)]
    Cpus(#[from] CpusError),
    /// A thread or the stop event.
    #[error("starting workers: {0}")]
    Thread(#[from] io::Error),
    /// A worker ended before it said how it fared.
    #[error("a worker ended while it started")]
    Died,
}
