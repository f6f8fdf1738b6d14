//! A worker's functions allocate nothing once they are set up.
//!
//! The test counts allocations of the whole process, so it is alone in its file, and without the
//! harness of tests, whose other thread allocates while a test begins.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::mtu::pods::PodMtus;
use weft_dataplane::offload::coalesce::{Coalescer, Limits, Packet, PacketBuffers, Trust};
use weft_dataplane::offload::plan::SendPlan;
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::route::admit;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::stats::{Count, DropReason, WorkerStats};
use weft_dataplane::sys::buffers;
use weft_dataplane::sys::clock::Clock;
use weft_dataplane::sys::engine::{EncapIo, EngineError, HEADROOM, TunPacket};
use weft_dataplane::wire::checksum::pseudo_v4;
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::wire::vxlan::Vni;
use weft_dataplane::worker::egress::Egress;
use weft_dataplane::worker::encap::{self, plan_packet};
use weft_dataplane::worker::path_limits::PathLimits;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEM: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// The table of a node whose only peer has `subnet` and `mac`.
fn table(local_mac: MacAddr, subnet: &str, mac: MacAddr) -> Table {
    let overlay = Overlay {
        vni: Vni::new(1).unwrap(),
        local_mac,
        network_v4: Some("10.244.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: "192.0.2.2:8472".parse().unwrap(),
        mac,
    };
    let prefix = subnet.parse().unwrap();
    Table::build(overlay, &[Route { prefix, peer }]).unwrap()
}

/// A TUN buffer with a TCP super-packet of `payload` bytes from 10.244.1.2 to 10.244.2.2.
fn super_packet(payload: usize) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((40 + payload as u16).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 244, 1, 2, 10, 244, 2, 2]);
    ip.extend([
        0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    ip.resize(40 + payload, 7);
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type: vnet_hdr::GSO_TCPV4,
        hdr_len: 40,
        gso_size: 1398,
        csum_start: 20,
        csum_offset: 16,
    };
    let mut buffer = vec![0; HEADROOM];
    offload
        .encode(&mut buffer[HEADROOM - 10..], Layout::Legacy)
        .unwrap();
    buffer.extend(ip);
    buffer
}

struct One(Vec<u8>);

impl PacketBuffers for One {
    fn bytes(&self, _: u16) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self, _: u16) -> &mut [u8] {
        &mut self.0
    }
}

/// An engine that reads one packet in each batch, again and again, and sends into the void.
struct Reads {
    plan: SendPlan,
    buffers: buffers::Buffers,
    /// The buffer as the TUN fills it.
    template: Vec<u8>,
    taken: bool,
    sends: usize,
}

impl EncapIo for Reads {
    fn parts(&mut self) -> (&mut SendPlan, &mut buffers::Buffers) {
        (&mut self.plan, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<TunPacket>, EngineError> {
        if std::mem::replace(&mut self.taken, true) {
            return Ok(None);
        }
        let bytes = self.buffers.bytes_mut(0);
        bytes[..self.template.len()].copy_from_slice(&self.template);
        let (buffer, len) = (0, self.template.len() - HEADROOM);
        Ok(Some(TunPacket { buffer, len }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.sends += self.plan.sends().len();
        self.plan.clear();
        Ok(())
    }

    fn reply(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A TUN buffer with a UDP datagram, or with a super-packet of datagrams of `gso_size`.
fn datagram(payload: usize, gso_size: u16, df: bool) -> Vec<u8> {
    let len = 8 + payload as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len).to_be_bytes());
    ip.extend([0, 1, if df { 0x40 } else { 0 }, 0, 64, protocol::UDP, 0, 0]);
    ip.extend([10, 244, 1, 2, 10, 244, 2, 2, 0x9c, 0x40, 0x14, 0x51]);
    ip.extend(len.to_be_bytes());
    let (src, dst) = ([10, 244, 1, 2].into(), [10, 244, 2, 2].into());
    let seed = pseudo_v4(src, dst, protocol::UDP, len.into());
    ip.extend(seed.fold().to_be_bytes());
    ip.resize(28 + payload, 7);
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type: match gso_size {
            0 => vnet_hdr::GSO_NONE,
            _ => vnet_hdr::GSO_UDP_L4,
        },
        hdr_len: 28,
        gso_size,
        csum_start: 20,
        csum_offset: vnet_hdr::UDP_CSUM_OFFSET,
    };
    let mut buffer = vec![0; HEADROOM];
    offload
        .encode(&mut buffer[HEADROOM - 10..], Layout::Legacy)
        .unwrap();
    buffer.extend(ip);
    buffer
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

/// Batches of packets that are too long for the path, or that fit while another path's MTU is
/// known.
fn too_long_packets_allocate_nothing() {
    let table = table(US, "10.244.2.0/24", THEM);
    let clock = Clock::start();
    let templates = [
        datagram(1400, 0, true),
        datagram(1400, 0, false),
        datagram(60_000, 1400, true),
        datagram(60_000, 1400, false),
        super_packet(60_000),
    ];
    for (known, outer_df) in [(OTHER, false), (PEER, false), (PEER, true)] {
        let stats = WorkerStats::default();
        let paths = Arc::new(PathMtus::new());
        let limits = PathLimits::new(paths.clone(), outer_df);
        let pods = Arc::new(PodMtus::new(1450));
        let mut egress = Egress::new(8, limits, None, clock, pods);
        for template in &templates {
            let mut reads = Reads {
                // Too small for a super-packet: it is planned in several goes.
                plan: SendPlan::new(8, 2 << 10, 128),
                buffers: buffers::Buffers::detached(1, HEADROOM + 65_535).unwrap(),
                template: template.clone(),
                taken: false,
                sends: 0,
            };
            let region = Region::new(ALLOCATOR);
            for _ in 0..100 {
                paths.learn(known, 1400, clock.now_ms());
                encap::batch(&mut reads, &table, &stats, &mut egress).unwrap();
                reads.flush().unwrap();
                reads.taken = false;
            }
            let change = region.change();
            assert_eq!((change.allocations, change.reallocations), (0, 0));
            assert!(reads.sends >= 100 || outer_df);
        }
        // Each of the ways was taken.
        let (fragments, told) = (stats.get(Count::FragmentsMade), stats.get(Count::IcmpSent));
        assert_eq!((fragments > 0, told > 0), (known == PEER, known == PEER));
        assert_eq!(stats.drops(DropReason::TooBig) > 0, outer_df);
    }
}

fn main() {
    too_long_packets_allocate_nothing();
    packets_that_fit_allocate_nothing();
    // As the harness says it, for those who count tests.
    println!("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn packets_that_fit_allocate_nothing() {
    let sender = table(US, "10.244.2.0/24", THEM);
    let receiver = table(THEM, "10.244.1.0/24", US);
    let mut plan = SendPlan::new(8, 64 << 10, 128);
    let mut coalescer = Coalescer::new(16, Layout::Legacy, Limits::new(1450)).unwrap();
    let limits = PathLimits::new(Arc::new(PathMtus::new()), false);
    let pods = Arc::new(PodMtus::new(1450));
    let mut egress = Egress::new(8, limits, None, Clock::start(), pods);
    let stats = WorkerStats::default();
    let template = super_packet(60_000);
    let ip_len = template.len() - HEADROOM;
    let mut tun = One(template.clone());
    let mut train = One(Vec::with_capacity(128 << 10));

    let region = Region::new(ALLOCATOR);
    let mut writes = 0;
    for _ in 0..100 {
        tun.0.copy_from_slice(&template);
        let pending = plan_packet(0, &mut tun.0, ip_len, &sender, &mut egress, &mut plan).unwrap();
        let mut pending = pending.unwrap();
        assert!(pending.plan(&tun.0[HEADROOM..], &mut plan, &stats));
        for send in plan.sends() {
            train.0.clear();
            for piece in send.pieces() {
                let memory = match piece.source {
                    weft_dataplane::offload::plan::Source::Arena => plan.arena(),
                    weft_dataplane::offload::plan::Source::Buffer(_) => &tun.0,
                };
                let start = piece.offset as usize;
                train
                    .0
                    .extend_from_slice(&memory[start..start + piece.len as usize]);
            }
            let from = admit::sender(&receiver, "192.0.2.2".parse().unwrap()).unwrap();
            let stride = usize::from(send.stride);
            for start in (0..train.0.len()).step_by(stride) {
                let end = train.0.len().min(start + stride);
                let inner = from.frame(&receiver, &train.0[start..end]).unwrap();
                let offset = start + inner.ip_offset;
                let packet = Packet {
                    buffer: 0,
                    room: inner.ip_offset as u16,
                    offset: offset as u32,
                    len: inner.ip_len as u32,
                };
                let ip = &train.0[offset..offset + inner.ip_len];
                coalescer.push(packet, ip, Trust::Vouched, None).unwrap();
            }
            coalescer.finish(&mut train);
            writes += coalescer.writes().len();
            coalescer.clear();
        }
        plan.clear();
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    // 43 segments are 42 full ones and a tail, in one send, back in one write.
    assert_eq!(writes, 100);
}
