//! Run-to-completion loops, each in a thread of its own.
//!
//! Queue i of the TUN, receive socket i and the threads that serve them never cross with
//! others, so a flow is never reordered. Two threads a queue, one per direction, measured
//! better than one for both: a thread that sends does not delay what arrives.

pub mod decap;
pub mod encap;
pub mod flow;
mod on_poll;
mod on_ring;
pub mod oversize;
mod recursion;
mod reply;
mod threads;
pub mod tunnel_gso;

use crate::mtu::paths::PathMtus;
use crate::mtu::pods::PodMtus;
use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::{MAX_FRAMES, SendPlan};
use crate::offload::vnet_hdr::Layout;
use crate::publish::Publisher;
use crate::stats::WorkerStats;
use crate::stats::losses::PeerLosses;
use crate::sys::clock::Clock;
use crate::sys::engine::EngineError;
use crate::sys::path::PathProbe;
use crate::sys::ring;
use crate::sys::tun::{Tun, TunQueue};
use crate::sys::udp::{self, SocketError};
use flow::SendPool;
use oversize::Oversize;
use socket2::Socket;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use threads::Threads;
use tunnel_gso::{PeerState, RedirectState, TunnelGso, TunnelGsoGate, TunnelGsoState};

/// One for each direction.
const THREADS_PER_QUEUE: usize = 2;

/// Sends that one batch may consist of before it must leave.
const PLAN_SENDS: usize = 64;

/// Bytes of headers in one plan: those of 900 segments with TCP timestamps.
const PLAN_ARENA: usize = 64 << 10;

/// Writes that one batch may consist of.
const COALESCER_WRITES: usize = 256;

const _: () = assert!(PLAN_ARENA >= encap::MAX_HEADER);

/// What moves packets between the TUN and the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where the kernel has all of it that is needed, else plain system calls.
    #[default]
    Auto,
    /// io_uring.
    Ring,
    /// epoll, `recvmmsg` and `sendmmsg`.
    Poll,
}

impl Engine {
    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Auto => "auto",
            Engine::Ring => "ring",
            Engine::Poll => "poll",
        }
    }
}

/// How the dataplane is to run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What moves the packets.
    pub engine: Engine,
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
    /// When to use tunnel GSO, that is to send TCP super-packets uncut through a TAP; of use with
    /// VXLAN alone.
    pub tunnel_gso: TunnelGso,
    /// How long a worker that finds nothing to do looks again before it sleeps. Only the poll
    /// engine can; with any time at all [`Engine::Auto`] takes it.
    pub spin: Duration,
    /// Index of the device through which peers are reached.
    pub underlay: u32,
}

impl Config {
    fn pool(&self) -> SendPool {
        SendPool::new(self.tx_sockets)
    }

    fn plan(&self) -> SendPlan {
        let max_frames = if self.udp_gso { MAX_FRAMES as u16 } else { 1 };
        SendPlan::new(PLAN_SENDS, PLAN_ARENA, max_frames)
    }

    fn coalescer(&self) -> Result<Coalescer, EngineError> {
        // Before Linux 6.9 a UDP super-packet has 64 segments at most, and a received train
        // has no more in any version.
        let limits = Limits {
            udp_segments: 64,
            ..Limits::new(self.mtu)
        };
        Ok(Coalescer::new(COALESCER_WRITES, Layout::Legacy, limits)?)
    }
}

/// Why the dataplane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread or the stop event.
    #[error("starting workers: {0}")]
    Thread(#[from] io::Error),
    /// A worker ended before it said how it fared.
    #[error("a worker ended while it started")]
    Died,
}

/// The running workers. Dropping it stops them.
pub struct Dataplane {
    threads: Threads,
    engine: Engine,
    /// Why it is not the engine that was preferred.
    refusal: Option<EngineError>,
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    /// Why there is no tunnel GSO although it was wanted.
    tunnel_gso_refusal: Option<EngineError>,
    losses: Arc<PeerLosses>,
    short_send_buffer: Option<usize>,
}

impl Dataplane {
    /// Open the sockets and start the workers of every queue of `tun`, which read the tables
    /// of `publisher`. Returns once all of them run.
    pub fn start(tun: Tun, config: Config, publisher: &Publisher) -> Result<Dataplane, StartError> {
        let (engine, refusal) = choose(config.engine, config.spin)?;
        let tap = tap_name(tun.name(), &config);
        let queues = tun.into_queues();
        let source = udp::source(config.local, config.underlay);
        // One pool for all workers: the outer source port, by which the peer picks its worker,
        // must depend on the inner flow alone. With a pool each, a flow that moves to another
        // queue here moves to another worker there, whose writes move it again here, for ever.
        let senders: Arc<[Socket]> =
            udp::senders(source, config.pool().sockets(), config.outer_df)?.into();
        let short_send_buffer = senders.iter().find_map(udp::short_send_buffer);
        let receivers = udp::receivers(config.local, config.port, queues.len(), config.udp_gro)?;
        let (paths, clock) = (Arc::new(PathMtus::new()), Clock::start());
        let pods = Arc::new(PodMtus::new(config.pod_mtu.min(config.mtu)));
        let losses = Arc::new(PeerLosses::default());
        let mut threads = Threads::new(queues.len() * THREADS_PER_QUEUE + 1)?;
        let gate = tunnel_gso_gate(&config, tap, &senders);
        let (tunnel_gso, tunnel_gso_refusal) = match gate {
            Ok(gate) => (gate.map(Arc::new), None),
            Err(error) => (None, Some(error)),
        };
        for (index, (queue, receiver)) in queues.into_iter().zip(receivers).enumerate() {
            let lane = Lane {
                index,
                queue: Arc::new(queue),
                senders: senders.clone(),
                tunnel_gso: tunnel_gso.clone(),
                receiver,
                probe: PathProbe::new(source, paths.clone(), clock)?,
                losses: losses.clone(),
                oversize: Oversize::new(paths.clone(), config.outer_df)
                    .asking(PathProbe::new(source, paths.clone(), clock)?, config.mtu),
                pods: pods.clone(),
                clock,
                config,
            };
            match engine {
                Engine::Auto | Engine::Ring => on_ring::start(&mut threads, publisher, lane)?,
                Engine::Poll => on_poll::start(&mut threads, publisher, lane)?,
            }
        }
        if let Some(gate) = &tunnel_gso {
            let probe = PathProbe::new(source, paths, clock)?;
            tunnel_gso::start(&mut threads, publisher, gate.clone(), &config, probe)?;
        }
        threads.await_starts()?;
        Ok(Dataplane {
            threads,
            engine,
            refusal,
            tunnel_gso,
            tunnel_gso_refusal,
            losses,
            short_send_buffer,
        })
    }

    /// The engine that runs, never [`Engine::Auto`].
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Why it is not the one that [`Engine::Auto`] prefers.
    pub fn refusal(&self) -> Option<&EngineError> {
        self.refusal.as_ref()
    }

    /// What is known of tunnel GSO as a whole.
    pub fn tunnel_gso(&self) -> TunnelGsoState {
        match (&self.tunnel_gso, &self.tunnel_gso_refusal) {
            (Some(gate), _) => gate.state(),
            (None, Some(_)) => TunnelGsoState::Refused,
            (None, None) => TunnelGsoState::Off,
        }
    }

    /// The peers that super-packets were for of late, and what is known of tunnel GSO to each.
    pub fn tunnel_gso_peers(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.tunnel_gso.iter().flat_map(|gate| gate.peers())
    }

    /// Whether what the TAP receives is redirected past a strict `rp_filter`.
    pub fn tunnel_gso_redirect(&self) -> RedirectState {
        let gate = self.tunnel_gso.as_deref();
        gate.map_or(RedirectState::Unneeded, TunnelGsoGate::redirect)
    }

    /// Name of the TAP for tunnel GSO, if there is one.
    pub fn tap(&self) -> Option<&str> {
        self.tunnel_gso.as_deref().map(TunnelGsoGate::device)
    }

    /// Why there is no tunnel GSO although it was wanted.
    pub fn tunnel_gso_refusal(&self) -> Option<&EngineError> {
        self.tunnel_gso_refusal.as_ref()
    }

    /// The counters of every worker.
    pub fn stats(&self) -> impl Iterator<Item = &WorkerStats> + Clone {
        self.threads.stats.iter().map(|stats| &**stats)
    }

    /// Size in bytes of the send buffers, if they are so small that a peer behind a full queue
    /// can cost others frames.
    pub fn short_send_buffer(&self) -> Option<usize> {
        self.short_send_buffer
    }

    /// Frames that could not leave, for each peer.
    pub fn losses(&self) -> &PeerLosses {
        &self.losses
    }

    /// Why a worker ended, if one did.
    pub fn failure(&self) -> Option<String> {
        self.threads.failure()
    }

    /// Stop the workers and wait for them.
    pub fn stop(self) {
        drop(self);
    }
}

/// Name of the TAP for tunnel GSO beside the TUN `device`; none if tunnel GSO is not wanted or
/// not possible, as with an underlay of IPv6.
pub fn tap_name(device: &str, config: &Config) -> Option<String> {
    let number = device.rsplit('.').next().unwrap_or("0");
    // With DF on outer packets the kernel says nothing of the path to those who send by a TAP.
    let possible = config.local.is_ipv4() && !config.outer_df;
    (possible && config.tunnel_gso != TunnelGso::Off).then(|| format!("weft.{number}"))
}

fn tunnel_gso_gate(
    config: &Config,
    tap: Option<String>,
    senders: &[Socket],
) -> Result<Option<TunnelGsoGate>, EngineError> {
    match (tap, config.local) {
        (Some(tap), IpAddr::V4(local)) => TunnelGsoGate::new(&tap, local, senders).map(Some),
        _ => Ok(None),
    }
}

/// The engine to run, and for [`Engine::Auto`] why it is not the preferred one.
fn choose(wanted: Engine, spin: Duration) -> Result<(Engine, Option<EngineError>), EngineError> {
    match (wanted, ring::probe()) {
        (Engine::Poll, _) => Ok((Engine::Poll, None)),
        (Engine::Auto, _) if !spin.is_zero() => Ok((Engine::Poll, None)),
        (Engine::Auto | Engine::Ring, Ok(())) => Ok((Engine::Ring, None)),
        (Engine::Ring, Err(error)) => Err(error),
        (Engine::Auto, Err(error)) => Ok((Engine::Poll, Some(error))),
    }
}

/// One TUN queue and the sockets that go with it.
struct Lane {
    index: usize,
    queue: Arc<TunQueue>,
    /// Shared by all lanes.
    senders: Arc<[Socket]>,
    /// Tunnel GSO, shared by all lanes.
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    receiver: Socket,
    probe: PathProbe,
    /// Shared by all lanes.
    losses: Arc<PeerLosses>,
    oversize: Oversize,
    /// Shared by all lanes.
    pods: Arc<PodMtus>,
    clock: Clock,
    config: Config,
}
