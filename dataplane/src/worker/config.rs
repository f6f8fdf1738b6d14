//! How the workers of a device are to run.

use super::encap::MAX_HEADER;
use super::flow::SendPool;
use super::tunnel_gso::TunnelGso;
use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::{MAX_FRAMES, SendPlan};
use crate::offload::vnet_hdr::Layout;
use crate::sys::engine::EngineError;
use std::net::IpAddr;
use std::time::Duration;

/// Sends that one batch may consist of before it must leave.
const PLAN_SENDS: usize = 64;

/// Bytes of headers in one plan: those of 900 segments with TCP timestamps.
const PLAN_ARENA: usize = 64 << 10;

/// Writes that one batch may consist of.
const COALESCER_WRITES: usize = 256;

const _: () = assert!(PLAN_ARENA >= MAX_HEADER);

/// What moves packets between the TUN and the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring where the kernel has all of it that is needed, else plain system calls.
    #[default]
    Auto,
    /// io_uring.
    Ring,
    /// epoll, `recvmmsg` and `sendmmsg`.
    Poll,
}

impl EngineKind {
    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Auto => "auto",
            EngineKind::Ring => "ring",
            EngineKind::Poll => "poll",
        }
    }
}

/// How the dataplane is to run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What moves the packets.
    pub engine: EngineKind,
    /// Underlay address to send from.
    pub local: IpAddr,
    /// UDP port to receive on.
    pub port: u16,
    /// MTU of the TUN in bytes.
    pub mtu: usize,
    /// MTU that pods are given, in bytes; smaller ones are learned for each.
    pub pod_mtu: usize,
    /// Sockets to send from, each with its own source port (1 to 255), for each group of peers
    /// (see [`Table::with_exits`](crate::route::table::Table::with_exits)).
    pub tx_sockets: u8,
    /// Set DF on outer packets, so that the MTU of the path is found out.
    pub outer_df: bool,
    /// Send trains with `UDP_SEGMENT`.
    pub udp_gso: bool,
    /// Receive trains with `UDP_GRO`.
    pub udp_gro: bool,
    /// When to use tunnel GSO, if there is a TAP for it; of use with VXLAN alone.
    pub tunnel_gso: TunnelGso,
    /// How long a worker that finds nothing to do looks again before it sleeps. Only the poll
    /// engine can; with any time at all [`EngineKind::Auto`] takes it.
    pub spin: Duration,
    /// Index of the device through which peers are reached.
    pub underlay: u32,
}

impl Config {
    pub(super) fn pool(&self) -> SendPool {
        SendPool::new(self.tx_sockets)
    }

    pub(super) fn plan(&self) -> SendPlan {
        let max_frames = if self.udp_gso { MAX_FRAMES as u16 } else { 1 };
        SendPlan::new(PLAN_SENDS, PLAN_ARENA, max_frames)
    }

    pub(super) fn coalescer(&self) -> Result<Coalescer, EngineError> {
        // Before Linux 6.9 a UDP super-packet has 64 segments at most, and a received train
        // has no more in any version.
        let limits = Limits {
            udp_segments: 64,
            ..Limits::new(self.mtu)
        };
        Ok(Coalescer::new(COALESCER_WRITES, Layout::Legacy, limits)?)
    }
}
