//! Segmentation and coalescing as pure functions, and the plans they produce.
//!
//! A plan says which bytes go where without copying payload: headers lie in an arena or
//! are patched in place, payload stays in the buffer it was read into. Both engines, the
//! tests and the benches consume the same plans.

pub mod coalesce;
pub mod cut;
pub mod ecn;
pub mod fragment;
pub mod plan;
pub mod segment;
pub mod train;
pub(crate) mod transport;
pub mod tunnel_gso;
pub mod vnet_hdr;

#[cfg(test)]
pub(crate) mod testing;
