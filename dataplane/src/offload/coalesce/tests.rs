use super::*;
use crate::offload::segment::{MAX_HEADER_LEN, Segmenter, finish_checksum};
use crate::offload::testing::{
    ACK, CWR, ECE, FIN, Memory, PSH, RST, SYN, Spec, URG, assert_valid, fix_ipv4_checksum,
    super_packets,
};
use crate::offload::vnet_hdr::{self, VnetHdr};
use proptest::prelude::*;

mod batches;
mod checksums;
mod merging;
mod properties;
mod refusals;
mod whole;

const MTU: usize = 1450;
const ROOM: usize = 22;

/// A coalescer and the buffers of one batch, each packet behind `room` bytes of its own.
struct Bench {
    coalescer: Coalescer,
    memory: Memory,
    trust: Trust,
    room: usize,
}

/// A write as the kernel gets it.
#[derive(Debug, PartialEq)]
struct Written {
    hdr: VnetHdr,
    ip: Vec<u8>,
    segments: usize,
}

impl Bench {
    fn new(trust: Trust) -> Bench {
        Bench::with_limits(trust, Limits::new(MTU))
    }

    fn with_limits(trust: Trust, limits: Limits) -> Bench {
        Bench {
            coalescer: Coalescer::new(300, Layout::V1, limits).unwrap(),
            memory: Memory::default(),
            trust,
            room: ROOM,
        }
    }

    fn try_push(&mut self, ip: &[u8], super_gso: Option<u16>) -> Result<(), PushError> {
        let mut buffer = vec![0xee; self.room];
        buffer.extend(ip);
        self.memory.0.push(buffer);
        let at = Packet {
            buffer: (self.memory.0.len() - 1) as u16,
            room: self.room as u16,
            offset: self.room as u32,
            len: ip.len() as u32,
        };
        self.coalescer.push(at, ip, self.trust, super_gso)
    }

    fn push(&mut self, ip: &[u8]) {
        self.try_push(ip, None).unwrap();
    }

    fn finish(&mut self) -> Vec<Written> {
        self.coalescer.finish(&mut self.memory);
        let write = |write: &Write| {
            let bytes = self.memory.gather(write.pieces(), self.coalescer.arena());
            assert_eq!(bytes.len(), write.bytes());
            assert_eq!(bytes.len(), write.ip_len() + Layout::V1.len());
            let hdr = VnetHdr::decode(&bytes, Layout::V1).unwrap();
            assert_eq!(write.is_super(), hdr.gso() != vnet_hdr::GSO_NONE);
            Written {
                hdr,
                ip: bytes[Layout::V1.len()..].to_vec(),
                segments: write.segments(),
            }
        };
        self.coalescer.writes().iter().map(write).collect()
    }
}

fn coalesce(packets: &[Vec<u8>], trust: Trust) -> Vec<Written> {
    let mut bench = Bench::new(trust);
    packets.iter().for_each(|packet| bench.push(packet));
    bench.finish()
}

/// Segments a write, in number of packets merged.
fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    let counts = |trust| -> Vec<usize> {
        let writes = coalesce(packets, trust);
        writes.iter().map(|write| write.segments).collect()
    };
    let vouched = counts(Trust::Vouched);
    assert_eq!(counts(Trust::Unknown), vouched);
    vouched
}

/// What the kernel makes of writes when it has to segment and checksum them.
fn deliver(writes: &[Written]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for Written { hdr, ip, .. } in writes {
        if hdr.gso() == vnet_hdr::GSO_NONE {
            let mut ip = ip.clone();
            finish_checksum(hdr, &mut ip).unwrap();
            packets.push(ip);
            continue;
        }
        let mut segmenter = Segmenter::new(hdr, ip).unwrap();
        let mut slot = [0; MAX_HEADER_LEN];
        while let Some(payload) = segmenter.segment(ip, &mut slot) {
            let mut packet = slot[..segmenter.header_len()].to_vec();
            packet.extend(&ip[payload]);
            packets.push(packet);
        }
    }
    packets
}

fn build(specs: &[Spec]) -> Vec<Vec<u8>> {
    specs.iter().map(Spec::build).collect()
}

/// Segments of 100 bytes of one flow, the given field changed on the third of four.
fn third(base: &Spec, change: impl Fn(&mut Spec)) -> Vec<usize> {
    let mut specs = run(base, &[100; 4]);
    change(&mut specs[2]);
    counts(&build(&specs))
}

/// Segments of one flow in a row, of these payload lengths.
fn run(base: &Spec, payloads: &[usize]) -> Vec<Spec> {
    let mut seq = base.seq;
    let payloads = payloads.iter().enumerate();
    payloads
        .map(|(i, &len)| {
            let spec = Spec {
                seq,
                ident: base.ident.wrapping_add(i as u16),
                payload: Spec::tcp4(len).payload,
                ..base.clone()
            };
            seq = seq.wrapping_add(len as u32);
            spec
        })
        .collect()
}
