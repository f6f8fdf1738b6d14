//! Workers over plain system calls.

use super::decap::Inside;
use super::encap::Egress;
use super::oversize::Oversize;
use super::threads::{Common, Threads};
use super::tunnel_gso::TunnelGsoGate;
use super::{Config, Lane, decap, encap};
use crate::mtu::pods::PodMtus;
use crate::publish::Publisher;
use crate::stats::losses::PeerLosses;
use crate::sys::clock::Clock;
use crate::sys::engine::EngineError;
use crate::sys::path::PathProbe;
use crate::sys::poll::Waiter;
use crate::sys::poll::decap::DecapPoll;
use crate::sys::poll::encap::EncapPoll;
use crate::sys::refusals::Refusals;
use crate::sys::sender::Sender;
use crate::sys::tun::TunQueue;
use socket2::Socket;
use std::io;
use std::sync::Arc;

/// Start the workers of a lane: one for each direction, or where they spin, one for both,
/// because two that spin for one queue would keep each other from their cores.
pub(super) fn start(threads: &mut Threads, publisher: &Publisher, lane: Lane) -> io::Result<()> {
    let Lane {
        index,
        queue,
        senders,
        tunnel_gso,
        receiver,
        probe,
        losses,
        oversize,
        pods,
        clock,
        config,
    } = lane;
    let spin = config.spin;
    let encap = EncapParts {
        queue: queue.clone(),
        senders,
        tunnel_gso,
        probe,
        losses,
        oversize,
        pods: pods.clone(),
        clock,
        config,
    };
    let decap = DecapParts {
        queue,
        receiver,
        inside: Inside {
            mtu: config.mtu,
            pods,
            clock,
        },
        config,
    };
    if !spin.is_zero() {
        return threads.spawn(format!("weft-both-{index}"), publisher, move |common| {
            let waiter = Waiter::new(common.stop.clone(), spin)?;
            let encap = Some(encap.open(&waiter, common)?);
            let decap = Some(decap.open(&waiter, common)?);
            Ok(move |common| run(waiter, encap, decap, common))
        });
    }
    threads.spawn(format!("weft-encap-{index}"), publisher, move |common| {
        let waiter = Waiter::new(common.stop.clone(), spin)?;
        let encap = Some(encap.open(&waiter, common)?);
        Ok(move |common| run(waiter, encap, None, common))
    })?;
    threads.spawn(format!("weft-decap-{index}"), publisher, move |common| {
        let waiter = Waiter::new(common.stop.clone(), spin)?;
        let decap = Some(decap.open(&waiter, common)?);
        Ok(move |common| run(waiter, None, decap, common))
    })
}

/// What one direction needs, before its thread has it.
struct EncapParts {
    queue: Arc<TunQueue>,
    senders: Arc<[Socket]>,
    tunnel_gso: Option<Arc<TunnelGsoGate>>,
    probe: PathProbe,
    losses: Arc<PeerLosses>,
    oversize: Oversize,
    pods: Arc<PodMtus>,
    clock: Clock,
    config: Config,
}

struct DecapParts {
    queue: Arc<TunQueue>,
    receiver: Socket,
    inside: Inside,
    config: Config,
}

/// A direction at work.
struct Encap {
    io: EncapPoll,
    egress: Egress,
    oversize: Oversize,
    clock: Clock,
}

struct Decap {
    io: DecapPoll,
    inside: Inside,
}

impl EncapParts {
    fn open(self, waiter: &Waiter, common: &Common) -> Result<Encap, EngineError> {
        let tap = self.tunnel_gso.as_ref().map(|gate| gate.tap());
        let stats = common.stats.clone();
        let refusals = Refusals::new(self.probe, self.losses, self.clock, stats.clone());
        let sender = Sender::new(self.senders, tap, refusals);
        let plan = self.config.plan();
        Ok(Encap {
            io: EncapPoll::new(self.queue, sender, waiter, plan, stats)?,
            egress: Egress::new(
                self.config.tx_sockets,
                self.tunnel_gso,
                self.clock,
                self.pods,
            ),
            oversize: self.oversize,
            clock: self.clock,
        })
    }
}

impl DecapParts {
    fn open(self, waiter: &Waiter, common: &Common) -> Result<Decap, EngineError> {
        let stats = common.stats.clone();
        let coalescer = self.config.coalescer()?;
        Ok(Decap {
            io: DecapPoll::new(self.receiver, self.queue, waiter, coalescer, stats)?,
            inside: self.inside,
        })
    }
}

/// Carry packets until the stop event is raised or the engine fails. Batches of the two
/// directions alternate; only when all inputs are empty does the thread wait.
fn run(
    mut waiter: Waiter,
    mut encap: Option<Encap>,
    mut decap: Option<Decap>,
    common: Common,
) -> Result<(), EngineError> {
    let mut reader = common.subscription.into_reader();
    let stats = &*common.stats;
    while !waiter.stopped() {
        let mut drained = true;
        if let Some(Decap { io, inside }) = &mut decap {
            decap::batch(io, reader.table(), stats, inside)?;
            drained &= io.end_batch()?;
        }
        if let Some(encap) = &mut encap {
            let Encap {
                io,
                egress,
                oversize,
                clock,
            } = encap;
            oversize.begin(|| clock.now_ms());
            encap::batch(io, reader.table(), stats, egress, oversize)?;
            drained &= io.end_batch()?;
        }
        match drained {
            true => reader.wait(|| waiter.wait())?,
            false => reader.refresh(),
        }
    }
    Ok(())
}
