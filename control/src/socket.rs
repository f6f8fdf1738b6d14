//! The agent's local socket: what root may ask of an agent that runs, and have it do.
//!
//! A connection is one request and one answer, a line of JSON each. Requests are handed to the
//! agent's own loop, which answers between two of its other tasks. Only who is to take over goes on
//! talking: see [`hand_over`](crate::hand_over).
//!
//! ```text
//! {"version":1,"verb":"status"}
//! {"version":1,"agent":"/coreos.com/network /run/flannel/subnet.env","status":{...}}
//! {"version":1,"verb":"fast-path","mode":"off"}
//! {"version":1,"agent":"/coreos.com/network /run/flannel/subnet.env","fast-path":[...]}
//! ```

mod client;
mod place;
mod protocol;
mod server;

pub use client::{AskError, ask, begin, find};
pub use place::remove_stale;
pub use protocol::{Answer, Reply, Verb};
pub use server::{AnswerTo, Call, Calls, LocalSocket, SocketError};
