//! Which peer a destination belongs to, and which senders may reach us.
//!
//! The control thread builds a [`table::Table`] and publishes it to the workers; [`admit`] holds
//! received frames against the table of the batch.

pub mod admit;
pub(crate) mod hash_index;
mod prefixes;
pub mod table;
