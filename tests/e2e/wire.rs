//! What is on the wire when nothing is left to offloads, in the eyes of an independent
//! dissector.

use crate::capture::{Capture, Frame};
use crate::cluster::{Cluster, ENGINES, WORKERS, fast_path};
use crate::pods::exchange_fragments;
use crate::traffic::{tcp, udp, udp_super};
use crate::tunnel_gso::send_until_whole;
use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use weft_lab::{Regime, skips_test};

/// MTU of the underlay and the Ethernet header.
const LONGEST_FRAME: u64 = 1_500 + 14;

/// tshark's word for a checksum that it found right.
const GOOD: &str = "1";

/// tshark's word for one that is 0, as the sums of UDP may be.
const ABSENT: &str = "3";

/// Traffic of all kinds between nodes 1 and 2, captured on node 2.
fn captured(cluster: &Cluster) -> Vec<Frame> {
    let capture = Capture::start(&cluster.lab, 2);
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    for (from, to) in [(a, b), (b, a)] {
        tcp(from, to, 4, 500_000);
        udp(from, to, &[0, 1, 1_001, 1_422], 20);
        udp_super(from, to, 1_111, 30, 5);
    }
    exchange_fragments(cluster, 1, 2);
    capture.frames()
}

fn local_ports() -> RangeInclusive<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut ends = text.split_whitespace().map(|end| end.parse().unwrap());
    ends.next().unwrap()..=ends.next().unwrap()
}

/// What must hold of every VXLAN frame, whoever sent it.
fn check_lengths_and_checksums(frame: &Frame) {
    let len = |field, layer| frame.number(field, layer);
    assert!(len("frame.len", 0) <= LONGEST_FRAME, "{frame:?}");
    assert!(frame.all("_ws.malformed").is_empty(), "{frame:?}");
    assert_eq!(frame.all("ip.src").len(), 2, "layers of {frame:?}");
    assert_eq!(len("ip.len", 0), len("frame.len", 0) - 14, "{frame:?}");
    assert_eq!(len("udp.length", 0), len("ip.len", 0) - 20, "{frame:?}");
    assert_eq!(
        len("ip.len", 1),
        len("udp.length", 0) - 8 - 8 - 14,
        "{frame:?}"
    );
    // Whole lists are compared: an empty one would say nothing.
    assert_eq!(frame.all("ip.checksum.status"), [GOOD; 2], "{frame:?}");
    let outer = frame.text("udp.checksum.status", 0);
    assert!([GOOD, ABSENT].contains(&outer), "{frame:?}");
    // Of an inner fragment nobody can tell before it is put together.
    let fragment = frame.is_set("ip.flags.mf", 1) || len("ip.frag_offset", 1) != 0;
    if fragment {
        return;
    }
    match frame.text("ip.proto", 1) {
        "6" => {
            let inner = len("tcp.hdr_len", 0) + len("tcp.len", 0);
            assert_eq!(inner, len("ip.len", 1) - 20, "{frame:?}");
            // The kernel and weft store a checksum of 0 as 0xffff, which is as good (RFC 1624),
            // but not in the eyes of tshark. It is one in 65,536.
            if frame.all("tcp.checksum") != ["0xffff"] {
                assert_eq!(frame.all("tcp.checksum.status"), [GOOD], "{frame:?}");
            }
        }
        "17" => {
            assert_eq!(len("udp.length", 1), len("ip.len", 1) - 20, "{frame:?}");
            assert_eq!(frame.text("udp.checksum.status", 1), GOOD, "{frame:?}");
        }
        _ => {}
    }
}

/// What must hold of what weft sends.
fn check_outer_header(frame: &Frame, ports: &RangeInclusive<u64>, way: &str) {
    assert_eq!(frame.number("vxlan.flags", 0), 0x0800, "{frame:?}");
    // Reserved, 16 bits and 8.
    assert_eq!(frame.number("vxlan.gbp", 0), 0, "{frame:?}");
    assert_eq!(frame.number("vxlan.reserved8", 0), 0, "{frame:?}");
    assert_eq!(frame.number("vxlan.vni", 0), 1, "{frame:?}");
    assert_eq!(frame.number("ip.ttl", 0), 64, "{frame:?}");
    assert!(!frame.is_set("ip.flags.df", 0), "{frame:?}");
    assert!(!frame.is_set("ip.flags.mf", 0), "{frame:?}");
    assert_eq!(frame.number("udp.dstport", 0), 8472, "{frame:?}");
    assert!(ports.contains(&frame.number("udp.srcport", 0)), "{frame:?}");
    // Frames of the workers have an outer checksum, those of the fast path have none.
    match (way, frame.number("udp.checksum", 0)) {
        ("auto", _) | ("on", 0) | ("off", 1..) => {}
        (way, sum) => panic!("{way}: {sum} in {frame:?}"),
    }
}

/// Check all frames, those of the nodes in `weft` more closely, whose agents run with this
/// `-fast-path`.
fn check(cluster: &Cluster, weft: &[usize], way: &str) {
    let frames = captured(cluster);
    let ports = local_ports();
    for node in 1..=2 {
        let address = cluster.lab.node(node).underlay.to_string();
        let sent = frames
            .iter()
            .filter(|frame| frame.text("ip.src", 0) == address);
        let sent: Vec<_> = sent.collect();
        // Two megabytes of TCP, half a megabyte of UDP super-packets and fragments.
        assert!(sent.len() > 2_000, "{} frames from node {node}", sent.len());
        let full = sent
            .iter()
            .filter(|frame| frame.number("frame.len", 0) == LONGEST_FRAME);
        assert!(full.count() > 1_000, "node {node} sends full frames");
        let mut source_ports = BTreeSet::new();
        for frame in &sent {
            check_lengths_and_checksums(frame);
            if weft.contains(&node) {
                check_outer_header(frame, &ports, way);
                source_ports.insert(frame.number("udp.srcport", 0));
            }
        }
        if weft.contains(&node) {
            assert!(
                source_ports.len() > 1,
                "flows leave from {source_ports:?} only"
            );
        }
    }
}

#[test]
fn frames_between_weft_nodes_fit_the_wire_and_every_field_is_right() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        check(
            &Cluster::of_weft_with(2, Regime::R3, &[engine]),
            &[1, 2],
            &fast_path(),
        );
    }
}

#[test]
fn frames_between_weft_and_the_kernel_fit_the_wire_and_every_field_is_right() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        check(
            &Cluster::weft_and_kernel_with(Regime::R3, &[engine]),
            &[1],
            &fast_path(),
        );
    }
}

#[test]
fn frames_that_the_kernel_cuts_of_whole_super_packets_are_right_in_every_field() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(2, Regime::R3, &[WORKERS, "-tunnel-gso=on", engine]);
        for (from, to) in [(1, 2), (2, 1)] {
            send_until_whole(&cluster, from, to);
        }
        check(&cluster, &[1, 2], "off");
    }
}
