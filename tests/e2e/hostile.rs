//! Datagrams that must not get in: each is dropped and counted under its own reason, and
//! disturbs nobody.

use crate::cluster::{Cluster, ENGINES};
use crate::frames::{Frame, mac};
use crate::probe::Probe;
use crate::traffic::silent_socket;
use rustix::net::sockopt::set_ip_tos;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use weft_lab::{Namespace, Regime, skips_test, wait_until};

/// Datagrams sent of each kind.
const EACH: u64 = 7;

/// Time for datagrams to be received and counted.
const ARRIVAL: Duration = Duration::from_secs(3);

/// What is counted because of what the kernel itself sends through the tunnel device.
const OWN_TRAFFIC: [&str; 2] = ["drop_not_unicast", "drop_no_peer"];

/// Nodes 1 and 2 are peers, node 3 is a host of the underlay without a lease.
struct Scene {
    cluster: Cluster,
    peer: UdpSocket,
    stranger: UdpSocket,
    /// What node 2 may send to a socket of node 1's pod.
    right: Frame,
    silent: UdpSocket,
}

impl Scene {
    fn new(engine: &str) -> Scene {
        let mut cluster = Cluster::empty(3, Regime::R1);
        cluster.flags = vec![engine.to_owned()];
        cluster.join(1);
        cluster.join(2);
        cluster.await_path(1, 2);
        cluster.await_path(2, 1);
        let (victim, peer) = (cluster.pod(1), cluster.pod(2));
        let (silent, address) = silent_socket(victim);
        let right = Frame::new(
            (mac(&cluster.mac(2)), peer.address),
            (mac(&cluster.mac(1)), victim.address),
            address.port(),
        );
        Scene {
            peer: sender(&cluster.lab.node(2).ns),
            stranger: sender(&cluster.lab.node(3).ns),
            cluster,
            right,
            silent,
        }
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let mut counters = self.cluster.agents[&1].counters().unwrap();
        let foreign = |name: &String| !OWN_TRAFFIC.contains(&name.as_str());
        counters.retain(|name, _| name.starts_with("drop_") && foreign(name));
        counters
    }

    /// Send a datagram to node 1 some times, and expect it to be counted under `reason` and
    /// nowhere else, and not to reach the pod.
    fn expect(&self, from: &UdpSocket, datagram: &[u8], reason: &str, what: &str) {
        let mut expected = self.drops();
        for _ in 0..EACH {
            self.send(from, datagram);
        }
        *expected.entry(format!("drop_{reason}")).or_default() += EACH;
        let mut seen = BTreeMap::new();
        wait_until(ARRIVAL, || {
            seen = self.drops();
            seen == expected
        });
        assert_eq!(seen, expected, "drops after {EACH} datagrams with {what}");
        let mut buffer = [0; 64];
        let got = self.silent.recv(&mut buffer);
        assert!(got.is_err(), "a datagram with {what} reached the pod");
    }

    fn expect_from_peer(&self, frame: &Frame, reason: &str, what: &str) {
        self.expect(&self.peer, &frame.bytes(), reason, what);
    }

    fn send(&self, from: &UdpSocket, datagram: &[u8]) {
        let to = SocketAddr::from((self.cluster.lab.node(1).underlay, 8472));
        from.send_to(datagram, to).unwrap();
    }
}

fn sender(ns: &Namespace) -> UdpSocket {
    let socket = ns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
    socket.unwrap().unwrap()
}

#[test]
fn a_frame_made_by_hand_arrives_while_nothing_is_wrong_with_it() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let scene = Scene::new(engine);
        scene.send(&scene.peer, &scene.right.bytes());
        let mut buffer = [0; 64];
        let mut got = None;
        wait_until(ARRIVAL, || {
            got = scene.silent.recv(&mut buffer).ok();
            got.is_some()
        });
        assert_eq!(&buffer[..got.unwrap()], b"weft");
    }
}

/// Run `attack` on each engine while the victim's pod and the peer's talk; they must not
/// notice.
fn undisturbed(attack: impl Fn(&Scene, &Frame)) {
    for engine in ENGINES {
        let scene = Scene::new(engine);
        let probe = Probe::start(scene.cluster.pod(1), scene.cluster.pod(2));
        attack(&scene, &scene.right);
        probe.finish();
    }
}

#[test]
fn malformed_vxlan_headers_are_dropped_and_counted() {
    if skips_test() {
        return;
    }
    undisturbed(|scene, right| {
        for cut in [0, 1, 7, 8, 21] {
            let mut frame = right.clone();
            frame.cut = Some(cut);
            scene.expect_from_peer(&frame, "bad_vxlan", &format!("{cut} bytes only"));
        }
        for flags in [0, 1, 0x0800_0001, 0x0c00_0000, 0x8800_0000, 0x0880_0000] {
            let mut frame = right.clone();
            frame.flags = flags;
            scene.expect_from_peer(&frame, "bad_vxlan", &format!("flags {flags:#010x}"));
        }
        let mut frame = right.clone();
        frame.reserved = 1;
        scene.expect_from_peer(&frame, "bad_vxlan", "a reserved bit after the VNI");
    });
}

#[test]
fn frames_of_other_networks_and_for_other_stations_are_dropped_and_counted() {
    if skips_test() {
        return;
    }
    undisturbed(|scene, right| {
        for vni in [0, 2, 0x00ff_ffff] {
            let mut frame = right.clone();
            frame.vni = vni;
            scene.expect_from_peer(&frame, "wrong_vni", &format!("VNI {vni}"));
        }
        for mac in [[0xff; 6], [0; 6], right.src_mac, [1, 0, 0x5e, 0, 0, 1]] {
            let mut frame = right.clone();
            frame.dst_mac = mac;
            scene.expect_from_peer(&frame, "wrong_mac", &format!("MAC {mac:02x?}"));
        }
        let mut frame = right.clone();
        frame.src_mac = right.dst_mac;
        scene.expect_from_peer(&frame, "loop", "our own MAC as source");
        for ethertype in [0x0806, 0x8100, 0x0000, 0x88b5] {
            let mut frame = right.clone();
            frame.ethertype = ethertype;
            let what = format!("EtherType {ethertype:#06x}");
            scene.expect_from_peer(&frame, "bad_ethertype", &what);
        }
    });
}

#[test]
fn broken_inner_packets_are_dropped_and_counted() {
    if skips_test() {
        return;
    }
    undisturbed(|scene, right| {
        for version in [0x65, 0x05, 0x44, 0x40, 0x4f] {
            let mut frame = right.clone();
            frame.version = version;
            let what = format!("IP version and length {version:#04x}");
            scene.expect_from_peer(&frame, "bad_inner_ip", &what);
        }
        for excess in [1, 1_000, -13, -32] {
            let mut frame = right.clone();
            frame.excess = excess;
            let what = format!("total length off by {excess}");
            scene.expect_from_peer(&frame, "bad_inner_ip", &what);
        }
        for cut in [22, 23, 41, 42, 53] {
            let mut frame = right.clone();
            frame.cut = Some(cut);
            let what = format!("a packet cut at {cut} bytes");
            scene.expect_from_peer(&frame, "bad_inner_ip", &what);
        }
        let mut frame = right.clone();
        frame.ethertype = 0x86dd;
        scene.expect_from_peer(&frame, "bad_inner_ip", "IPv4 called IPv6");
    });
}

#[test]
fn spoofed_sources_and_unknown_senders_are_dropped_and_counted() {
    if skips_test() {
        return;
    }
    undisturbed(|scene, right| {
        let own = scene.cluster.pod(1).address;
        let gateway = Ipv4Addr::from(u32::from(own) - 1);
        for src in [own, gateway, Ipv4Addr::new(10, 244, 255, 9)] {
            let mut frame = right.clone();
            frame.src = src;
            scene.expect_from_peer(&frame, "spoofed_source", &format!("source {src}"));
        }
        let bytes = right.bytes();
        scene.expect(
            &scene.stranger,
            &bytes,
            "unknown_sender",
            "a sender without lease",
        );
        let marked = sender(&scene.cluster.lab.node(2).ns);
        set_ip_tos(&marked, 3).unwrap();
        let what = "outer CE on a packet that knows no ECN";
        scene.expect(&marked, &bytes, "ecn_drop", what);
    });
}

#[test]
fn a_peer_may_not_speak_for_another_peer() {
    if skips_test() {
        return;
    }
    let scene = {
        let mut scene = Scene::new(ENGINES[0]);
        scene.cluster.join(3);
        scene.cluster.await_path(1, 3);
        scene
    };
    let probe = Probe::start(scene.cluster.pod(1), scene.cluster.pod(3));
    let frame = Frame {
        src: scene.cluster.pod(3).address,
        ..scene.right.clone()
    };
    scene.expect(
        &scene.peer,
        &frame.bytes(),
        "spoofed_source",
        "another peer's pod as source",
    );
    // From that peer itself it is right.
    scene.send(&scene.stranger, &frame.bytes());
    let arrived = wait_until(ARRIVAL, || scene.silent.recv(&mut [0; 64]).is_ok());
    assert!(arrived, "node 3 may use its own addresses");
    probe.finish();
}

#[test]
fn a_flood_of_hostile_datagrams_leaves_traffic_alone() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        flood(&Scene::new(engine));
    }
}

fn flood(scene: &Scene) {
    let probe = Probe::start(scene.cluster.pod(1), scene.cluster.pod(2));
    let before = scene.drops();
    let bad = Frame {
        vni: 77,
        ..scene.right.clone()
    };
    let mut noise = vec![0; 1_400];
    crate::traffic::content(5, 0, &mut noise);
    for i in 0..20_000 {
        scene.send(&scene.stranger, &noise[..i % 1_400]);
        scene.send(&scene.peer, &bad.bytes());
        if i % 32 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    probe.finish();
    let after = scene.drops();
    let grown = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    assert_eq!(grown("drop_bad_vxlan"), 20_000);
    assert_eq!(grown("drop_wrong_vni"), 20_000);
}
