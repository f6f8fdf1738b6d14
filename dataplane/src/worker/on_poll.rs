//! Workers over plain system calls: one thread for each direction.

use super::encap::Egress;
use super::threads::{Common, Threads};
use super::{Lane, decap, encap};
use crate::route::publish::{Publisher, Reader};
use crate::stats::WorkerStats;
use crate::sys::engine::EngineError;
use crate::sys::poll::Waiter;
use crate::sys::poll::decap::DecapPoll;
use crate::sys::poll::encap::EncapPoll;
use std::io;

/// Start the two workers of a lane.
pub(super) fn start(threads: &mut Threads, publisher: &Publisher, lane: Lane) -> io::Result<()> {
    let Lane {
        index,
        queue,
        senders,
        tunnel,
        receiver,
        config,
    } = lane;
    let tun = queue.clone();
    let tap = tunnel.as_ref().map(|way| way.tap());
    let egress = Egress::new(config.buckets(), tunnel);
    threads.spawn(format!("weft-encap-{index}"), publisher, move |common| {
        let waiter = Waiter::new(common.stop.clone())?;
        let stats = common.stats.clone();
        let io = EncapPoll::new(tun, senders, tap, &waiter, config.plan(), stats)?;
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            run_encap(io, waiter, reader, &common.stats, egress)
        })
    })?;
    threads.spawn(format!("weft-decap-{index}"), publisher, move |common| {
        let waiter = Waiter::new(common.stop.clone())?;
        let stats = common.stats.clone();
        let io = DecapPoll::new(receiver, queue, &waiter, config.coalescer()?, stats)?;
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            run_decap(io, waiter, reader, &common.stats, config.mtu)
        })
    })
}

/// Encapsulate until the stop event is raised or the engine fails.
fn run_encap(
    mut io: EncapPoll,
    mut waiter: Waiter,
    mut reader: Reader,
    stats: &WorkerStats,
    mut egress: Egress,
) -> Result<(), EngineError> {
    while !waiter.stopped() {
        encap::batch(&mut io, reader.table(), stats, &mut egress)?;
        match io.end_batch()? {
            true => reader.wait(|| waiter.wait())?,
            false => reader.refresh(),
        }
    }
    Ok(())
}

/// Decapsulate until the stop event is raised or the engine fails. `mtu` is the TUN's.
fn run_decap(
    mut io: DecapPoll,
    mut waiter: Waiter,
    mut reader: Reader,
    stats: &WorkerStats,
    mtu: usize,
) -> Result<(), EngineError> {
    while !waiter.stopped() {
        decap::batch(&mut io, reader.table(), stats, mtu)?;
        match io.end_batch()? {
            true => reader.wait(|| waiter.wait())?,
            false => reader.refresh(),
        }
    }
    Ok(())
}
