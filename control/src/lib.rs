//! The control plane: everything that is not packets.
//!
//! It reads the network config and the command line, takes and keeps this node's lease,
//! follows the other nodes' leases, sets the host up and hands finished routing tables to
//! the dataplane.

pub mod agent;
pub mod backend;
pub mod codes;
pub mod config;
mod connections;
pub mod connectivity;
pub mod doctor;
pub mod family;
pub mod flags;
pub mod hand_over;
pub mod host;
pub mod http;
mod json;
pub mod lease;
pub mod metrics;
pub mod notify;
pub mod ping;
pub mod probe;
mod release;
pub mod remembered;
pub mod socket;
pub mod status;
pub mod subnets;
mod suspend;
pub mod text;
pub mod wire;
