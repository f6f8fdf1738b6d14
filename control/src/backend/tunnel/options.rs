//! What can be chosen of the way that packets take.

pub use super::fast_path::{FastPathMode, FastPathOptions, FastPathReport};
use std::path::PathBuf;
use std::time::Duration;
pub use weft_dataplane::fastpath::Hook;
pub use weft_dataplane::worker::tunnel_gso::TunnelGso;
pub use weft_dataplane::worker::{Cpus, EngineKind};

/// Settings of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendOptions {
    /// Where MAC addresses are kept across restarts.
    pub state_dir: PathBuf,
    /// How received datagrams are checked.
    pub admit: Admit,
    /// What the packet workers are to do.
    pub workers: WorkerOptions,
    /// What the kernel is to carry.
    pub fast_path: FastPathOptions,
    /// Count what goes to each peer and comes from it.
    pub peer_traffic: bool,
}

/// Settings of the packet workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// TUN queues and workers; `None`: as many as the cores are for.
    pub queues: Option<usize>,
    /// Which cores the workers are pinned to.
    pub cpus: Cpus,
    /// What moves packets between TUN device and sockets.
    pub engine: EngineKind,
    /// Sockets to send from; `None`: chosen by the dataplane.
    pub tx_sockets: Option<usize>,
    /// Set DF on outer packets, and learn the MTU of the path to each peer.
    pub outer_df: bool,
    /// Let the TUN device hand over TCP super-packets.
    pub tso: bool,
    /// Let the TUN device hand over UDP super-packets.
    pub uso: bool,
    /// Send trains with UDP segmentation offload; `None`: where the kernel does not corrupt them.
    pub udp_gso: Option<bool>,
    /// Receive trains with UDP receive offload.
    pub udp_gro: bool,
    /// How long idle workers look for packets before they sleep.
    pub spin: Duration,
    /// When to send TCP super-packets whole.
    pub tunnel_gso: TunnelGso,
}

impl Default for WorkerOptions {
    fn default() -> WorkerOptions {
        WorkerOptions {
            queues: None,
            cpus: Cpus::Auto,
            engine: EngineKind::default(),
            tx_sockets: None,
            outer_df: false,
            tso: true,
            uso: true,
            udp_gso: None,
            udp_gro: true,
            spin: Duration::ZERO,
            tunnel_gso: TunnelGso::default(),
        }
    }
}

/// How received datagrams are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// Only from live peers, and only for sources inside their own subnets.
    #[default]
    Strict,
    /// From anybody with the right VNI and MAC address, as kernel VXLAN does.
    Loose,
}
