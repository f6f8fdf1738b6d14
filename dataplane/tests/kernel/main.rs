//! Our offloads against the kernel's own: what it makes of a write to a TUN device, byte
//! for byte.
#![allow(clippy::unwrap_used)]

mod coalescing;
mod forwarder;
mod namespace;
mod packets;
mod segmentation;
