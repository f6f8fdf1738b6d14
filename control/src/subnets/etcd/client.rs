//! Requests to whichever etcd server answers, and what is said when none does.

mod connection;
mod progress;
mod pulse;
pub(crate) mod refusal;
mod retry;
mod server;
mod tls;
mod verifier;

pub(crate) use connection::{Connection, Failure};
pub(crate) use retry::{Retry, insist};
