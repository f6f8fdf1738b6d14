//! The engine, capabilities and cores that the workers of all devices share, and how those of each
//! device are started.

use super::config::{Config, EngineKind, Options};
use super::cores::{self, Seats};
use super::error::StartError;
use super::holdings::{Description, Holdings};
use super::path_limits::PathLimits;
use super::run::{self, Lane};
use super::threads::Threads;
use super::tunnel_gso::{self, TunnelGso, TunnelGsoGate};
use super::unseen::Unseen;
use super::workers::Workers;
use crate::caps::{Cap, Capability, Caps, Grant, as_wanted};
use crate::mtu::paths::PathMtus;
use crate::mtu::pods::PodMtus;
use crate::publish::Publisher;
use crate::stats::losses::PeerLosses;
use crate::sys::adopt::AdoptError;
use crate::sys::affinity;
use crate::sys::clock::Clock;
use crate::sys::engine::EngineError;
use crate::sys::path::PathProbe;
use crate::sys::poll::PollEngine;
use crate::sys::ring::{self, RingEngine};
use crate::sys::tap::Tap;
use crate::sys::trains;
use crate::sys::tun::{Queues, Tun, TunQueue};
use crate::sys::udp::SocketError;
use socket2::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One for each way.
const WORKERS_PER_LANE: usize = 2;

/// What the workers of all devices have in common: the engine, what the kernel has granted, and
/// the cores.
pub struct Dataplane {
    engine: EngineKind,
    /// Why it is not the engine that was preferred.
    refusal: Option<EngineError>,
    spin: Duration,
    udp_gro: bool,
    caps: Arc<Caps>,
    clock: Clock,
    lanes: usize,
    seats: Seats,
}

impl Dataplane {
    /// Ask the kernel for what is wanted, by using it, and share out the cores. Nothing runs yet.
    pub fn new(options: &Options) -> Result<Dataplane, StartError> {
        let caps = Arc::new(Caps::default());
        let (engine, refusal) = choose(options.engine, options.spin, &caps.io_uring, ring::probe)?;
        if options.udp_gso {
            caps.trains.ask(trains::probe());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = options
            .queues
            .unwrap_or_else(|| cores::default_queues(&options.cpus, cores));
        let spins = engine == EngineKind::Poll && !options.spin.is_zero();
        let workers = lanes * if spins { 1 } else { WORKERS_PER_LANE };
        let near = options.underlay.as_deref().map(affinity::near);
        let cores = cores::assign(
            &options.cpus,
            &affinity::allowed(),
            &near.unwrap_or_default(),
            workers * options.devices,
        )?;
        Ok(Dataplane {
            engine,
            refusal,
            spin: options.spin,
            udp_gro: options.udp_gro,
            caps,
            clock: Clock::start(),
            lanes,
            seats: Seats::new(&cores, workers),
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

    /// TUN queues that each device is to have.
    pub fn queues(&self) -> Queues {
        Queues::shared(self.lanes)
    }

    /// Open the sockets that go with a device that was just opened. There is tunnel GSO if there is a
    /// `tap` and the underlay is IPv4.
    pub fn open(
        &self,
        tun: Tun,
        tap: Option<Tap>,
        config: &Config,
    ) -> Result<Holdings, StartError> {
        Ok(Holdings::open(tun, tap, config, self.gro())?)
    }

    /// Whether workers with `config` can run on what is told of: otherwise how it differs, on one
    /// line.
    pub fn fits(&self, told: &Description, config: &Config) -> Result<(), AdoptError> {
        told.fits(config, self.lanes)
    }

    /// Start the workers of every queue, which read the tables of `publisher`. Returns once all of
    /// them have what they need; they are parked until [`Workers::go`].
    pub fn start(
        &self,
        holdings: Holdings,
        config: Config,
        publisher: &Publisher,
    ) -> Result<Workers, StartError> {
        self.fits(&holdings.describe(), &config)?;
        self.note_offloads(&holdings.tun);
        // To load it takes as long as all else: packets wait for that, and not for both.
        let steering = (holdings.tun.counts().shares > 1).then(|| {
            let tun = holdings.tun.clone();
            thread::spawn(move || tun.steer())
        });
        // One that was adopted may be set otherwise.
        let port = &holdings.port;
        port.set(config.frames, self.gro())?;
        let shared = Shared::open(config, &holdings, self.clock)?;
        let taken = self.seats.take();
        let count = holdings.tun.counts().lanes * WORKERS_PER_LANE + 1;
        let mut threads = Threads::new(count, &taken.cores)?;
        let lanes = holdings.tun.lanes().zip(port.workers());
        for (index, (queues, receivers)) in lanes.enumerate() {
            let lane = self.lane(&shared, index, (queues.to_vec(), receivers))?;
            match self.engine {
                EngineKind::Auto | EngineKind::Ring => {
                    run::start::<RingEngine>(&mut threads, publisher, lane)?;
                }
                EngineKind::Poll => run::start::<PollEngine>(&mut threads, publisher, lane)?,
            }
        }
        if let Some(gate) = &shared.tunnel_gso {
            tunnel_gso::start(
                &mut threads,
                publisher,
                gate.clone(),
                config.tunnel_gso,
                (config.underlay, config.mtu),
                shared.probe()?,
            )?;
        }
        threads.await_starts()?;
        if let Some(steering) = steering {
            // Without it there is less fairness, and the capability says so.
            let _ = self.caps.steering.ask(|| outcome_of(steering));
        }
        Ok(Workers {
            threads,
            taken,
            unseen: Unseen::new(&holdings, config.frames.wire),
            holdings,
            tunnel_gso: shared.tunnel_gso,
            losses: shared.losses,
            paths: shared.paths,
            clock: self.clock,
        })
    }

    /// What trains are received by, if they are wanted.
    fn gro(&self) -> Option<&Capability> {
        self.udp_gro.then_some(&self.caps.udp_gro)
    }

    /// Have the capabilities say what `tun` lacks of what was wanted of it.
    fn note_offloads(&self, tun: &Tun) {
        let (wanted, granted) = (tun.wanted(), tun.offloads());
        for (capability, wanted, granted) in [
            (&self.caps.tso, wanted.tso, granted.tso),
            (&self.caps.uso, wanted.uso, granted.uso),
        ] {
            if wanted {
                // The device is as it is; what it lacks shows in the capability.
                let _ = capability.ask(|| as_wanted(wanted, granted));
            }
        }
    }

    /// A lane of a device.
    fn lane(
        &self,
        shared: &Shared,
        index: usize,
        (queues, receivers): (Vec<Arc<TunQueue>>, Vec<Arc<Socket>>),
    ) -> Result<Lane, StartError> {
        let config = shared.config;
        Ok(Lane {
            index,
            queues,
            senders: shared.senders.clone(),
            tunnel_gso: shared.tunnel_gso.clone(),
            receivers,
            probe: shared.probe()?,
            losses: shared.losses.clone(),
            limits: PathLimits::new(shared.paths.clone(), config.outer_df)
                .asking(shared.probe()?, config.mtu),
            pods: shared.pods.clone(),
            clock: self.clock,
            caps: self.caps.clone(),
            config,
            spin: self.spin,
        })
    }

    /// How far a capability is granted now.
    pub fn grant(&self, cap: Cap) -> Grant {
        self.caps.grant(cap, self.clock.now_ms())
    }
}

/// What the lanes of one device have in common.
struct Shared {
    config: Config,
    clock: Clock,
    /// What all sockets that send are bound to.
    source: SocketAddr,
    senders: Arc<[Socket]>,
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    paths: Arc<PathMtus>,
    pods: Arc<PodMtus>,
    losses: Arc<PeerLosses>,
}

impl Shared {
    /// Nothing is known of any path or peer yet.
    fn open(config: Config, holdings: &Holdings, clock: Clock) -> Result<Shared, StartError> {
        let senders = holdings.senders.clone();
        let tunnel_gso = match (holdings.tap.clone(), config.local) {
            (Some(tap), IpAddr::V4(local)) if config.tunnel_gso != TunnelGso::Off => {
                Some(Arc::new(TunnelGsoGate::new(tap, local, &senders)?))
            }
            _ => None,
        };
        Ok(Shared {
            config,
            clock,
            source: holdings.source(),
            senders,
            tunnel_gso,
            paths: Arc::new(PathMtus::new()),
            pods: Arc::new(PodMtus::new(config.pod_mtu.min(config.mtu))),
            losses: Arc::new(PeerLosses::default()),
        })
    }

    fn probe(&self) -> Result<PathProbe, SocketError> {
        PathProbe::new(self.source, self.paths.clone(), self.clock)
    }
}

/// The engine to run, and for [`EngineKind::Auto`] why it is not the preferred one. `probe` tells
/// whether the kernel has io_uring, and is asked only if that is wanted.
fn choose(
    wanted: EngineKind,
    spin: Duration,
    io_uring: &Capability,
    probe: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(EngineKind, Option<EngineError>), EngineError> {
    match wanted {
        EngineKind::Poll => Ok((EngineKind::Poll, None)),
        EngineKind::Auto if !spin.is_zero() => Ok((EngineKind::Poll, None)),
        EngineKind::Ring => io_uring.ask(probe).map(|_| (EngineKind::Ring, None)),
        EngineKind::Auto => Ok(match io_uring.ask(probe) {
            Ok(_) => (EngineKind::Ring, None),
            Err(refusal) => (EngineKind::Poll, Some(refusal)),
        }),
    }
}

/// What a step came to that was taken on a thread of its own.
fn outcome_of(step: JoinHandle<io::Result<()>>) -> io::Result<()> {
    let outcome = step.join();
    outcome.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
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
            let io_uring = Capability::default();
            let (engine, refusal) = choose(wanted, spin, &io_uring, never).unwrap();
            assert_eq!(engine, EngineKind::Poll);
            assert!(refusal.is_none());
            assert_eq!(io_uring.grant(), Grant::Off);
        }
    }

    #[test]
    fn without_io_uring_auto_takes_the_other_and_ring_fails() {
        let zero = Duration::ZERO;
        let io_uring = Capability::default();
        let refuse = || Err(refused());
        let (engine, refusal) = choose(EngineKind::Auto, zero, &io_uring, refuse).unwrap();
        assert_eq!(engine, EngineKind::Poll);
        assert!(matches!(refusal, Some(EngineError::RingRefused(_))));
        assert_eq!(io_uring.grant(), Grant::Refused);
        let io_uring = Capability::default();
        assert!(choose(EngineKind::Ring, zero, &io_uring, refuse).is_err());
        for wanted in [EngineKind::Auto, EngineKind::Ring] {
            let io_uring = Capability::default();
            let (engine, refusal) = choose(wanted, zero, &io_uring, || Ok(())).unwrap();
            assert_eq!(engine, EngineKind::Ring);
            assert!(refusal.is_none());
            assert_eq!(io_uring.grant(), Grant::On);
        }
    }
}
