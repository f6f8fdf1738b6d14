//! Requests to whichever etcd server answers, and what is said when none does.

mod connection;
mod progress;
pub(crate) mod refusal;
mod server;
mod tls;
mod verifier;

pub(crate) use crate::subnets::remote::{Failure, Retry, insist};
pub(crate) use connection::Connection;
