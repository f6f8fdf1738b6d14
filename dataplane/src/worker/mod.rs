//! Run-to-completion loops, each with a thread, a ring and a direction of its own.
//!
//! Queue i of the TUN, receive socket i and the two threads that serve them never cross
//! with others, so a flow is never reordered. Two threads a queue, one per direction,
//! measured better than one for both: a thread that sends does not delay what arrives.

pub mod decap;
pub mod encap;
pub mod flow;

use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::{MAX_FRAMES, SendPlan};
use crate::offload::vnet_hdr::Layout;
use crate::route::publish::{Publisher, Subscription};
use crate::stats::WorkerStats;
use crate::sys::affinity;
use crate::sys::event::StopEvent;
use crate::sys::ring::RingError;
use crate::sys::ring::decap::DecapRing;
use crate::sys::ring::encap::EncapRing;
use crate::sys::tun::{Tun, TunQueue};
use crate::sys::udp::{self, SocketError};
use socket2::Socket;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use thiserror::Error;

/// Sends that one batch may consist of before it must leave.
const PLAN_SENDS: usize = 64;

/// Bytes of headers in one plan: those of 900 segments with TCP timestamps.
const PLAN_ARENA: usize = 64 << 10;

/// Writes that one batch may consist of.
const COALESCER_WRITES: usize = 256;

const _: () = assert!(PLAN_ARENA >= encap::MAX_HEADER);

/// How the dataplane is to run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Underlay address to send from.
    pub local: IpAddr,
    /// VXLAN port to receive on.
    pub port: u16,
    /// MTU of the TUN in bytes.
    pub mtu: usize,
    /// Sockets to send from, each with its own source port (1 to 255).
    pub tx_sockets: u8,
    /// Send trains with `UDP_SEGMENT`.
    pub udp_gso: bool,
    /// Receive trains with `UDP_GRO`.
    pub udp_gro: bool,
}

/// Why the dataplane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A thread or the stop event.
    #[error("starting workers: {0}")]
    Thread(#[from] io::Error),
    /// A worker ended before it said how it fared.
    #[error("a worker ended while it started")]
    Died,
}

/// The running workers. Dropping it stops them.
pub struct Dataplane {
    stop: Arc<StopEvent>,
    threads: Vec<JoinHandle<()>>,
    stats: Vec<Arc<WorkerStats>>,
    failure: Arc<Mutex<Option<String>>>,
}

/// What every worker thread gets.
struct Common {
    stop: Arc<StopEvent>,
    stats: Arc<WorkerStats>,
    subscription: Subscription,
    core: Option<core_affinity::CoreId>,
    started: SyncSender<Result<(), RingError>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Dataplane {
    /// Open the sockets and start two workers per queue of `tun`, which read the tables of
    /// `publisher`. Returns once all of them run.
    pub fn start(tun: Tun, config: Config, publisher: &Publisher) -> Result<Dataplane, StartError> {
        let queues = tun.into_queues();
        // One pool for all workers: the outer source port, by which the peer picks its worker,
        // must depend on the inner flow alone. With a pool each, a flow that moves to another
        // queue here moves to another worker there, whose writes move it again here, for ever.
        let senders: Arc<[Socket]> =
            udp::senders(config.local, usize::from(config.tx_sockets.max(1)))?.into();
        let receivers = udp::receivers(config.local, config.port, queues.len(), config.udp_gro)?;
        let cores = affinity::assign(&affinity::allowed_cores(), queues.len() * 2);
        let mut dataplane = Dataplane {
            stop: Arc::new(StopEvent::new()?),
            threads: Vec::new(),
            stats: Vec::new(),
            failure: Arc::default(),
        };
        let (started, starts) = mpsc::sync_channel(queues.len() * 2);
        for (index, (queue, receiver)) in queues.into_iter().zip(receivers).enumerate() {
            let queue = Arc::new(queue);
            let common = dataplane.common(publisher, cores[2 * index], &started);
            dataplane.spawn_encap(index, common, queue.clone(), senders.clone(), config)?;
            let common = dataplane.common(publisher, cores[2 * index + 1], &started);
            dataplane.spawn_decap(index, common, queue, receiver, config)?;
        }
        drop(started);
        dataplane.await_starts(&starts)?;
        Ok(dataplane)
    }

    fn await_starts(&self, starts: &Receiver<Result<(), RingError>>) -> Result<(), StartError> {
        for _ in &self.threads {
            starts.recv().map_err(|_| StartError::Died)??;
        }
        Ok(())
    }

    fn common(
        &mut self,
        publisher: &Publisher,
        core: Option<core_affinity::CoreId>,
        started: &SyncSender<Result<(), RingError>>,
    ) -> Common {
        let stats = Arc::new(WorkerStats::default());
        self.stats.push(stats.clone());
        Common {
            stop: self.stop.clone(),
            stats,
            subscription: publisher.subscribe(),
            core,
            started: started.clone(),
            failure: self.failure.clone(),
        }
    }

    fn spawn_encap(
        &mut self,
        index: usize,
        common: Common,
        queue: Arc<TunQueue>,
        senders: Arc<[Socket]>,
        config: Config,
    ) -> io::Result<()> {
        let buckets = config.tx_sockets.max(1);
        let max_frames = if config.udp_gso { MAX_FRAMES as u16 } else { 1 };
        self.spawn(format!("weft-encap-{index}"), common, move |common| {
            let plan = SendPlan::new(PLAN_SENDS, PLAN_ARENA, max_frames);
            let stats = common.stats.clone();
            let io = EncapRing::new(queue, senders, &common.stop, plan, stats)?;
            Ok(move |common: Common| {
                encap::run(
                    io,
                    common.subscription.into_reader(),
                    &common.stats,
                    buckets,
                )
            })
        })
    }

    fn spawn_decap(
        &mut self,
        index: usize,
        common: Common,
        queue: Arc<TunQueue>,
        receiver: Socket,
        config: Config,
    ) -> io::Result<()> {
        let mtu = config.mtu;
        self.spawn(format!("weft-decap-{index}"), common, move |common| {
            // Before Linux 6.9 a UDP super-packet has 64 segments at most, and a received train
            // has no more in any version.
            let limits = Limits {
                udp_segments: 64,
                ..Limits::new(mtu)
            };
            let coalescer = Coalescer::new(COALESCER_WRITES, Layout::Legacy, limits)?;
            let stats = common.stats.clone();
            let io = DecapRing::new(receiver, queue, &common.stop, coalescer, stats)?;
            Ok(move |common: Common| {
                decap::run(io, common.subscription.into_reader(), &common.stats, mtu)
            })
        })
    }

    /// Start a thread that first makes what it needs (rings belong to their thread), reports
    /// how that went, and then runs.
    fn spawn<Make, Run>(&mut self, name: String, common: Common, make: Make) -> io::Result<()>
    where
        Make: FnOnce(&Common) -> Result<Run, RingError> + Send + 'static,
        Run: FnOnce(Common) -> Result<(), RingError>,
    {
        let builder = std::thread::Builder::new().name(name.clone());
        self.threads.push(builder.spawn(move || {
            affinity::schedule_as_batch();
            if let Some(core) = common.core {
                affinity::pin(core);
            }
            let run = match make(&common) {
                Ok(run) => run,
                Err(error) => {
                    // The starter has gone when another worker failed first.
                    let _ = common.started.send(Err(error));
                    return;
                }
            };
            let _ = common.started.send(Ok(()));
            let failure = common.failure.clone();
            if let Err(error) = run(common) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(format!("{name}: {error}"));
            }
        })?);
        Ok(())
    }

    /// The counters of every worker.
    pub fn stats(&self) -> impl Iterator<Item = &WorkerStats> + Clone {
        self.stats.iter().map(|stats| &**stats)
    }

    /// Why a worker ended, if one did.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() && self.threads.iter().any(JoinHandle::is_finished) {
            return Some("a worker thread ended".to_owned());
        }
        failure.clone()
    }

    /// Stop the workers and wait for them.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop.raise();
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}
