//! A worker's functions allocate nothing once they are set up.
//!
//! The test counts allocations of the whole process, so it is alone in its file.

#![allow(clippy::unwrap_used)]

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use weft_dataplane::mtu::pods::PodMtus;
use weft_dataplane::offload::coalesce::{Buffers, Coalescer, Limits, Packet, Trust};
use weft_dataplane::offload::plan::SendPlan;
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::route::admit;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::sys::clock::Clock;
use weft_dataplane::sys::engine::HEADROOM;
use weft_dataplane::worker::encap::{Egress, plan_packet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const US: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEM: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The table of a node whose only peer has `subnet` and `mac`.
fn table(local_mac: [u8; 6], subnet: &str, mac: [u8; 6]) -> Table {
    let overlay = Overlay {
        vni: 1,
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

impl Buffers for One {
    fn bytes(&self, _: u16) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self, _: u16) -> &mut [u8] {
        &mut self.0
    }
}

#[test]
fn encap_and_decap_allocate_nothing() {
    let sender = table(US, "10.244.2.0/24", THEM);
    let receiver = table(THEM, "10.244.1.0/24", US);
    let mut plan = SendPlan::new(8, 64 << 10, 128);
    let mut coalescer = Coalescer::new(16, Layout::Legacy, Limits::new(1450)).unwrap();
    let mut egress = Egress::new(8, None, Clock::start(), Arc::new(PodMtus::new(1450)));
    let template = super_packet(60_000);
    let ip_len = template.len() - HEADROOM;
    let mut tun = One(template.clone());
    let mut train = One(Vec::with_capacity(128 << 10));

    let region = Region::new(ALLOCATOR);
    let mut writes = 0;
    for _ in 0..100 {
        tun.0.copy_from_slice(&template);
        let pending = plan_packet(0, &mut tun.0, ip_len, &sender, &mut egress, &mut plan).unwrap();
        assert!(pending.unwrap().plan(0, &tun.0[HEADROOM..], &mut plan));
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
