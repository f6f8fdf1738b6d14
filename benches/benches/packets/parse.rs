//! Views of a frame, from the VXLAN header to the transport header.

use criterion::Criterion;
use std::hint::black_box;
use weft_benches::replay::{Encap, Replay, Spec};
use weft_dataplane::wire::frame::FRAME_OVERHEAD;
use weft_dataplane::wire::ip::IpPacket;
use weft_dataplane::wire::{Malformed, ethernet, ipv4, ipv6, tcp, udp, vxlan};

/// The only frame that the packet makes.
fn frame(spec: Spec) -> Vec<u8> {
    let reads = [spec.build()];
    let (mut encap, _) = Encap::new(&reads);
    encap.run();
    let mut arrivals = encap.arrivals();
    assert_eq!(arrivals.len(), 1);
    arrivals.swap_remove(0).payload
}

/// Every view of a frame, and a field of the innermost.
fn whole(frame: &[u8]) -> Result<u16, Malformed> {
    let vxlan = vxlan::Header::new(frame)?;
    let ethernet = ethernet::Frame::new(vxlan.into_payload())?;
    let ip = IpPacket::new(ethernet.into_payload())?;
    match ip.protocol() {
        weft_dataplane::wire::ip::protocol::TCP => Ok(tcp::Segment::new(ip.payload())?.window()),
        _ => Ok(udp::Datagram::new(ip.payload())?.len()),
    }
}

pub(crate) fn benches(c: &mut Criterion) {
    let tcp4 = Spec {
        payload: 1398,
        gso_size: 0,
        ..Spec::tcp_super()
    };
    let tcp6 = Spec {
        v6: true,
        payload: 1378,
        ..tcp4
    };
    let frames = [
        ("TCP over IPv4", frame(tcp4)),
        ("TCP over IPv6", frame(tcp6)),
        ("UDP over IPv4", frame(Spec::udp(64))),
    ];
    let mut group = c.benchmark_group("parse");
    for (name, frame) in &frames {
        assert!(whole(frame).is_ok(), "{name}");
        group.bench_function(format!("frame of {name}"), |b| {
            b.iter(|| whole(black_box(frame)));
        });
    }
    let [(_, v4), (_, v6), _] = &frames;
    group.bench_function("VXLAN header", |b| {
        b.iter(|| vxlan::Header::new(black_box(&v4[..])).map(|packet| packet.vni()));
    });
    group.bench_function("IPv4 header", |b| {
        let ip = &v4[FRAME_OVERHEAD..];
        b.iter(|| ipv4::Packet::new(black_box(ip)).map(|packet| packet.dst()));
    });
    group.bench_function("IPv4 header and its checksum", |b| {
        let ip = &v4[FRAME_OVERHEAD..];
        b.iter(|| ipv4::Packet::new(black_box(ip)).map(|packet| packet.verify_checksum()));
    });
    group.bench_function("IPv6 header", |b| {
        let ip = &v6[FRAME_OVERHEAD..];
        b.iter(|| ipv6::Packet::new(black_box(ip)).map(|packet| packet.dst()));
    });
    group.finish();
}
