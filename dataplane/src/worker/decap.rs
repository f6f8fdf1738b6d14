//! Underlay to TUN: frames become packets and super-packets.

use crate::mtu::pods::PodMtus;
use crate::offload::coalesce::{Packet, PushError, Trust};
use crate::offload::ecn;
use crate::offload::train::{self, Shape};
use crate::route::admit::{self, AdmittedSender};
use crate::route::table::Table;
use crate::stats::{Count, DropReason, WorkerStats};
use crate::sys::clock::Clock;
use crate::sys::engine::{DecapIo, EngineError, Received};
use crate::wire::ip::IpPacket;
use std::sync::Arc;

/// What a decap worker knows of the packets that the TUN and what is behind it take.
#[derive(Clone)]
pub struct Inside {
    /// MTU of the TUN in bytes.
    pub mtu: usize,
    /// MTUs of the pods.
    pub pods: Arc<PodMtus>,
    /// Tells how old what was learned of them is.
    pub clock: Clock,
}

impl Inside {
    /// The time in milliseconds, while anything learned is believed.
    fn now(&self) -> Option<u64> {
        if self.pods.is_empty() {
            return None;
        }
        Some(self.clock.now_ms()).filter(|&now| self.pods.any(now))
    }
}

/// Take the datagrams of one batch and hand their packets to the coalescer. The last ones
/// are left for the engine to write with the end of the batch.
pub fn batch(
    io: &mut impl DecapIo,
    table: &Table,
    stats: &WorkerStats,
    inside: &Inside,
) -> Result<(), EngineError> {
    io.parts().0.set_pod_mtu(inside.pods.most());
    let learned = inside.now().map(|now| (&*inside.pods, now));
    while let Some(datagram) = io.take()? {
        stats.add(Count::Receives, 1);
        decap(io, &datagram, table, stats, (inside.mtu, learned))?;
    }
    Ok(())
}

/// MTUs of single pods and the time, while any are believed.
type Learned<'a> = Option<(&'a PodMtus, u64)>;

fn decap(
    io: &mut impl DecapIo,
    datagram: &Received,
    table: &Table,
    stats: &WorkerStats,
    (mtu, learned): (usize, Learned<'_>),
) -> Result<(), EngineError> {
    let end = datagram.offset + datagram.len;
    let payload = io
        .parts()
        .1
        .bytes(datagram.buffer)
        .get(datagram.offset..end);
    let wire = table.overlay().wire;
    let gro_size = datagram.meta.gro_size;
    let shape = train::shape(wire, payload.unwrap_or(&[]), gro_size, mtu);
    let stride = match shape {
        Shape::Train { stride } => stride,
        Shape::Single | Shape::Super { .. } => datagram.len,
    };
    let frames = train::frames(datagram.len, stride);
    count(stats, shape, frames.len());
    let sender = match (datagram.truncated, datagram.source) {
        (true, _) => Err(DropReason::Truncated),
        (false, None) => Err(DropReason::UnknownSender),
        (false, Some(source)) => admit::sender(table, source),
    };
    let sender = match sender {
        Ok(sender) => sender,
        Err(reason) => {
            stats.count_drops(reason, frames.len() as u64);
            return Ok(());
        }
    };
    for frame in frames {
        let frame = (datagram.offset + frame.start, frame.len());
        loop {
            match push(io, datagram, frame, shape, (&sender, table), learned) {
                Ok(()) => break,
                Err(PushError::Full) => io.flush()?,
                Err(PushError::Drop(reason)) => {
                    stats.count_drop(reason);
                    break;
                }
            }
        }
    }
    Ok(())
}

fn count(stats: &WorkerStats, shape: Shape, frames: usize) {
    stats.add(Count::FramesReceived, frames as u64);
    match shape {
        Shape::Train { .. } => stats.add(Count::TrainsReceived, 1),
        Shape::Super { .. } => stats.add(Count::SuperFramesReceived, 1),
        Shape::Single => {}
    }
}

/// Admit one frame, given as offset and length in its buffer, and hand its packet to the
/// coalescer. May be called again for the same frame after [`PushError::Full`].
fn push(
    io: &mut impl DecapIo,
    datagram: &Received,
    (offset, len): (usize, usize),
    shape: Shape,
    (sender, table): (&AdmittedSender, &Table),
    learned: Learned<'_>,
) -> Result<(), PushError> {
    let (coalescer, buffers) = io.parts();
    let frame = buffers
        .bytes_mut(datagram.buffer)
        .get_mut(offset..offset + len)
        .ok_or(PushError::Drop(DropReason::BadVxlan))?;
    let inner = sender.frame(table, frame).map_err(PushError::Drop)?;
    let ip = &mut frame[inner.ip_offset..inner.ip_offset + inner.ip_len];
    ecn::decap(datagram.meta.ecn, ip).map_err(PushError::Drop)?;
    // A packet that all pods take needs no look at whose it is.
    if let Some((pods, now)) = learned
        && ip.len() > pods.least()
        && let Ok(packet) = IpPacket::new(ip)
    {
        coalescer.set_pod_mtu(pods.get(packet.dst(), now));
    }
    let packet = Packet {
        buffer: datagram.buffer,
        room: inner.ip_offset as u16,
        offset: (offset + inner.ip_offset) as u32,
        len: inner.ip_len as u32,
    };
    // The kernel merges datagrams into trains only after it has verified their checksums.
    let trust = match datagram.meta.gro_size {
        Some(_) => Trust::Vouched,
        None => Trust::Unknown,
    };
    let super_gso = match shape {
        Shape::Super { gso_size } => gso_size,
        Shape::Single | Shape::Train { .. } => None,
    };
    coalescer.push(packet, ip, trust, super_gso)
}

#[cfg(test)]
mod tests;
