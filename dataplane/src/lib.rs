//! Packets: everything between the TUN device and the UDP sockets.
//!
//! # Vocabulary
//!
//! These words mean one thing each, in code, counters and documents:
//!
//! - **segment**: one inner IP packet no longer than the tunnel's MTU.
//! - **super-packet**: one inner IP packet of up to 65,535 bytes together with the
//!   `virtio_net_hdr` that says how to cut it into segments (TSO, USO).
//! - **frame**: what one UDP datagram on the wire carries: one segment behind VXLAN header
//!   and inner Ethernet header ([`Vxlan`](wire::frame::Wire::Vxlan)), or one segment alone
//!   ([`Ip`](wire::frame::Wire::Ip)).
//! - **train**: frames back to back in one buffer, all of the same length but the last,
//!   which may be shorter. One UDP GSO send or one UDP GRO receive.
//! - **stride**: the length in bytes of every frame of a train but the last
//!   (`gso_size` to the kernel).
//! - **tunnel GSO**: a super-packet leaves uncut, with all its outer headers, through a TAP, and
//!   is segmented by the network device, or last of all by the kernel (`SKB_GSO_UDP_TUNNEL`).
//!   *Tunnel* alone means the overlay's device and its workers.
//! - **batch**: what a worker handles between two waits.
//! - **share**: the peers whose frames wait in one receive queue of a worker, by their addresses.
//! - **fast path**: eBPF programs that carry packets between the TUN device and the underlay inside
//!   the kernel, beside the workers.
//! - **way**: what carries a packet: the fast path, the fast path by the merging pair, or a worker.
//! - **merging pair**: two veth devices through which the fast path sends segments on their way in,
//!   so that the kernel merges them.
//! - **pin**: a name in the BPF file system, by which a program stays attached without its process.
//!
//! # Modules
//!
//! `wire`, `offload` and `route` are plain functions over bytes: no file descriptor, no
//! clock, and after construction no allocator. `sys` owns all system calls and nearly all
//! `unsafe`; `worker` joins the two into loops that own a core. `fastpath` loads the programs of
//! `dataplane/bpf`, which spare packets the way through a worker.

pub mod caps;
pub mod fastpath;
pub mod mtu;
pub mod offload;
pub mod publish;
pub mod route;
pub mod stats;
pub mod sys;
pub mod wire;
pub mod worker;
