//! The fast path between two nodes: how its programs are attached, taken over, left behind, taken
//! away and lost. Each node is a network namespace with a TUN device that no worker reads.

#![allow(clippy::unwrap_used)]

mod adoption;
mod bpffs;
mod clsact;
mod frames;
mod nodes;
mod order;
mod others;
mod process;
mod streams;
mod tables;
