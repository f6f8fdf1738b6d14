//! From received trains to the writes.

use super::arrival::Arrival;
use super::{FAR, MTU, NEAR, Replay, coalescer, subnet, table};
use std::sync::Arc;
use weft_dataplane::mtu::pods::PodMtus;
use weft_dataplane::offload::coalesce::Coalescer;
use weft_dataplane::route::table::Table;
use weft_dataplane::stats::{Count, WorkerStats, summary};
use weft_dataplane::sys::buffers::Buffers;
use weft_dataplane::sys::clock::Clock;
use weft_dataplane::sys::cmsg::RecvMeta;
use weft_dataplane::sys::engine::{DecapIo, EngineError, Received};
use weft_dataplane::wire::ecn::Ecn;
use weft_dataplane::wire::frame::FRAME_OVERHEAD;
use weft_dataplane::wire::ip::IpPacket;
use weft_dataplane::worker::decap::{self, Inside};

/// Decapsulates one batch.
pub struct Decap {
    io: Arrivals,
    inside: Inside,
    table: Table,
    stats: WorkerStats,
}

impl Decap {
    /// A batch of all of `arrivals`.
    pub fn new(arrivals: Vec<Arrival>) -> Decap {
        let mut subnets: Vec<_> = arrivals.iter().filter_map(source).collect();
        subnets.sort_unstable();
        subnets.dedup();
        Decap {
            io: Arrivals::new(arrivals),
            inside: Inside {
                mtu: MTU,
                pods: Arc::new(PodMtus::new(MTU)),
                clock: Clock::start(),
            },
            table: table(FAR, NEAR, &subnets),
            stats: WorkerStats::default(),
        }
    }

    /// What all runs together received, wrote and dropped, by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = summary(std::iter::once(&self.stats));
        counters.push((Count::TunWrites.name().to_owned(), self.io.writes));
        counters
    }

    /// The packets of the last run's writes, in order.
    pub fn written(&self) -> Vec<Vec<u8>> {
        self.io.written()
    }

    /// Datagrams and trains of the batch.
    pub fn datagrams(&self) -> usize {
        self.io.recorded.len()
    }
}

impl Replay for Decap {
    fn rewind(&mut self) {
        self.io.rewind();
    }

    fn run(&mut self) {
        let done = decap::batch(&mut self.io, &self.table, &self.stats, &self.inside);
        assert!(done.is_ok(), "nothing can fail without a kernel");
        self.io.finish();
    }
}

/// The subnet that the first packet comes from.
fn source(arrival: &Arrival) -> Option<ipnet::IpNet> {
    let packet = IpPacket::new(arrival.payload.get(FRAME_OVERHEAD..)?).ok()?;
    Some(subnet(packet.src()))
}

/// An engine that receives the same datagrams again and again, and writes into the void.
struct Arrivals {
    recorded: Vec<Arrival>,
    next: usize,
    coalescer: Coalescer,
    buffers: Buffers,
    writes: u64,
}

impl Arrivals {
    fn new(recorded: Vec<Arrival>) -> Arrivals {
        let longest = recorded.iter().map(|arrival| arrival.payload.len()).max();
        let buffers = Buffers::detached(recorded.len() as u16, longest.unwrap_or(0));
        let mut arrivals = Arrivals {
            recorded,
            next: 0,
            coalescer: coalescer(),
            buffers: buffers.expect("memory for one batch"),
            writes: 0,
        };
        arrivals.rewind();
        arrivals
    }

    fn rewind(&mut self) {
        for (id, arrival) in self.recorded.iter().enumerate() {
            let bytes = self.buffers.bytes_mut(id as u16);
            bytes[..arrival.payload.len()].copy_from_slice(&arrival.payload);
        }
        self.coalescer.clear();
        self.next = 0;
    }

    /// What an engine does before it writes.
    fn finish(&mut self) {
        self.coalescer.finish(&mut self.buffers);
        self.writes += self.coalescer.writes().len() as u64;
    }

    fn written(&self) -> Vec<Vec<u8>> {
        super::coalesce::written(&self.coalescer, &self.buffers)
    }
}

impl DecapIo for Arrivals {
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.coalescer, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<Received>, EngineError> {
        let Some(arrival) = self.recorded.get(self.next) else {
            return Ok(None);
        };
        let buffer = self.next as u16;
        self.next += 1;
        Ok(Some(Received {
            buffer,
            offset: 0,
            len: arrival.payload.len(),
            source: Some(NEAR.0),
            meta: RecvMeta {
                gro_size: arrival.gro_size,
                ecn: Ecn::NotEct,
            },
            truncated: false,
        }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.finish();
        self.coalescer.clear();
        Ok(())
    }
}
