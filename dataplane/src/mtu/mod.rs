//! How long packets may be: on the paths to peers, and on the links of this node's pods.
//!
//! [`paths`] and [`pods`] are what the workers learn themselves, with time passed in; [`limits`]
//! is how much of a path's MTU is left for an inner packet.

pub mod limits;
pub mod paths;
pub mod pods;
