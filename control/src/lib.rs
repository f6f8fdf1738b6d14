//! The control plane: everything that is not packets.

pub mod host;
