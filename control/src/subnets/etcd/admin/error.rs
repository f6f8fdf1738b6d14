//! Why something could not be done.

use crate::subnets::SubnetError;
use std::io;

/// Why something could not be done. One line.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The process cannot be set up.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The options, or what the files they name hold.
    #[error(transparent)]
    Settings(#[from] SubnetError),
    /// No server answers.
    #[error("etcd cannot be reached: {0}")]
    Unreachable(String),
    /// etcd, or a rule, says no.
    #[error("{0}")]
    Refused(String),
}
