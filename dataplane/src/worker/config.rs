//! How the workers of a device are to run.

use super::cores::Cpus;
use super::encap::MAX_HEADER;
use super::flow::SendPool;
use super::tunnel_gso::TunnelGso;
use crate::caps::Caps;
use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::SendPlan;
use crate::offload::vnet_hdr::Layout;
use crate::sys::engine::EngineError;
use crate::sys::port::Frames;
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

/// How the workers of all devices are to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What moves the packets.
    pub engine: EngineKind,
    /// How long a worker that finds nothing to do looks again before it sleeps. Only the poll
    /// engine can; with any time at all [`EngineKind::Auto`] takes it.
    pub spin: Duration,
    /// Send trains with `UDP_SEGMENT`.
    pub udp_gso: bool,
    /// Receive trains with `UDP_GRO`.
    pub udp_gro: bool,
    /// Devices that there will be, one for each address family.
    pub devices: usize,
    /// TUN queues of each; `None`: see [`default_queues`](super::default_queues).
    pub queues: Option<usize>,
    /// Which cores the workers are pinned to.
    pub cpus: Cpus,
    /// Name of the device through which peers are reached, near which workers are pinned.
    pub underlay: Option<String>,
}

impl Default for Options {
    /// As the agent's flags have it, for one device.
    fn default() -> Options {
        Options {
            engine: EngineKind::Auto,
            spin: Duration::ZERO,
            udp_gso: true,
            udp_gro: true,
            devices: 1,
            queues: None,
            cpus: Cpus::Auto,
            underlay: None,
        }
    }
}

/// How the workers of one device are to run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Underlay address to send from.
    pub local: IpAddr,
    /// UDP port to receive on.
    pub port: u16,
    /// The form of the frames that are received.
    pub frames: Frames,
    /// MTU of the TUN in bytes.
    pub mtu: usize,
    /// MTU that pods are given, in bytes; smaller ones are learned for each.
    pub pod_mtu: usize,
    /// Sockets to send from, each with its own source port (1 to 255), for each group of peers
    /// (see [`Table::with_exits`](crate::route::table::Table::with_exits)).
    pub tx_sockets: u8,
    /// Set DF on outer packets, so that the MTU of the path is found out.
    pub outer_df: bool,
    /// When to use tunnel GSO, if there is a TAP for it; of use with VXLAN alone.
    pub tunnel_gso: TunnelGso,
    /// Index of the device through which peers are reached.
    pub underlay: u32,
}

impl Config {
    pub(super) fn pool(&self) -> SendPool {
        SendPool::new(self.tx_sockets)
    }

    pub(super) fn plan(&self, caps: &Caps) -> SendPlan {
        SendPlan::new(PLAN_SENDS, PLAN_ARENA, caps.trains.max_frames())
    }

    pub(super) fn coalescer(&self, caps: &Caps) -> Result<Coalescer, EngineError> {
        // Before Linux 6.9 a UDP super-packet has 64 segments at most, and a received train
        // has no more in any version.
        let limits = Limits {
            udp_segments: 64,
            ..Limits::new(self.mtu)
        };
        let coalescer = Coalescer::new(COALESCER_WRITES, Layout::Legacy, limits)?;
        Ok(coalescer.sharing(caps.merges.clone()))
    }
}
