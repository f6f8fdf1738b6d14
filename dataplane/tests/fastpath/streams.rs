//! TCP through the programs of both nodes, over devices that segment and sum or do not.

use crate::nodes::{INNER_PORT, LIMIT, Node, inner, isolated, nodes};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use weft_dataplane::stats::{Count, DropReason};
use weft_dataplane::wire::frame::Wire;
use weft_lab::Namespace;

/// Bytes of a stream: some hundred super-packets.
const LEN: usize = 4 << 20;

/// What can be switched off of a device, each with what was before.
const OFFLOADS: [&str; 3] = [
    "",
    "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off",
    "tx off tso off gso off gro off",
];

/// A pod behind a node, with the node's address in the tunnel. Its device has no offloads.
fn pod(node: &Node) -> Namespace {
    let pod = Namespace::unnamed().unwrap();
    let (address, other) = (inner(node.number), pod.name());
    let gateway = format!("10.244.{}.254", node.number);
    for words in [
        format!("link add pod type veth peer name eth0 netns {other}"),
        // Without an address a device loses its routes.
        format!("addr add 10.244.{}.0/32 dev flannel.1", node.number),
        format!("addr del {address}/32 dev flannel.1"),
        format!("addr add {gateway}/24 dev pod"),
        "link set pod up mtu 1400".to_owned(),
    ] {
        node.ns.ip(&words).unwrap();
    }
    node.run("ethtool -K pod tx off tso off gso off");
    for words in [
        format!("addr add {address}/24 dev eth0"),
        "link set eth0 up mtu 1400".to_owned(),
        format!("route add default via {gateway}"),
    ] {
        pod.ip(&words).unwrap();
    }
    pod
}

/// Send a stream and compare what arrives.
fn stream(from: &Namespace, to: &Namespace, number: u8) {
    let bound = to.enter(|| TcpListener::bind((inner(number), INNER_PORT)));
    let listener = bound.unwrap().unwrap();
    let sent: Vec<u8> = (0..LEN).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect();
    let connect = || TcpStream::connect_timeout(&(inner(number), INNER_PORT).into(), LIMIT);
    let mut sender = from.enter(connect).unwrap().unwrap();
    sender.set_write_timeout(Some(LIMIT)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    let received = std::thread::scope(|scope| {
        // Moved, so that it ends the stream.
        let sent = &sent;
        scope.spawn(move || sender.write_all(sent).unwrap());
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(received == sent, "{} bytes arrived", received.len());
}

/// Bad packets that a namespace has seen.
fn errors(ns: &Namespace) -> Vec<String> {
    let text = ns.proc_net("snmp").unwrap() + &ns.proc_net("netstat").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let tables = lines.chunks_exact(2).flat_map(|lines| {
        let [names, values] = [lines[0], lines[1]].map(str::split_whitespace);
        names.zip(values)
    });
    let bad = tables.filter(|(name, value)| {
        ["InHdrErrors", "InCsumErrors", "InErrs"].contains(name) && *value != "0"
    });
    bad.map(|(name, value)| format!("{name} {value}")).collect()
}

#[test]
fn streams_arrive_whole_over_all_kinds_of_devices() {
    for wire in [Wire::Vxlan, Wire::Ip] {
        isolated(|bpffs| {
            let nodes = nodes(bpffs, wire);
            let pods = nodes.each_ref().map(pod);
            let programs = nodes.each_ref().map(|node| node.start(|_| {}).unwrap());
            let [a, b] = &pods;
            for offloads in OFFLOADS {
                if !offloads.is_empty() {
                    for node in &nodes {
                        node.run(&format!("ethtool -K eth0 {offloads}"));
                    }
                }
                stream(a, b, 2);
                stream(b, a, 1);
            }
            for ns in pods.iter().chain(nodes.iter().map(|node| &node.ns)) {
                assert_eq!(errors(ns), [""; 0], "{wire:?}");
            }
            for programs in &programs {
                let stats = programs.stats();
                assert!(stats.get(Count::SuperFramesReceived) > 0, "{wire:?}");
                assert!(stats.get(Count::FramesSent) > stats.get(Count::FastSends));
                assert_eq!(stats.get(Count::LeftRefused), 0, "{wire:?}");
                assert_eq!(stats.drops(DropReason::SendFailed), 0);
            }
        });
    }
}
