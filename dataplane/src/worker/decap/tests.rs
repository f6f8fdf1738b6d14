//! Decapsulation of bare IPv4 packets, whose trains leave nothing between packets.

use super::*;
use crate::mtu::pods;
use crate::offload::coalesce::{Coalescer, Limits};
use crate::offload::plan::Source;
use crate::offload::segment::{MAX_HEADER_LEN, Segmenter};
use crate::offload::testing::{Spec, super_packets};
use crate::offload::vnet_hdr::{self, Layout, VnetHdr};
use crate::route::table::{NewPeer, Overlay, Route};
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::RecvMeta;
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::Wire;
use proptest::prelude::*;
use std::net::IpAddr;

const MTU: usize = 1472;
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// An engine whose writes stay here.
struct Desk {
    arrivals: Vec<(Vec<u8>, Option<u16>)>,
    taken: usize,
    buffers: Buffers,
    coalescer: Coalescer,
    /// Segments that the kernel would make of the writes.
    delivered: Vec<Vec<u8>>,
    writes: usize,
}

impl Desk {
    /// Datagrams and trains, the latter with their stride.
    fn new(arrivals: Vec<(Vec<u8>, Option<u16>)>, writes: usize) -> Desk {
        let mut buffers = Buffers::detached(arrivals.len() as u16, 65_535).unwrap();
        for (id, (payload, _)) in arrivals.iter().enumerate() {
            buffers.bytes_mut(id as u16)[..payload.len()].copy_from_slice(payload);
        }
        Desk {
            arrivals,
            taken: 0,
            buffers,
            coalescer: Coalescer::new(writes, Layout::Legacy, Limits::new(MTU)).unwrap(),
            delivered: Vec::new(),
            writes: 0,
        }
    }

    /// Decapsulate everything as from `PEER`; what was dropped and why.
    fn run(&mut self) -> Vec<(String, u64)> {
        self.run_for(MTU)
    }

    /// As [`Desk::run`], for pods of this MTU.
    fn run_for(&mut self, mtu: usize) -> Vec<(String, u64)> {
        self.run_with(PodMtus::new(mtu))
    }

    /// As [`Desk::run`], with what is known of pods.
    fn run_with(&mut self, pods: PodMtus) -> Vec<(String, u64)> {
        let stats = WorkerStats::default();
        let inside = Inside {
            mtu: MTU,
            pods: Arc::new(pods),
            clock: Clock::start(),
        };
        batch(self, &table(), &stats, &inside).unwrap();
        self.flush().unwrap();
        let mut counters = crate::stats::summary(std::iter::once(&stats));
        counters.retain(|(name, _)| name.starts_with("drop_"));
        counters
    }
}

impl DecapIo for Desk {
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers) {
        (&mut self.coalescer, &mut self.buffers)
    }

    fn take(&mut self) -> Result<Option<Received>, EngineError> {
        let Some((payload, gro_size)) = self.arrivals.get(self.taken) else {
            return Ok(None);
        };
        self.taken += 1;
        Ok(Some(Received {
            buffer: (self.taken - 1) as u16,
            offset: 0,
            len: payload.len(),
            source: Some(PEER),
            meta: RecvMeta {
                gro_size: *gro_size,
                ecn: Ecn::NotEct,
            },
            truncated: false,
        }))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.coalescer.finish(&mut self.buffers);
        for write in self.coalescer.writes() {
            let mut bytes = Vec::new();
            for piece in write.pieces() {
                let memory = match piece.source {
                    Source::Arena => self.coalescer.arena(),
                    Source::Buffer(id) => self.buffers.bytes(id),
                };
                bytes.extend(&memory[piece.offset as usize..][..piece.len as usize]);
            }
            self.writes += 1;
            let hdr = VnetHdr::decode(&bytes, Layout::Legacy).unwrap();
            deliver(&hdr, &bytes[Layout::Legacy.len()..], &mut self.delivered);
        }
        self.coalescer.clear();
        Ok(())
    }
}

fn deliver(hdr: &VnetHdr, ip: &[u8], delivered: &mut Vec<Vec<u8>>) {
    if hdr.gso() == vnet_hdr::GSO_NONE {
        delivered.push(ip.to_vec());
        return;
    }
    let mut segmenter = Segmenter::new(hdr, ip).unwrap();
    let mut slot = [0; MAX_HEADER_LEN];
    while let Some(payload) = segmenter.segment(ip, &mut slot) {
        delivered.push([&slot[..segmenter.header_len()], &ip[payload]].concat());
    }
}

/// All sources belong to the one peer.
fn table() -> Table {
    let overlay = Overlay {
        wire: Wire::Ip,
        network_v4: Some("10.0.0.0/8".parse().unwrap()),
        subnet_len_v4: 24,
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: (PEER, 8285).into(),
        mac: MacAddr::default(),
    };
    let prefix = "0.0.0.0/0".parse().unwrap();
    Table::build(overlay, &[Route { prefix, peer }]).unwrap()
}

fn flow(port: u16, payload: usize, count: usize) -> Vec<Vec<u8>> {
    let spec = Spec {
        ports: (port, 5201),
        ..Spec::tcp4(payload * count)
    };
    spec.segments(payload).iter().map(Spec::build).collect()
}

#[test]
fn flows_that_share_a_train_come_out_whole() {
    let flows = [1, 2, 3].map(|port| flow(port, 1432, 10));
    let packets: Vec<_> = (0..30).map(|i| flows[i % 3][i / 3].clone()).collect();
    let arrivals = vec![(packets.concat(), Some(1472))];
    let mut desk = Desk::new(arrivals, 16);
    assert_eq!(desk.run(), []);
    assert_eq!(desk.writes, 3);
    assert_eq!(desk.delivered, flows.concat());
}

#[test]
fn writes_that_run_out_in_the_middle_of_a_train_cost_no_byte() {
    let flows = [1, 2, 3].map(|port| flow(port, 1432, 10));
    let packets: Vec<_> = (0..30).map(|i| flows[i % 3][i / 3].clone()).collect();
    let mut desk = Desk::new(vec![(packets.concat(), Some(1472))], 2);
    assert_eq!(desk.run(), []);
    for (i, flow) in flows.iter().enumerate() {
        let port = [0, i as u8 + 1];
        let of_flow = desk.delivered.iter().filter(|ip| ip[20..22] == port);
        assert!(of_flow.eq(flow), "flow {i}");
    }
}

#[test]
fn a_bad_packet_in_a_train_takes_no_other_with_it() {
    let mut packets = flow(1, 1432, 5);
    packets[2][10] ^= 1;
    let mut desk = Desk::new(vec![(packets.concat(), Some(1472))], 16);
    assert_eq!(desk.run(), [("drop_bad_inner_ip".to_owned(), 1)]);
    packets.remove(2);
    assert_eq!(desk.delivered, packets);
}

#[test]
fn what_is_longer_than_the_mtu_is_never_cut_off() {
    // As long as its header says: it goes on whole, and the kernel judges.
    let long = Spec::udp4(2_000).build();
    let mut desk = Desk::new(vec![(long.clone(), None)], 16);
    assert_eq!(desk.run(), []);
    assert_eq!(desk.delivered, std::slice::from_ref(&long));
    // Cut off on the way: it goes no further.
    let mut desk = Desk::new(vec![(long[..1472].to_vec(), None)], 16);
    assert_eq!(desk.run(), [("drop_bad_inner_ip".to_owned(), 1)]);
    assert!(desk.delivered.is_empty());
}

#[test]
fn super_packets_of_lost_size_are_cut_to_what_pods_take() {
    let spec = Spec::tcp4(20_000);
    let whole = vec![(spec.build_partial(), None)];
    for (pods, longest) in [(MTU, MTU), (1400, 1400), (9000, MTU)] {
        let mut desk = Desk::new(whole.clone(), 16);
        assert_eq!(desk.run_for(pods), []);
        assert_eq!(desk.writes, 1);
        let lens = || desk.delivered.iter().map(Vec::len);
        assert_eq!(lens().max(), Some(longest), "pods of {pods}");
        let header = spec.header_len();
        assert_eq!(lens().map(|len| len - header).sum::<usize>(), 20_000);
    }
}

#[test]
fn a_smaller_pod_costs_the_others_nothing() {
    let whole = Spec::tcp4(20_000).build_partial();
    let pod = IpPacket::new(&whole).unwrap().dst();
    let another = [10, 244, 2, 10].into();
    for (smaller, longest) in [(pod, 1300), (another, MTU)] {
        let pods = PodMtus::new(MTU);
        let reported = pods::PodMtu {
            pod: smaller,
            mtu: 1300,
        };
        assert!(pods.learn(reported, 0));
        let mut desk = Desk::new(vec![(whole.clone(), None)], 16);
        assert_eq!(desk.run_with(pods), []);
        assert_eq!(desk.delivered.iter().map(Vec::len).max(), Some(longest));
    }
}

#[test]
fn what_fits_the_tun_alone_is_cut_only_if_it_may_be_a_super_packet() {
    let spec = Spec::tcp4(1410);
    assert!(spec.build().len() < MTU);
    let lens = |ip: Vec<u8>, gro_size| {
        let mut desk = Desk::new(vec![(ip, gro_size)], 16);
        assert_eq!(desk.run_for(1400), []);
        desk.delivered.iter().map(Vec::len).collect::<Vec<_>>()
    };
    let (header, whole) = (spec.header_len(), spec.build().len());
    assert_eq!(
        lens(spec.build_partial(), None),
        [1400, whole - 1400 + header]
    );
    // From a real link: merged, if at all.
    assert_eq!(lens(spec.build(), None), [whole]);
    let train = flow(1, 1410, 5).concat();
    assert_eq!(lens(train, Some(whole as u16)), [whole; 5]);
}

proptest! {
    #[test]
    fn what_is_segmented_comes_out_as_it_went_in((spec, gso) in super_packets()) {
        let spec = Spec { v6: false, host: 1, tos: spec.tos & !3, ..spec };
        let segments: Vec<_> = spec.segments(gso).iter().map(Spec::build).collect();
        // What is longer than the MTU counts as a super-packet.
        prop_assume!(segments[0].len() <= MTU);
        let train = |segments: &[Vec<u8>]| {
            let stride = (segments.len() > 1).then_some(segments[0].len() as u16);
            (segments.concat(), stride)
        };
        let mut desk = Desk::new(segments.chunks(32).map(train).collect(), 64);
        prop_assert_eq!(desk.run(), []);
        prop_assert_eq!(&desk.delivered, &segments);
    }
}
