//! The udp backend: weft on both nodes, and weft against a proxy that does what flannel's does.

use crate::capture::{Capture, Frame};
use crate::cluster::{Cluster, ENGINES, NEWS, PREFIX};
use crate::errors::Errors;
use crate::pods::{exchange, exchange_fragments};
use crate::traffic::{tcp, udp, udp_super};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use weft_lab::proxy::{self, Proxy, ProxyOptions};
use weft_lab::topology::ping;
use weft_lab::{Regime, Result, skips_test, wait_until};

/// As [`crate::cluster::CONFIG`]: nodes have the lower half of the network.
const CONFIG: &str =
    r#"{"Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","Backend":{"Type":"udp"}}"#;

/// MTU of the tunnel on the lab's underlay: 28 bytes less.
const MTU: u32 = 1_472;

/// tshark's word for a checksum that it found right.
const GOOD: &str = "1";

/// Both nodes run weft.
fn weft_and_weft(regime: Regime, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::configured(2, regime, CONFIG);
    cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    for number in 1..=2 {
        assert_eq!(cluster.join(number).mtu, MTU);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    cluster
}

/// Have the proxy take up on a node that has a pod, with one other node as its peer.
fn start_proxy(cluster: &Cluster, number: usize, other: usize) -> Result<Proxy> {
    let peer = cluster.lab.node(other);
    let options = ProxyOptions {
        device: "flannel%d".to_owned(),
        port: proxy::PORT,
        mtu: MTU,
        network: Some("10.244.0.0/16".parse().unwrap()),
        subnet: cluster.lab.node(number).subnet.unwrap(),
        peers: vec![(peer.subnet.unwrap().trunc(), peer.underlay)],
    };
    Proxy::start(&cluster.lab, number, options)
}

/// Node 1 runs weft, node 2 the proxy.
fn weft_and_proxy(regime: Regime, flags: &[&str]) -> (Proxy, Cluster) {
    let mut cluster = Cluster::configured(2, regime, CONFIG);
    cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    let node = cluster.lab.node(2).underlay;
    let key = format!("{PREFIX}/subnets/10.244.200.0-24");
    // All that flannel's udp backend writes.
    let lease = format!(r#"{{"PublicIP":"{node}","PublicIPv6":null}}"#);
    cluster.etcd.put_leased(&key, &lease, 86_400).unwrap();
    cluster.join(1);
    let subnet = "10.244.200.1/24".parse().unwrap();
    cluster.lab.attach_pod(2, subnet, MTU).unwrap();
    let proxy = start_proxy(&cluster, 2, 1).unwrap();
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    (proxy, cluster)
}

fn exchange_all(cluster: &Cluster) {
    let errors = Errors::of(cluster);
    exchange(cluster, 1, 2);
    exchange_fragments(cluster, 1, 2);
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    for (from, to) in [(a, b), (b, a)] {
        // The largest packets that are not fragmented.
        ping(&from.ns, to.address, 3, MTU - 28, true).unwrap();
        udp(from, to, &[MTU as usize - 28], 20);
        udp_super(from, to, MTU as usize - 28, 20, 0);
    }
    errors.assert_none_since(cluster);
}

#[test]
fn f2_two_nodes_reach_each_other_from_the_addresses_of_their_subnets() {
    if skips_test() {
        return;
    }
    let config = r#"{"Network":"10.10.0.0/16","Backend":{"Type":"udp"}}"#;
    let mut cluster = Cluster::configured(2, Regime::R1, config);
    let addresses: Vec<Ipv4Addr> = (1..=2)
        .map(|number| {
            let env = cluster.join_without_pod(number);
            let ns = &cluster.lab.node(number).ns;
            // What flannel's test calls so; not every kernel has dummy devices.
            ns.ip("link add dummy0 type bridge").unwrap();
            ns.ip(&format!("addr add {} dev dummy0", env.subnet))
                .unwrap();
            ns.ip("link set dummy0 up").unwrap();
            env.subnet.addr()
        })
        .collect();
    for (from, to) in [(0, 1), (1, 0)] {
        let ns = &cluster.lab.node(from + 1).ns;
        let (own, other) = (addresses[from].to_string(), addresses[to].to_string());
        let ping = |count| ns.run(&["ping", "-c", count, "-W", "2", "-I", &own, &other]);
        assert!(wait_until(NEWS, || ping("1").is_ok()));
        ping("3").unwrap();
    }
}

#[test]
fn a_config_without_a_backend_means_udp() {
    if skips_test() {
        return;
    }
    let config = r#"{"Network":"10.244.0.0/16"}"#;
    let mut cluster = Cluster::configured(2, Regime::R1, config);
    for number in 1..=2 {
        let env = cluster.join(number);
        let ns = &cluster.lab.node(number).ns;
        let link = ns.ip("-o link show flannel0").unwrap();
        assert!(link.contains("mtu 1472"), "{link}");
        let base = env.subnet.network();
        let addr = ns.ip("-o -4 addr show flannel0").unwrap();
        assert!(addr.contains(&format!("inet {base}/32")), "{addr}");
        let routes = ns.ip("route show dev flannel0").unwrap();
        assert!(routes.contains("10.244.0.0/16"), "{routes}");
        let lease = cluster
            .etcd
            .get(&cluster.lease_key(number))
            .unwrap()
            .unwrap();
        let lease: serde_json::Value = serde_json::from_str(&lease).unwrap();
        let underlay = cluster.lab.node(number).underlay.to_string();
        assert_eq!(lease["PublicIP"], *underlay);
        assert_eq!(lease.get("BackendType"), None);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
}

#[test]
fn weft_nodes_exchange_all_traffic_in_the_udp_format() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        for regime in [Regime::R1, Regime::R3] {
            exchange_all(&weft_and_weft(regime, &[engine]));
        }
    }
}

#[test]
fn weft_and_a_proxy_like_flannels_exchange_all_traffic() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        for regime in [Regime::R1, Regime::R3] {
            let (proxy, cluster) = weft_and_proxy(regime, &[engine]);
            exchange_all(&cluster);
            assert!(proxy.is_alive());
        }
    }
}

#[test]
fn the_way_back_to_flannels_proxy_needs_nothing_but_a_start() {
    if skips_test() {
        return;
    }
    for kill in [false, true] {
        way_back(kill);
    }
}

fn way_back(kill: bool) {
    let (_other, mut cluster) = weft_and_proxy(Regime::R1, &[]);
    let agent = cluster.agents.get_mut(&1).unwrap();
    match kill {
        true => agent.kill().unwrap(),
        false => drop(agent.stop().unwrap()),
    }
    // The port of a killed process is free a little later; flannel would be started again.
    let mut last = start_proxy(&cluster, 1, 2);
    wait_until(NEWS, || {
        if kill && last.is_err() {
            last = start_proxy(&cluster, 1, 2);
        }
        last.is_ok()
    });
    let proxy = last.unwrap();
    let ns = cluster.lab.node(1).ns.clone();
    let route = ns
        .ip(&format!("route get {}", cluster.pod(2).address))
        .unwrap();
    assert!(
        route.contains(&format!("dev {} ", proxy.device())),
        "{route}"
    );
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    exchange_all(&cluster);

    // And forth again, on the device that weft had.
    drop(proxy);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.await_path(1, 2);
    exchange_all(&cluster);
    let devices = ns.ip("-o link show type tun").unwrap();
    assert_eq!(devices.lines().count(), 1, "{devices}");
    assert!(devices.contains(": flannel0: "), "{devices}");
}

/// Send a line and expect it back.
fn echo(client: &mut TcpStream, server: &mut TcpStream, word: u8) {
    let mut read = [0];
    client.write_all(&[word]).unwrap();
    server.read_exact(&mut read).unwrap();
    server.write_all(&read).unwrap();
    client.read_exact(&mut read).unwrap();
    assert_eq!(read, [word]);
}

#[test]
fn connections_from_outside_outlive_a_restart() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(3, Regime::R1, CONFIG);
    cluster.flags = vec!["-ip-masq".to_owned()];
    for number in 1..=2 {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    // Node 3 is no part of the overlay; its packets get the address of node 1's device.
    let outside = cluster.lab.node(3).ns.clone();
    let gateway = cluster.lab.node(1).underlay;
    outside
        .ip(&format!("route add 10.244.0.0/16 via {gateway}"))
        .unwrap();
    let pod = cluster.pod(2);
    let listener = pod.ns.enter(|| TcpListener::bind((pod.address, 0)));
    let listener = listener.unwrap().unwrap();
    let at = listener.local_addr().unwrap();
    let client = outside.enter(|| TcpStream::connect_timeout(&at, NEWS));
    let mut client = client.unwrap().unwrap();
    let (mut server, from) = listener.accept().unwrap();
    let base = cluster.lab.node(1).subnet.unwrap().network();
    assert_eq!(from.ip(), base, "masqueraded");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(2 * NEWS)).unwrap();
    }
    echo(&mut client, &mut server, 1);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.stop().unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    echo(&mut client, &mut server, 2);
}

/// Traffic of all kinds between the nodes, captured on node 2.
fn captured(cluster: &Cluster) -> Vec<Frame> {
    let capture = Capture::of_port(&cluster.lab, 2, proxy::PORT, "ip");
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    for (from, to) in [(a, b), (b, a)] {
        tcp(from, to, 4, 500_000);
        udp(from, to, &[0, 1, 1_001, 1_444], 20);
        udp_super(from, to, 1_111, 30, 5);
    }
    exchange_fragments(cluster, 1, 2);
    capture.frames()
}

/// Each datagram holds one IPv4 packet and nothing else, and fits the underlay.
fn check(cluster: &Cluster) {
    let frames = captured(cluster);
    for node in 1..=2 {
        let address = cluster.lab.node(node).underlay.to_string();
        let sent: Vec<_> = frames
            .iter()
            .filter(|frame| frame.text("ip.src", 0) == address)
            .collect();
        assert!(sent.len() > 2_000, "{} frames from node {node}", sent.len());
        for frame in &sent {
            let len = |field, layer| frame.number(field, layer);
            assert!(frame.all("_ws.malformed").is_empty(), "{frame:?}");
            assert!(len("ip.len", 0) <= 1_500, "{frame:?}");
            assert!(!frame.is_set("ip.flags.mf", 0), "{frame:?}");
            assert_eq!(len("udp.dstport", 0), u64::from(proxy::PORT), "{frame:?}");
            assert_eq!(frame.all("ip.src").len(), 2, "layers of {frame:?}");
            assert_eq!(len("udp.length", 0), len("ip.len", 0) - 20, "{frame:?}");
            assert_eq!(len("ip.len", 1), len("udp.length", 0) - 8, "{frame:?}");
            assert!(len("ip.len", 1) <= u64::from(MTU), "{frame:?}");
            assert_eq!(frame.all("ip.checksum.status"), [GOOD; 2], "{frame:?}");
            assert_ne!(len("udp.checksum", 0), 0, "{frame:?}");
            assert_eq!(frame.text("udp.checksum.status", 0), GOOD, "{frame:?}");
        }
        let full = sent
            .iter()
            .filter(|frame| frame.number("ip.len", 1) == u64::from(MTU));
        assert!(full.count() > 1_000, "node {node} sends full packets");
    }
}

#[test]
fn each_datagram_is_one_packet_that_fits_the_wire() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        check(&weft_and_weft(Regime::R3, &[engine]));
    }
    check(&weft_and_proxy(Regime::R3, &[]).1);
}

/// A packet as a hostile or broken sender makes it, its checksum right.
fn packet(src: Ipv4Addr, dst: Ipv4Addr, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0];
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend([0, 9, 0, 9]);
    bytes.extend((8 + payload as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.resize(28 + payload, 7);
    let len = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    let words = bytes[..20].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn hostile_datagrams_are_counted_under_their_own_reasons() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(3, Regime::R1, CONFIG);
    for number in 1..=2 {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    let (own, peer) = (cluster.pod(1).address, cluster.pod(2).address);
    let good = packet(peer, own, 100);
    let mut wrong_sum = good.clone();
    wrong_sum[10] ^= 1;
    let mut cut_off = packet(peer, own, 3_000);
    cut_off.truncate(1_472);
    let mut v6 = vec![0; 60];
    v6[0] = 0x60;
    let cases = [
        (3, good.clone(), "unknown_sender"),
        (2, packet(own, own, 8), "spoofed_source"),
        (
            2,
            packet([10, 244, 255, 9].into(), own, 8),
            "spoofed_source",
        ),
        (2, wrong_sum, "bad_inner_ip"),
        (2, cut_off, "bad_inner_ip"),
        (2, [&good[..], &good[..]].concat(), "bad_inner_ip"),
        (2, good[..19].to_vec(), "bad_inner_ip"),
        (2, Vec::new(), "bad_inner_ip"),
        (2, v6, "bad_inner_ip"),
    ];
    let to = (cluster.lab.node(1).underlay, proxy::PORT);
    for (node, bytes, reason) in cases {
        let name = format!("drop_{reason}");
        let before = cluster.counter(1, &name);
        let socket = cluster
            .lab
            .node(node)
            .ns
            .enter(|| UdpSocket::bind("0.0.0.0:0"));
        socket.unwrap().unwrap().send_to(&bytes, to).unwrap();
        let counted = wait_until(NEWS, || cluster.counter(1, &name) == before + 1);
        assert!(counted, "{} bytes from node {node}: no {name}", bytes.len());
    }
}

#[test]
fn a_destination_that_no_node_has_is_unreachable() {
    if skips_test() {
        return;
    }
    let cluster = weft_and_weft(Regime::R1, &[]);
    let pod = &cluster.pod(1).ns;
    let nobody = "10.244.255.9";
    let heard = wait_until(NEWS, || {
        let output = pod
            .command("ping")
            .args(["-c", "1", "-W", "1", nobody])
            .output();
        let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        text.contains("Destination Net Unreachable")
    });
    assert!(heard, "ping hears nothing");
    assert!(cluster.counter(1, "drop_no_peer") > 0);
    assert!(cluster.counter(1, "icmp_sent") > 0);
}
