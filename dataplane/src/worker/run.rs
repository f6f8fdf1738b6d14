//! The loop of every worker, whichever engine moves its packets.

use super::config::Config;
use super::decap::{self, Inside};
use super::egress::Egress;
use super::encap;
use super::path_limits::PathLimits;
use super::threads::{Common, Threads};
use super::tunnel_gso::TunnelGsoGate;
use crate::caps::Caps;
use crate::mtu::pods::PodMtus;
use crate::publish::Publisher;
use crate::route::table::Table;
use crate::stats::WorkerStats;
use crate::stats::losses::PeerLosses;
use crate::sys::clock::Clock;
use crate::sys::engine::{DecapIo, DecapParts, EncapIo, EncapParts, Engine, EngineError};
use crate::sys::path::PathProbe;
use crate::sys::refusals::Refusals;
use crate::sys::sender::Sender;
use crate::sys::tun::TunQueue;
use socket2::Socket;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The TUN queues of one worker and the sockets that go with them.
pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) queues: Vec<Arc<TunQueue>>,
    /// Shared by all lanes.
    pub(super) senders: Arc<[Socket]>,
    /// Tunnel GSO, shared by all lanes.
    pub(super) tunnel_gso: Option<Arc<TunnelGsoGate>>,
    pub(super) receivers: Vec<Arc<Socket>>,
    pub(super) probe: PathProbe,
    /// Shared by all lanes.
    pub(super) losses: Arc<PeerLosses>,
    pub(super) limits: PathLimits,
    /// Shared by all lanes.
    pub(super) pods: Arc<PodMtus>,
    pub(super) clock: Clock,
    /// Shared by the lanes of all devices.
    pub(super) caps: Arc<Caps>,
    pub(super) config: Config,
    /// How long workers look for packets before they sleep.
    pub(super) spin: Duration,
}

/// Start the workers of a lane: one for each way, or one for both where it is to spin.
pub(super) fn start<E: Engine>(
    threads: &mut Threads,
    publisher: &Publisher,
    lane: Lane,
) -> io::Result<()> {
    let (index, spin) = (lane.index, lane.spin);
    let (outbound, inbound) = lane.split();
    if E::SPINS && !spin.is_zero() {
        let core = threads.next_core();
        return threads.spawn(
            core,
            format!("weft-both-{index}"),
            publisher,
            move |common| {
                let engine = E::open(common.stop.clone(), spin)?;
                let outbound = Some(outbound.open(&engine, common)?);
                let inbound = Some(inbound.open(&engine, common)?);
                Ok(move |common| run(engine, outbound, inbound, common))
            },
        );
    }
    let core = threads.next_core();
    threads.spawn(
        core,
        format!("weft-encap-{index}"),
        publisher,
        move |common| {
            let engine = E::open(common.stop.clone(), spin)?;
            let outbound = Some(outbound.open(&engine, common)?);
            Ok(move |common| run(engine, outbound, None, common))
        },
    )?;
    let core = threads.next_core();
    threads.spawn(
        core,
        format!("weft-decap-{index}"),
        publisher,
        move |common| {
            let engine = E::open(common.stop.clone(), spin)?;
            let inbound = Some(inbound.open(&engine, common)?);
            Ok(move |common| run(engine, None, inbound, common))
        },
    )
}

/// Carry packets until the stop event is raised or the engine fails. At the stop all that was read
/// still leaves: who reads next, here or in another process, neither misses nor overtakes any of it.
fn run<E: Engine>(
    mut engine: E,
    mut outbound: Option<EncapSide<E::Encap>>,
    mut inbound: Option<DecapSide<E::Decap>>,
    common: Common,
) -> Result<(), EngineError> {
    let mut reader = common.subscription.into_reader();
    let stats = &*common.stats;
    let (encap, decap) = inputs(&mut outbound, &mut inbound);
    engine.begin(encap, decap)?;
    while !engine.stopped() {
        batch(&mut outbound, &mut inbound, reader.table(), stats)?;
        let (encap, decap) = inputs(&mut outbound, &mut inbound);
        reader.wait(|| engine.wait(encap, decap))?;
    }
    loop {
        let (encap, decap) = inputs(&mut outbound, &mut inbound);
        if !engine.drain(encap, decap)? {
            // First: to give back rings and buffers takes as long again.
            drop(common.at_work);
            return Ok(());
        }
        batch(&mut outbound, &mut inbound, reader.table(), stats)?;
    }
}

/// Take and plan what there is, of each way.
fn batch(
    outbound: &mut Option<EncapSide<impl EncapIo>>,
    inbound: &mut Option<DecapSide<impl DecapIo>>,
    table: &Table,
    stats: &WorkerStats,
) -> Result<(), EngineError> {
    if let Some(DecapSide { io, inside }) = inbound {
        decap::batch(io, table, stats, inside)?;
        if outbound.is_some() {
            // What has arrived must not wait for a batch of what leaves.
            io.flush()?;
        }
    }
    if let Some(EncapSide { io, egress }) = outbound {
        encap::batch(io, table, stats, egress)?;
    }
    Ok(())
}

/// What an engine is given of both ways.
fn inputs<'a, O, I>(
    outbound: &'a mut Option<EncapSide<O>>,
    inbound: &'a mut Option<DecapSide<I>>,
) -> (Option<&'a mut O>, Option<&'a mut I>) {
    let encap = outbound.as_mut().map(|outbound| &mut outbound.io);
    let decap = inbound.as_mut().map(|inbound| &mut inbound.io);
    (encap, decap)
}

/// The way out at work.
struct EncapSide<I> {
    io: I,
    egress: Egress,
}

/// The way in at work.
struct DecapSide<I> {
    io: I,
    inside: Inside,
}

/// What the way out needs, before its thread has it.
struct EncapSetup {
    queues: Vec<Arc<TunQueue>>,
    senders: Arc<[Socket]>,
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    probe: PathProbe,
    losses: Arc<PeerLosses>,
    limits: PathLimits,
    pods: Arc<PodMtus>,
    clock: Clock,
    caps: Arc<Caps>,
    config: Config,
}

/// The same of the way in.
struct DecapSetup {
    sockets: Vec<Arc<Socket>>,
    queue: Arc<TunQueue>,
    inside: Inside,
    caps: Arc<Caps>,
    config: Config,
}

impl Lane {
    fn split(self) -> (EncapSetup, DecapSetup) {
        let inbound = DecapSetup {
            sockets: self.receivers,
            // Any of them takes what is written; a lane has one at least.
            queue: self.queues[0].clone(),
            inside: Inside {
                mtu: self.config.mtu,
                pods: self.pods.clone(),
                clock: self.clock,
            },
            caps: self.caps.clone(),
            config: self.config,
        };
        let outbound = EncapSetup {
            queues: self.queues,
            senders: self.senders,
            tunnel_gso: self.tunnel_gso,
            probe: self.probe,
            losses: self.losses,
            limits: self.limits,
            pods: self.pods,
            clock: self.clock,
            caps: self.caps,
            config: self.config,
        };
        (outbound, inbound)
    }
}

impl EncapSetup {
    fn open<E: Engine>(
        self,
        engine: &E,
        common: &Common,
    ) -> Result<EncapSide<E::Encap>, EngineError> {
        let tap = self.tunnel_gso.as_ref().map(|gate| gate.tap());
        let stats = common.stats.clone();
        let refusals = Refusals::new(
            self.probe,
            self.losses,
            self.caps.clone(),
            self.clock,
            stats.clone(),
        );
        let parts = EncapParts {
            queues: self.queues,
            sender: Sender::new(self.senders, tap, refusals),
            plan: self.config.plan(&self.caps),
            stats,
        };
        Ok(EncapSide {
            io: engine.encap(parts)?,
            egress: Egress::new(
                self.config.tx_sockets,
                self.limits,
                self.tunnel_gso,
                self.clock,
                self.pods,
            ),
        })
    }
}

impl DecapSetup {
    fn open<E: Engine>(
        self,
        engine: &E,
        common: &Common,
    ) -> Result<DecapSide<E::Decap>, EngineError> {
        let parts = DecapParts {
            sockets: self.sockets,
            queue: self.queue,
            coalescer: self.config.coalescer(&self.caps)?,
            stats: common.stats.clone(),
        };
        Ok(DecapSide {
            io: engine.decap(parts)?,
            inside: self.inside,
        })
    }
}

#[cfg(test)]
mod tests;
