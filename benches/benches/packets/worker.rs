//! The workers' batches, over made packets and over recorded traffic.

use super::replay;
use criterion::{Criterion, Throughput};
use pcap_file::pcap::PcapReader;
use std::fs::File;
use std::path::Path;
use weft_benches::replay::{Arrival, Decap, Encap, MTU, Replay, Spec, TunRead};
use weft_dataplane::offload::vnet_hdr::{self, VnetHdr};
use weft_dataplane::wire::ip::{IpPacket, protocol};

const TRACES: [&str; 4] = ["tcp-data", "tcp-acknowledgments", "tcp-4-streams", "udp-64"];

/// A packet of which only the headers were captured, as it was read from the TUN. The payload
/// is made up, and the checksum partial, as it is when a pod's kernel has offloads.
fn read(mut ip: Vec<u8>, len: usize) -> Option<TunRead> {
    ip.extend((ip.len()..len).map(|i| i as u8));
    let packet = IpPacket::new(&ip).ok()?;
    let l4 = packet.header_len();
    let (header_len, csum_offset) = match packet.protocol() {
        protocol::TCP => (
            l4 + usize::from(ip[l4 + 12] >> 4) * 4,
            vnet_hdr::TCP_CSUM_OFFSET,
        ),
        protocol::UDP => (l4 + 8, vnet_hdr::UDP_CSUM_OFFSET),
        _ => return None,
    };
    let seed = packet.pseudo_sum((len - l4) as u32).fold().to_be_bytes();
    let is_super = len > MTU;
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type: if is_super {
            vnet_hdr::GSO_TCPV4
        } else {
            vnet_hdr::GSO_NONE
        },
        hdr_len: header_len as u16,
        gso_size: if is_super {
            (MTU - header_len) as u16
        } else {
            0
        },
        csum_start: l4 as u16,
        csum_offset,
    };
    let field = l4 + usize::from(csum_offset);
    ip[field..field + 2].copy_from_slice(&seed);
    Some(TunRead { offload, ip })
}

fn trace(name: &str) -> Vec<TunRead> {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let file = traces.join(format!("{name}.pcap"));
    let file = File::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut reader = PcapReader::new(file).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut reads = Vec::new();
    // Raw, because the reader takes packets longer than what is kept of them for errors.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = packet.unwrap_or_else(|e| panic!("{name}: {e}"));
        let len = packet.orig_len as usize;
        reads.extend(read(packet.data.into_owned(), len));
    }
    assert_eq!(reads.len(), 256, "{name}");
    reads
}

/// A batch as a peer's worker receives it: in trains, or where nothing merges them, in single
/// datagrams.
fn decaps(encaps: &[Encap], trains: bool) -> Vec<Decap> {
    let batch = |encap: &Encap| {
        let arrivals = encap.arrivals();
        if trains {
            return Decap::new(arrivals);
        }
        Decap::new(arrivals.iter().flat_map(Arrival::frames).collect())
    };
    encaps.iter().map(batch).collect()
}

fn assert_no_drops(counters: &[(String, u64)]) {
    let drops = counters.iter().find(|(name, _)| name.starts_with("drop_"));
    assert_eq!(drops, None);
}

pub(crate) fn benches(c: &mut Criterion) {
    let traces = TRACES.map(|name| (format!("trace {name}"), trace(name)));
    let made = [
        ("64-byte packets", vec![Spec::udp(64).build(); 64]),
        ("64 KB super-packets", vec![Spec::tcp_super().build(); 4]),
        (
            "64 KB super-packets over IPv6",
            vec![Spec::tcp_super_v6().build(); 4],
        ),
    ];
    let made = made.map(|(name, reads)| (name.to_owned(), reads));
    for (name, reads) in made.into_iter().chain(traces) {
        let mut encaps = Encap::batches(&reads);
        let mut group = c.benchmark_group("encap");
        group.throughput(Throughput::Elements(reads.len() as u64));
        group.bench_function(&name, |b| replay(b, &mut encaps));
        group.finish();
        for encap in &mut encaps {
            encap.rewind();
            encap.run();
            assert_no_drops(&encap.counters());
        }
        let mut group = c.benchmark_group("decap");
        group.throughput(Throughput::Elements(reads.len() as u64));
        for (how, trains) in [("trains", true), ("datagrams", false)] {
            let mut decaps = decaps(&encaps, trains);
            group.bench_function(format!("{name}, in {how}"), |b| replay(b, &mut decaps));
            for decap in &decaps {
                assert_no_drops(&decap.counters());
            }
        }
        group.finish();
    }
}
