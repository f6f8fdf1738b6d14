//! Coalesced super-packets written to the kernel come out as the segments that went in.

use crate::forwarder::{Forwarder, MTU};
use crate::packets::{Spec, forwarded};
use weft_dataplane::offload::coalesce::{Coalescer, Limits, Packet, PacketBuffers, Trust};
use weft_dataplane::offload::plan::Source;
use weft_dataplane::offload::segment::Segmenter;
use weft_dataplane::offload::vnet_hdr::{Layout, VnetHdr};
use weft_dataplane::wire::tcp;
use weft_lab::skips_test_without_namespaces;

/// One receive buffer per packet, with room for headers before it.
struct Packets(Vec<Vec<u8>>);

/// Bytes of VXLAN and inner Ethernet header.
const ROOM: usize = 22;

impl PacketBuffers for Packets {
    fn bytes(&self, id: u16) -> &[u8] {
        &self.0[usize::from(id)]
    }

    fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        &mut self.0[usize::from(id)]
    }
}

/// The segments of a super-packet with finished checksums, as they cross a wire.
fn segments(spec: &Spec) -> Vec<Vec<u8>> {
    let (hdr, packet) = spec.build();
    let mut segmenter = Segmenter::new(&hdr, &packet).unwrap();
    let mut slot = vec![0; segmenter.header_len()];
    let mut segments = Vec::new();
    while let Some(payload) = segmenter.segment(&packet, &mut slot) {
        segments.push([&slot[..], &packet[payload]].concat());
    }
    segments
}

/// Coalesce `packets`, have the kernel forward the writes, and expect the same packets, one
/// hop older, in the order of each flow. Returns the number of writes.
fn round_trip(kernel: &Forwarder, packets: &[Vec<u8>]) -> usize {
    let framed = packets
        .iter()
        .map(|packet| [&[0xee; ROOM][..], packet].concat());
    let mut buffers = Packets(framed.collect());
    let mut coalescer = Coalescer::new(256, Layout::Legacy, Limits::new(MTU)).unwrap();
    for (id, packet) in packets.iter().enumerate() {
        let at = Packet {
            buffer: id as u16,
            room: ROOM as u16,
            offset: ROOM as u32,
            len: packet.len() as u32,
        };
        coalescer.push(at, packet, Trust::Unknown, None).unwrap();
    }
    coalescer.finish(&mut buffers);
    let mut out = Vec::new();
    for write in coalescer.writes() {
        let pieces = write.pieces().iter().map(|piece| {
            let Source::Buffer(id) = piece.source else {
                panic!("a write gathers from buffers only");
            };
            let from = piece.offset as usize;
            &buffers.bytes(id)[from..from + piece.len as usize]
        });
        let bytes = pieces.collect::<Vec<_>>().concat();
        let (vnet, packet) = bytes.split_at(Layout::Legacy.len());
        let hdr = VnetHdr::decode(vnet, Layout::Legacy).unwrap();
        out.extend(kernel.forward(&hdr, packet, write.segments()));
    }
    assert_eq!(out.len(), packets.len(), "packets that came out");
    // The order of packets is free between flows, and flows differ in their protocol here.
    let mut expected: Vec<_> = packets.iter().map(|packet| forwarded(packet)).collect();
    out.sort_by_key(|packet| protocol(packet));
    expected.sort_by_key(|packet| protocol(packet));
    for (i, (came, went)) in out.iter().zip(&expected).enumerate() {
        assert!(came == went, "packet {i} was altered");
    }
    coalescer.writes().len()
}

fn protocol(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 {
        packet[9]
    } else {
        packet[6]
    }
}

#[test]
fn tcp_segments_survive_a_write_as_one_super_packet() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for dont_frag in [false, true] {
            for gso_size in [200, 1_201, 1_340] {
                for push in [0, tcp::PSH] {
                    let spec = Spec {
                        dont_frag,
                        tcp_flags: tcp::ACK | push,
                        ..Spec::tcp(v6, gso_size, 40 * gso_size + 17)
                    };
                    assert_eq!(round_trip(&kernel, &segments(&spec)), 1);
                }
            }
        }
    }
}

#[test]
fn segments_with_other_flags_keep_their_order_and_bytes() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for flag in [tcp::FIN, tcp::CWR, tcp::ECE, tcp::URG] {
            let spec = Spec {
                tcp_flags: tcp::ACK | flag,
                ..Spec::tcp(v6, 1_000, 12_345)
            };
            round_trip(&kernel, &segments(&spec));
        }
    }
}

#[test]
fn udp_datagrams_survive_a_write_as_one_super_packet() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for gso_size in [1, 64, 1_200, 1_371] {
            let segment_count = (64_000 / gso_size).min(120);
            let spec = Spec::udp(v6, gso_size, segment_count * gso_size);
            assert_eq!(round_trip(&kernel, &segments(&spec)), 1);
        }
    }
}

#[test]
fn two_flows_that_alternate_are_told_apart() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    let tcp = segments(&Spec::tcp(false, 1_000, 20_000));
    let udp = segments(&Spec::udp(false, 1_000, 20_000));
    let pairs = tcp.into_iter().zip(udp);
    let mixed: Vec<_> = pairs.flat_map(|(a, b)| [a, b]).collect();
    assert_eq!(round_trip(&kernel, &mixed), 2);
}
