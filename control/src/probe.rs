//! Echo requests of our own: who answers, how fast, and how long a packet may be.
//!
//! All of it is blocking, in the network namespace of the calling thread, and needs `CAP_NET_RAW`.
//! One raw socket hears answers and refusals of all that is asked, so that many nodes are asked at
//! the same time.

mod message;
mod path_mtu;
mod pinger;
mod round;
mod series;
mod summary;

pub use message::{Refusal, Why};
pub use path_mtu::PathMtu;
pub use pinger::{Pinger, ProbeError};
pub use round::{Outcome, Patience, Probe, What};
pub use series::{Series, SeriesPlan};
pub use summary::Summary;
