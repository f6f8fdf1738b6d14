//! Frames that the test makes itself.

use crate::nodes::{Node, PORT, inner, isolated, mac, nodes, underlay};
use crate::others::{Other, Turn, UNDERLAY_OUT, skips_test};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use weft_dataplane::fastpath::{Hook, Policy};
use weft_dataplane::stats::{Count, DropReason};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::{checksum, ipv4, udp};

/// A frame from one node to another, with a UDP datagram to the port that [`Node::inside`] has.
pub(crate) fn frame(from: &Node, to: &Node, text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    if to.wire == Wire::Vxlan {
        frame.extend([8, 0, 0, 0, 0, 0, 1, 0]);
        frame.extend(mac(to.number).0.into_iter().chain(mac(from.number).0));
        frame.extend([8, 0]);
    }
    let len = 28 + text.len() as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    ip.extend(
        inner(from.number)
            .octets()
            .into_iter()
            .chain(inner(to.number).octets()),
    );
    let sum: u32 = ip
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    for field in [7000, 7000, len - 20, 0] {
        frame.extend(u16::to_be_bytes(field));
    }
    frame.extend(text);
    frame
}

/// Whether a text arrives that was sent just now.
fn arrives(receiver: &UdpSocket, text: &[u8]) -> bool {
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut bytes = [0; 2048];
    weft_lab::uninterrupted(|| receiver.recv(&mut bytes)).is_ok_and(|len| bytes[..len] == *text)
}

/// Whether a datagram with a checksum arrives that is sent again and again: it is the workers', for
/// as long as the agent is not silent for seconds.
fn taken_without_workers(
    mut send: impl FnMut() -> usize,
    receiver: &UdpSocket,
    text: &[u8],
) -> bool {
    (0..30).any(|_| {
        send();
        arrives(receiver, text)
    })
}

/// A tag lies beside the packet by the time that programs see it.
#[test]
fn a_datagram_of_a_vlan_is_none_of_the_device_below() {
    if skips_test() {
        return;
    }
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let programs = b.start(|_| {}).unwrap();
        let (datagram, receiver) = (frame(&a, &b, b"packet"), b.inside());
        let plain = a.outside();
        assert!(taken_without_workers(
            || plain.send_to(&datagram, (underlay(2), PORT)).unwrap(),
            &receiver,
            b"packet"
        ));
        let taken = programs.stats().get(Count::FastReceives);
        // The same with the tag of VLAN 5.
        let tag = "bpf_skb_vlan_push(skb, __builtin_bswap16(0x8100), 5); return -1;";
        let tagged = Other::attach(&a, UNDERLAY_OUT, tag, Hook::Tcx, Turn::Before);
        plain.send_to(&datagram, (underlay(2), PORT)).unwrap();
        assert!(!arrives(&receiver, b"packet"));
        assert_eq!(tagged.seen(), 1);
        assert_eq!(programs.stats().get(Count::FastReceives), taken);
    });
}

/// Behind the tunnel is a device that leaves checksums to the kernel. Of a datagram that came over
/// a virtual link nobody has made the outer one yet, and what is said of where it lies must not
/// outlive the outer headers.
#[test]
fn what_a_worker_sent_is_forwarded_to_a_device_without_offloads() {
    for wire in [Wire::Vxlan, Wire::Ip] {
        isolated(|bpffs| {
            let [a, b] = nodes(bpffs, wire);
            let _b = b.start(|_| {}).unwrap();
            let pod = weft_lab::Namespace::unnamed().unwrap();
            let other = pod.name();
            b.ns.ip(&format!(
                "link add pod type veth peer name eth0 netns {other}"
            ))
            .unwrap();
            let address = inner(2);
            for words in [
                format!("addr del {address}/32 dev flannel.1"),
                "addr add 10.244.2.254/24 dev pod".to_owned(),
                "link set pod up".to_owned(),
            ] {
                b.ns.ip(&words).unwrap();
            }
            b.run("ethtool -K pod tx off");
            pod.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
            pod.ip("link set eth0 up").unwrap();
            pod.ip("route add default via 10.244.2.254").unwrap();
            b.run(&format!("ping -c 1 -w 10 {address}"));
            let receiver = pod.enter(|| UdpSocket::bind((address, 7000)));
            let receiver = receiver.unwrap().unwrap();
            let sender = a.outside();
            let send = || {
                let frame = frame(&a, &b, b"packet");
                sender.send_to(&frame, (underlay(2), PORT)).unwrap()
            };
            let taken = taken_without_workers(send, &receiver, b"packet");
            assert!(taken, "{wire:?}");
        });
    }
}

/// A whole packet of the underlay, its outer checksum right but for the bits of `wrong`.
fn datagram(from: &Node, to: &Node, frame: &[u8], wrong: u16) -> Vec<u8> {
    let len = 28 + frame.len() as u16;
    let mut bytes = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, 17, 0, 0];
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    for node in [from, to] {
        bytes.extend(underlay(node.number).octets());
    }
    for field in [40_000, PORT, len - 20, 0] {
        bytes.extend(u16::to_be_bytes(field));
    }
    bytes.extend(frame);
    let mut ip = ipv4::Packet::new(&mut bytes[..]).unwrap();
    ip.fill_checksum();
    let sum = ip.pseudo_sum((len - 20).into());
    let sum = sum.add(checksum::sum(ip.payload())).finish_udp();
    let mut udp = udp::Datagram::new(ip.payload_mut()).unwrap();
    udp.set_checksum(sum ^ wrong);
    bytes
}

/// Over a wire bits may flip, and of what carries no checksum inside the outer one alone tells.
#[test]
fn a_datagram_with_a_wrong_outer_checksum_is_left_to_the_kernel() {
    for wire in [Wire::Vxlan, Wire::Ip] {
        isolated(|bpffs| {
            let [a, b] = nodes(bpffs, wire);
            let programs = b.start(|_| {}).unwrap();
            let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
            let raw = a.ns.enter(raw).unwrap().unwrap();
            let to = SocketAddr::from((underlay(2), 0)).into();
            let send = |text: &[u8], wrong| {
                let packet = datagram(&a, &b, &frame(&a, &b, text), wrong);
                raw.send_to(&packet, &to).unwrap()
            };
            let receiver = b.inside();
            assert!(taken_without_workers(
                || send(b"right", 0),
                &receiver,
                b"right"
            ));
            let taken = || programs.stats().get(Count::FastReceives);
            let (before, errors) = (taken(), checksum_errors(&b));
            for bit in 0..16 {
                send(b"wrong", 1 << bit);
            }
            send(b"right", 0);
            assert!(
                arrives(&receiver, b"right"),
                "{wire:?}: the last, and no other"
            );
            assert_eq!((taken(), checksum_errors(&b)), (before + 1, errors + 16));
        });
    }
}

/// Datagrams that a node's kernel has dropped since their checksum was wrong.
fn checksum_errors(node: &Node) -> u64 {
    let text = node.ns.proc_net("snmp").unwrap();
    let mut udp = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let [names, values] = [(); 2].map(|()| udp.next().unwrap().split_whitespace());
    let (_, count) = names
        .zip(values)
        .find(|(name, _)| *name == "InCsumErrors")
        .unwrap();
    count.parse().unwrap()
}

/// The kernel lets no program make a packet without segments much longer than 16,000 bytes.
#[test]
fn no_long_packet_is_lost_halfway() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        for node in [&a, &b] {
            node.ns.ip("link set eth0 mtu 65535").unwrap();
            node.ns.ip("link set flannel.1 mtu 40000").unwrap();
        }
        let jumbo = Policy {
            all: true,
            super_packets: true,
            mtu: 65_535,
        };
        let programs = a.start_with(jumbo, |_| {}).unwrap();
        let sender = a.inside();
        let before = programs.stats();
        let lengths = (15_800..16_200).chain([14_000, 30_000]);
        let total = lengths.clone().count() as u64;
        // Flows of their own, as one that is left takes its flow along.
        for (port, len) in (7000..).zip(lengths) {
            let _ = sender.send_to(&vec![0; len], (inner(2), port));
        }
        let after = programs.stats();
        let passed = |count| after.get(count) - before.get(count);
        assert_eq!(after.drops(DropReason::SendFailed), 0);
        // Some of them share a slot with one that was left.
        let left = passed(Count::LeftRefused) + passed(Count::LeftFlows);
        assert_eq!(passed(Count::FastSends) + left, total);
        assert!(passed(Count::FastSends) > 0 && passed(Count::LeftRefused) > 0);
    });
}
