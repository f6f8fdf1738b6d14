//! Workers over io_uring: one thread and one ring for each direction.

use super::decap::Inside;
use super::encap::Egress;
use super::oversize::Oversize;
use super::threads::{Common, Threads};
use super::{Lane, decap, encap};
use crate::publish::{Publisher, Reader};
use crate::stats::WorkerStats;
use crate::sys::clock::Clock;
use crate::sys::engine::EngineError;
use crate::sys::event::StopEvent;
use crate::sys::refusals::Refusals;
use crate::sys::ring::decap::DecapRing;
use crate::sys::ring::encap::EncapRing;
use crate::sys::sender::Sender;
use std::io;

/// Start the two workers of a lane.
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
    let tun = queue.clone();
    let tap = tunnel_gso.as_ref().map(|gate| gate.tap());
    let inside = Inside {
        mtu: config.mtu,
        pods: pods.clone(),
        clock,
    };
    let egress = Egress::new(config.tx_sockets, tunnel_gso, clock, pods);
    threads.spawn(format!("weft-encap-{index}"), publisher, move |common| {
        let stats = common.stats.clone();
        let refusals = Refusals::new(probe, losses, clock, stats.clone());
        let sender = Sender::new(senders, tap, refusals);
        let io = EncapRing::new(tun, sender, &common.stop, config.plan(), stats)?;
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            let stats = &*common.stats;
            run_encap(io, reader, stats, &common.stop, egress, oversize, clock)
        })
    })?;
    threads.spawn(format!("weft-decap-{index}"), publisher, move |common| {
        let stats = common.stats.clone();
        let io = DecapRing::new(receiver, queue, &common.stop, config.coalescer()?, stats)?;
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            let stats = &*common.stats;
            run_decap(io, reader, stats, &common.stop, &inside)
        })
    })
}

/// Encapsulate until the stop event is raised or the ring fails.
fn run_encap(
    mut io: EncapRing,
    mut reader: Reader,
    stats: &WorkerStats,
    stop: &StopEvent,
    mut egress: Egress,
    mut oversize: Oversize,
    clock: Clock,
) -> Result<(), EngineError> {
    while !io.stopped() && !stop.is_raised() {
        oversize.begin(|| clock.now_ms());
        encap::batch(&mut io, reader.table(), stats, &mut egress, &mut oversize)?;
        reader.wait(|| io.next_batch())?;
    }
    Ok(())
}

/// Decapsulate until the stop event is raised or the ring fails.
fn run_decap(
    mut io: DecapRing,
    mut reader: Reader,
    stats: &WorkerStats,
    stop: &StopEvent,
    inside: &Inside,
) -> Result<(), EngineError> {
    while !io.stopped() && !stop.is_raised() {
        decap::batch(&mut io, reader.table(), stats, inside)?;
        reader.wait(|| io.next_batch())?;
    }
    Ok(())
}
