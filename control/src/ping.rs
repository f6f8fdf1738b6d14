//! What `weft ping` finds out: how another node is reached through the tunnel, by each way.

mod report;
mod target;
mod ways;

pub use report::{PingReport, WayReport};
pub use target::{Target, TargetError, find, resolve};
pub(crate) use ways::FORGOTTEN;
pub use ways::{PingError, PingOptions, ping};
