//! Which peer a destination belongs to, and which senders may reach us.
//!
//! The control thread builds a [`table::Table`] and hands it to the workers through
//! [`publish::Publisher`]; [`admit`] holds received frames against the table of the batch.
//! [`pmtu`] is what the workers learn themselves of the paths to the peers, [`pod_mtu`] of the
//! links behind this node.

pub mod admit;
pub mod pmtu;
pub mod pod_mtu;
mod prefixes;
pub mod publish;
pub mod table;
