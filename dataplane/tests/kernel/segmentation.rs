//! Segments and checksums compared, byte for byte, with those that the kernel makes of the
//! same write.

use crate::forwarder::{Forwarder, MTU};
use crate::packets::{self, Spec, forwarded};
use weft_dataplane::offload::segment::{Segmenter, finish_checksum};
use weft_dataplane::wire::tcp;
use weft_lab::skips_test_without_namespaces;

/// What we make of a packet on its way through a router.
fn ours(spec: &Spec) -> Vec<Vec<u8>> {
    let (hdr, packet) = spec.build();
    let mut packet = forwarded(&packet);
    if spec.gso_size == 0 {
        finish_checksum(&hdr, &mut packet).unwrap();
        return vec![packet];
    }
    let mut segmenter = Segmenter::new(&hdr, &packet).unwrap();
    let mut slot = vec![0; segmenter.header_len()];
    let mut segments = Vec::new();
    while let Some(payload) = segmenter.segment(&packet, &mut slot) {
        segments.push([&slot[..], &packet[payload]].concat());
    }
    segments
}

/// Compare ours with the kernel's, and return ours.
fn compare(kernel: &Forwarder, spec: &Spec) -> Vec<Vec<u8>> {
    let (hdr, packet) = spec.build();
    let ours = ours(spec);
    let theirs = kernel.forward(&hdr, &packet, ours.len());
    let what = || {
        let payload = spec.payload.len();
        format!(
            "{payload} bytes as {:?}",
            Spec {
                payload: Vec::new(),
                ..spec.clone()
            }
        )
    };
    assert_eq!(ours.len(), theirs.len(), "number of segments of {}", what());
    for (i, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        if our != their {
            let same = our.iter().zip(their).take_while(|(a, b)| a == b).count();
            let head = |bytes: &[u8]| bytes[..bytes.len().min(84)].to_vec();
            let (our, their) = (head(our), head(their));
            let what = what();
            panic!(
                "segment {i} differs from byte {same} on: {what}\n\
                 ours   {our:02x?}\nkernel {their:02x?}"
            );
        }
    }
    ours
}

/// Payload lengths around the edges for a `gso_size`: the fewest segments, an odd rest, a
/// rest of one byte, and as many as there can be.
fn lengths(spec: &Spec, max_segments: usize) -> Vec<usize> {
    let gso = spec.gso_size;
    let longest = spec.longest().min(gso * max_segments);
    let lengths = [
        gso + 1,
        2 * gso - 1,
        2 * gso,
        3 * gso + gso / 2 + 1,
        longest,
    ];
    lengths.into_iter().filter(|&len| len <= longest).collect()
}

fn with_payload(spec: &Spec, len: usize) -> Spec {
    let payload = packets::noise(len);
    Spec {
        payload,
        ..spec.clone()
    }
}

#[test]
fn tcp_segments_are_the_kernels_for_every_size() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        let largest = MTU - if v6 { 40 } else { 20 } - 32;
        for gso_size in [64, 101, 536, 1_000, 1_201, largest] {
            let spec = Spec::tcp(v6, gso_size, 0);
            for len in lengths(&spec, usize::MAX / gso_size) {
                let segments = compare(&kernel, &with_payload(&spec, len));
                assert_eq!(segments.len(), len.div_ceil(gso_size));
            }
        }
        let bare = Spec {
            tcp_options: Vec::new(),
            ..Spec::tcp(v6, 1_337, 20_000)
        };
        compare(&kernel, &bare);
    }
}

/// The kernel leaves URG and the urgent pointer in every segment as they are, and so do we: only
/// senders that know better, which send nothing urgent in super-packets, could do more.
#[test]
fn tcp_flags_fall_on_the_kernels_segments() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for bits in 0..32u16 {
            let flags = [tcp::FIN, tcp::PSH, tcp::CWR, tcp::ECE, tcp::URG];
            let chosen = flags.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            let tcp_flags = chosen.fold(tcp::ACK, |all, (_, flag)| all | flag);
            for len in [2_000, 3_500, 60_000] {
                let spec = Spec {
                    tcp_flags,
                    ..Spec::tcp(v6, 1_200, len)
                };
                compare(&kernel, &spec);
            }
        }
    }
}

#[test]
fn ipv4_identification_counts_as_the_kernels_does() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for udp in [false, true] {
        for dont_frag in [false, true] {
            for ident in [0, 1, 0x7fff, 0xfffe, 0xffff] {
                let spec = if udp { Spec::udp } else { Spec::tcp };
                let spec = Spec {
                    dont_frag,
                    ident,
                    ..spec(false, 1_200, 10_000)
                };
                compare(&kernel, &spec);
            }
        }
    }
}

#[test]
fn options_and_extension_headers_are_copied_as_the_kernel_does() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for udp in [false, true] {
        for v6 in [false, true] {
            // No-operations in IPv4; TCP or UDP, 8 bytes, PadN of 4 in IPv6.
            let next = if udp { 17 } else { 6 };
            let ip_options = match v6 {
                true => vec![next, 0, 1, 4, 0, 0, 0, 0],
                false => vec![1, 1, 1, 0],
            };
            let spec = if udp { Spec::udp } else { Spec::tcp };
            for tos in [0, 0x03, 0xb9] {
                let spec = Spec {
                    ip_options: ip_options.clone(),
                    tos,
                    ..spec(v6, 1_000, 7_777)
                };
                compare(&kernel, &spec);
            }
        }
    }
}

#[test]
fn udp_segments_are_the_kernels_for_every_size() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        let largest = MTU - if v6 { 40 } else { 20 } - 8;
        for gso_size in [1, 2, 63, 64, 511, 1_200, 1_201, largest] {
            let spec = Spec::udp(v6, gso_size, 0);
            for len in lengths(&spec, 128) {
                let segments = compare(&kernel, &with_payload(&spec, len));
                assert_eq!(segments.len(), len.div_ceil(gso_size));
            }
        }
    }
}

#[test]
fn a_checksum_of_zero_is_stored_as_the_kernel_stores_it() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for udp in [false, true] {
            for gso_size in [0, 1_200] {
                let spec = if udp { Spec::udp } else { Spec::tcp };
                let len = if gso_size == 0 { 1_200 } else { 5_000 };
                let mut spec = spec(v6, gso_size, len);
                spec.zero_checksum(&ours(&spec)[0]);
                let first = compare(&kernel, &spec).swap_remove(0);
                let at = if v6 { 40 } else { 20 } + if udp { 6 } else { 16 };
                let checksum = u16::from_be_bytes([first[at], first[at + 1]]);
                assert!(matches!(checksum, 0 | 0xffff), "{checksum:#x} in {spec:?}");
            }
        }
    }
}

#[test]
fn single_packets_get_the_kernels_checksum() {
    if skips_test_without_namespaces() {
        return;
    }
    let kernel = Forwarder::new();
    for v6 in [false, true] {
        for udp in [false, true] {
            for len in [0, 1, 2, 63, 1_001, 1_370] {
                let spec = if udp { Spec::udp } else { Spec::tcp };
                compare(&kernel, &spec(v6, 0, len));
            }
        }
    }
}
