//! From the TUN to the send plan.

use super::{Arrival, FAR, MTU, NEAR, Replay, subnet, table};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::mtu::pods::PodMtus;
use weft_dataplane::offload::plan::{MAX_FRAMES, SendPlan, Source};
use weft_dataplane::offload::vnet_hdr::{Layout, VnetHdr};
use weft_dataplane::route::table::Table;
use weft_dataplane::stats::{WorkerStats, summary};
use weft_dataplane::sys::buffers::Buffers;
use weft_dataplane::sys::clock::Clock;
use weft_dataplane::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use weft_dataplane::sys::tun::VNET_HDR_LEN;
use weft_dataplane::wire::ip::IpPacket;
use weft_dataplane::worker::egress::Egress;
use weft_dataplane::worker::encap;
use weft_dataplane::worker::path_limits::PathLimits;

/// Packets that one batch may have.
const BATCH: usize = 64;

/// Bytes after which a batch takes no further packet, as in both engines.
const BATCH_BYTES: usize = 256 << 10;

/// The agent's default number of send sockets.
const BUCKETS: u8 = 8;

/// A peer that no packet is for.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));

/// One read from the TUN.
#[derive(Clone, Debug)]
pub struct TunRead {
    /// What precedes the packet.
    pub offload: VnetHdr,
    /// The packet.
    pub ip: Vec<u8>,
}

/// Encapsulates one batch.
pub struct Encap {
    io: Reads,
    egress: Egress,
    table: Table,
    stats: WorkerStats,
}

impl Encap {
    /// A batch of the first of `reads`, as many as one batch takes, and the rest.
    pub fn new(reads: &[TunRead]) -> (Encap, &[TunRead]) {
        let mut bytes = 0;
        let count = reads
            .iter()
            .take(BATCH)
            .take_while(|read| {
                let more = bytes < BATCH_BYTES;
                bytes += VNET_HDR_LEN + read.ip.len();
                more
            })
            .count();
        let (batch, rest) = reads.split_at(count);
        let mut subnets: Vec<_> = batch.iter().filter_map(destination).collect();
        subnets.sort_unstable();
        subnets.dedup();
        let encap = Encap {
            io: Reads::new(batch),
            egress: egress(Arc::new(PathMtus::new())),
            table: table(NEAR, FAR, &subnets),
            stats: WorkerStats::default(),
        };
        (encap, rest)
    }

    /// The same on a node that has learned the MTU of the path to another peer.
    pub fn with_other_path(self) -> Encap {
        let paths = Arc::new(PathMtus::new());
        paths.learn(OTHER, 1400, Clock::start().now_ms());
        Encap {
            egress: egress(paths),
            ..self
        }
    }

    /// One [`Encap`] for each batch of `reads`.
    pub fn batches(mut reads: &[TunRead]) -> Vec<Encap> {
        let mut batches = Vec::new();
        while !reads.is_empty() {
            let (batch, rest) = Encap::new(reads);
            batches.push(batch);
            reads = rest;
        }
        batches
    }

    /// What the last [`Replay::run`] planned, as the peer's socket gets it with `UDP_GRO`.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let plan = &self.io.plan;
        let arrival = |send: &weft_dataplane::offload::plan::Send| {
            let mut payload = Vec::with_capacity(send.bytes as usize);
            for piece in send.pieces() {
                let memory = match piece.source {
                    Source::Arena => plan.arena(),
                    Source::Buffer(id) => self.io.buffers.bytes(id),
                };
                let start = piece.offset as usize;
                payload.extend_from_slice(&memory[start..start + piece.len as usize]);
            }
            Arrival {
                payload,
                gro_size: (send.frames > 1).then_some(send.stride),
            }
        };
        plan.sends().iter().map(arrival).collect()
    }

    /// What all runs together read, and dropped, by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        summary(std::iter::once(&self.stats))
    }

    /// Packets of the batch.
    pub fn packets(&self) -> usize {
        self.io.recorded.len()
    }

    /// Bytes of the batch's IP packets.
    pub fn bytes(&self) -> usize {
        self.io.recorded.iter().map(|read| read.ip.len()).sum()
    }
}

impl Replay for Encap {
    fn rewind(&mut self) {
        self.io.rewind();
    }

    fn run(&mut self) {
        let done = encap::batch(&mut self.io, &self.table, &self.stats, &mut self.egress);
        assert!(done.is_ok(), "nothing can fail without a kernel");
    }
}

/// Through the agent's default number of sockets, in packets that `paths` allow.
fn egress(paths: Arc<PathMtus>) -> Egress {
    let limits = PathLimits::new(paths, false);
    let pods = Arc::new(PodMtus::new(MTU));
    Egress::new(BUCKETS, limits, None, Clock::start(), pods)
}

fn destination(read: &TunRead) -> Option<ipnet::IpNet> {
    let packet = IpPacket::new(&read.ip).ok()?;
    Some(subnet(packet.dst()))
}

/// An engine that reads the same packets again and again, and sends into the void.
struct Reads {
    recorded: Vec<TunRead>,
    next: usize,
    plan: SendPlan,
    buffers: Buffers,
}

impl Reads {
    fn new(batch: &[TunRead]) -> Reads {
        let longest = batch.iter().map(|read| read.ip.len()).max().unwrap_or(0);
        let count = batch.len() as u16;
        let buffers = Buffers::detached(count, HEADROOM + longest);
        let mut reads = Reads {
            recorded: batch.to_vec(),
            next: 0,
            // Two for each packet: a plan that filled up would be lost.
            plan: SendPlan::new(2 * BATCH, 64 << 10, MAX_FRAMES as u16),
            buffers: buffers.expect("memory for one batch"),
        };
        reads.rewind();
        reads
    }

    fn rewind(&mut self) {
        for (id, read) in self.recorded.iter().enumerate() {
            let bytes = self.buffers.bytes_mut(id as u16);
            let (head, rest) = bytes.split_at_mut(HEADROOM);
            let header = &mut head[HEADROOM - VNET_HDR_LEN..];
            let encoded = read.offload.encode(header, Layout::Legacy);
            assert!(encoded.is_ok(), "the headroom holds the header");
            rest[..read.ip.len()].copy_from_slice(&read.ip);
        }
        self.plan.clear();
        self.next = 0;
    }
}

impl EncapIo for Reads {
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers) {
        (&mut self.plan, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        let Some(read) = self.recorded.get(self.next) else {
            return Ok(None);
        };
        let buffer = self.next as u16;
        self.next += 1;
        let len = read.ip.len();
        Ok(Some(TunPacket { buffer, len }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.plan.clear();
        Ok(())
    }

    fn reply(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}
