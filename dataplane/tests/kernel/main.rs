//! weft against the kernel: its offloads against the kernel's own, byte for byte, and
//! whole tunnels over IPv4 and IPv6, between two of weft and between weft and kernel VXLAN, also
//! while workers take each other's place.
#![allow(clippy::unwrap_used)]

mod coalescing;
mod commands;
mod ecn;
mod forwarder;
mod hand_over;
mod packets;
mod segmentation;
mod steering;
mod traffic;
mod tunnel;
mod tunnels;
mod wire;
