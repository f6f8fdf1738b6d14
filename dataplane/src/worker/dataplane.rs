//! Sockets, engine and workers of a device, started and stopped as one.

use super::config::{Config, EngineKind};
use super::error::StartError;
use super::path_limits::PathLimits;
use super::run::{self, Lane};
use super::threads::Threads;
use super::tunnel_gso::{self, PeerState, RedirectState, TunnelGso, TunnelGsoGate, TunnelGsoState};
use crate::mtu::paths::PathMtus;
use crate::mtu::pods::PodMtus;
use crate::publish::Publisher;
use crate::stats::WorkerStats;
use crate::stats::losses::PeerLosses;
use crate::sys::clock::Clock;
use crate::sys::engine::EngineError;
use crate::sys::path::PathProbe;
use crate::sys::poll::PollEngine;
use crate::sys::ring::{self, RingEngine};
use crate::sys::tap::Tap;
use crate::sys::tun::Tun;
use crate::sys::udp;
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// One for each way.
const THREADS_PER_QUEUE: usize = 2;

/// The running workers. Dropping it stops them.
pub struct Dataplane {
    threads: Threads,
    engine: EngineKind,
    /// Why it is not the engine that was preferred.
    refusal: Option<EngineError>,
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    losses: Arc<PeerLosses>,
    short_send_buffer: Option<usize>,
}

impl Dataplane {
    /// Open the sockets and start the workers of every queue of `tun`, which read the tables
    /// of `publisher`. Returns once all of them run. There is tunnel GSO if there is a `tap` and
    /// the underlay is IPv4.
    pub fn start(
        tun: Tun,
        tap: Option<Tap>,
        config: Config,
        publisher: &Publisher,
    ) -> Result<Dataplane, StartError> {
        let (engine, refusal) = choose(config.engine, config.spin, ring::probe)?;
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
        let tunnel_gso = match (tap, config.local) {
            (Some(tap), IpAddr::V4(local)) if config.tunnel_gso != TunnelGso::Off => {
                Some(Arc::new(TunnelGsoGate::new(tap, local, &senders)?))
            }
            _ => None,
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
                limits: PathLimits::new(paths.clone(), config.outer_df)
                    .asking(PathProbe::new(source, paths.clone(), clock)?, config.mtu),
                pods: pods.clone(),
                clock,
                config,
            };
            match engine {
                EngineKind::Auto | EngineKind::Ring => {
                    run::start::<RingEngine>(&mut threads, publisher, lane)?;
                }
                EngineKind::Poll => run::start::<PollEngine>(&mut threads, publisher, lane)?,
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
            losses,
            short_send_buffer,
        })
    }

    /// The engine that runs, never [`EngineKind::Auto`].
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Why it is not the one that [`EngineKind::Auto`] prefers.
    pub fn refusal(&self) -> Option<&EngineError> {
        self.refusal.as_ref()
    }

    /// What is known of tunnel GSO as a whole.
    pub fn tunnel_gso(&self) -> TunnelGsoState {
        let gate = self.tunnel_gso.as_deref();
        gate.map_or(TunnelGsoState::Off, TunnelGsoGate::state)
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

/// The engine to run, and for [`EngineKind::Auto`] why it is not the preferred one. `probe` tells
/// whether the kernel has io_uring, and is asked only if that is wanted.
fn choose(
    wanted: EngineKind,
    spin: Duration,
    probe: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(EngineKind, Option<EngineError>), EngineError> {
    match wanted {
        EngineKind::Poll => Ok((EngineKind::Poll, None)),
        EngineKind::Auto if !spin.is_zero() => Ok((EngineKind::Poll, None)),
        EngineKind::Ring => probe().map(|()| (EngineKind::Ring, None)),
        EngineKind::Auto => Ok(match probe() {
            Ok(()) => (EngineKind::Ring, None),
            Err(refusal) => (EngineKind::Poll, Some(refusal)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn refused() -> EngineError {
        EngineError::RingRefused(io::Error::from_raw_os_error(libc::EPERM))
    }

    #[test]
    fn io_uring_is_probed_only_for_those_who_want_it() {
        let never = || panic!("it is probed");
        let spin = Duration::from_micros(50);
        for (wanted, spin) in [
            (EngineKind::Poll, Duration::ZERO),
            (EngineKind::Poll, spin),
            (EngineKind::Auto, spin),
        ] {
            let (engine, refusal) = choose(wanted, spin, never).unwrap();
            assert_eq!(engine, EngineKind::Poll);
            assert!(refusal.is_none());
        }
    }

    #[test]
    fn without_io_uring_auto_takes_the_other_and_ring_fails() {
        let zero = Duration::ZERO;
        let (engine, refusal) = choose(EngineKind::Auto, zero, || Err(refused())).unwrap();
        assert_eq!(engine, EngineKind::Poll);
        assert!(matches!(refusal, Some(EngineError::RingRefused(_))));
        assert!(choose(EngineKind::Ring, zero, || Err(refused())).is_err());
        for wanted in [EngineKind::Auto, EngineKind::Ring] {
            let (engine, refusal) = choose(wanted, zero, || Ok(())).unwrap();
            assert_eq!(engine, EngineKind::Ring);
            assert!(refusal.is_none());
        }
    }
}
