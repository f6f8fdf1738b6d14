//! weft as a whole: agents, a real etcd, pods and kernel VXLAN peers in network namespaces.
//!
//! Every test builds a lab of its own, which goes with it. Where a lab cannot be made they
//! are skipped and say why.
#![allow(clippy::unwrap_used)]

mod astray;
mod backends;
mod bad_input;
mod bench;
mod capture;
mod cluster;
mod cni;
mod connectivity;
mod crash;
mod demo;
mod docker;
mod doctor;
mod dual_stack;
mod ecn;
mod errors;
mod fast_path;
mod firewall;
mod fixed;
mod frames;
mod hand_over;
mod hostile;
mod interop;
mod kube;
mod kubernetes;
mod leftovers;
mod life_cycle;
mod members;
mod metrics;
mod mtu;
mod noticed;
mod numbered;
mod overload;
mod ping;
mod pod_mtu;
mod pods;
mod preflight;
mod probe;
mod recursion;
mod remembered;
mod runtime;
mod secure_etcd;
mod slow_peer;
mod store;
mod stream;
mod takeover;
mod together;
mod traffic;
mod tunnel_gso;
mod udp;
mod underlay;
mod wire;
