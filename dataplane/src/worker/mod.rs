//! Run-to-completion loops, each in a thread of its own.
//!
//! Queue i of the TUN, receive socket i and the threads that serve them never cross with
//! others, so a flow is never reordered. Two threads a queue, one per direction, measured
//! better than one for both: a thread that sends does not delay what arrives.

mod config;
mod cores;
mod dataplane;
pub mod decap;
pub mod egress;
pub mod encap;
mod error;
pub mod flow;
mod holdings;
pub mod outbound;
pub mod path_limits;
mod recursion;
mod reply;
mod run;
mod threads;
pub mod tunnel_gso;
mod unseen;
mod workers;

pub use config::{Config, EngineKind, Options};
pub use cores::{Cpus, CpusError, cores_by_default, default_queues};
pub use dataplane::Dataplane;
pub use error::StartError;
pub use holdings::{Description, Holdings};
pub use workers::Workers;
