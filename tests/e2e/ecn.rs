//! Congestion marks between pods: negotiated end to end, set on the underlay, answered by
//! the sender.

use crate::capture::{Capture, Frame};
use crate::cluster::{Cluster, ENGINES, NEWS, WORKERS};
use crate::errors::Errors;
use crate::traffic::tcp;
use crate::tunnel_gso::send_until_whole;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{Namespace, Regime, skips_test, wait_until};

/// TCP flags: of the handshake, of the receiver that saw a mark, and of the sender's answer.
const SYN: u64 = 0x02;
const ECE: u64 = 0x40;
const CWR: u64 = 0x80;

/// ECN fields.
const NOT_ECT: u64 = 0;
const ECT_0: u64 = 2;
const CE: u64 = 3;

/// Bytes of TCP payload in a segment that fills the overlay's MTU.
const FULL: u64 = 1_450 - 52;

/// Bytes of a transfer: some dozens of super-packets.
const BYTES: usize = 4 << 20;

/// tcpdump gets what came in a second ago, or more when that is much.
const CAPTURED: Duration = Duration::from_millis(1_200);

/// Two nodes whose pods ask for ECN, and a third, without an agent, for the sake of the switch
/// between them.
fn cluster(regime: Regime, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty(3, regime);
    cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    for number in [1, 2] {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    for number in [1, 2] {
        let pod = &cluster.pod(number).ns;
        pod.sysctl("net/ipv4/tcp_ecn", "1").unwrap();
    }
    cluster
}

/// Mark what node 1 sends in VXLAN and fits `which`, as a congested router would. Rules of the
/// node itself see nothing of what its programs send.
fn congest(cluster: &Cluster, which: &str) {
    let switch = cluster.lab.switch().unwrap();
    for rule in [
        "add table netdev router",
        "add chain netdev router in { type filter hook ingress device port1 priority 0; }",
        &format!("add rule netdev router in udp dport 8472 {which} ip ecn set ce"),
    ] {
        switch.run(&["nft", rule]).unwrap();
    }
}

/// A counter of the kernel: of `IpExt` in `netstat`, or of `Tcp` in `snmp`.
fn kernel_counter(ns: &Namespace, file: &str, table: &str, name: &str) -> u64 {
    let text = ns.proc_net(file).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(table));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let value = pairs.find(|(known, _)| *known == name).unwrap().1;
    value.parse().unwrap()
}

/// Received packets by ECN field, such as `InCEPkts`.
fn received(ns: &Namespace, name: &str) -> u64 {
    kernel_counter(ns, "netstat", "IpExt:", name)
}

/// TCP of one direction in a capture.
struct Direction<'a>(Vec<&'a Frame>);

impl<'a> Direction<'a> {
    /// What the pod with this address sent.
    fn of(frames: &'a [Frame], source: Ipv4Addr) -> Direction<'a> {
        let source = [source.to_string()];
        let is_tcp = |frame: &&Frame| !frame.all("tcp.flags").is_empty();
        let sent = frames.iter().filter(|f| f.all("ip.src").ends_with(&source));
        Direction(sent.filter(is_tcp).collect())
    }

    fn data(&self) -> impl Iterator<Item = &'a Frame> {
        let all = self.0.iter().copied();
        all.filter(|frame| frame.number("tcp.len", 0) > 0)
    }

    /// Segments with a flag, by port and sequence number; handshakes have them for another
    /// reason.
    fn flagged(&self, flag: u64) -> BTreeSet<(u64, u64)> {
        let flags = |frame: &Frame| frame.number("tcp.flags", 0);
        let frames = self.0.iter();
        let flagged = frames.filter(|f| flags(f) & flag != 0 && flags(f) & SYN == 0);
        flagged
            .map(|f| (f.number("tcp.srcport", 0), f.number("tcp.seq_raw", 0)))
            .collect()
    }

    /// TCP payload in packets with this ECN field in layer `layer`, in bytes.
    fn payload(&self, ecn: u64, layer: usize) -> u64 {
        let with = self
            .data()
            .filter(|f| f.number("ip.dsfield.ecn", layer) == ecn);
        with.map(|f| f.number("tcp.len", 0)).sum()
    }
}

/// What both pods and the wire saw of a transfer from node 1 to node 2 in which some of the
/// datagrams were marked.
struct Observed {
    sender: Vec<Frame>,
    wire: Vec<Frame>,
    receiver: Vec<Frame>,
}

impl Observed {
    fn transfer(cluster: &Cluster) -> Observed {
        // Every tenth send, be it one frame or many; what cannot be marked would be lost.
        congest(cluster, "ip ecn ect0 numgen inc mod 10 == 5");
        let sender = Capture::of_pod(&cluster.lab, 1);
        let wire = Capture::start(&cluster.lab, 2);
        let receiver = Capture::of_pod(&cluster.lab, 2);
        tcp(cluster.pod(1), cluster.pod(2), 2, BYTES);
        std::thread::sleep(CAPTURED);
        Observed {
            sender: sender.frames(),
            wire: wire.frames(),
            receiver: receiver.frames(),
        }
    }

    /// Marks reach the receiver, it tells the sender, and the sender's answer comes back
    /// where the sender put it.
    fn assert_answered(&self, cluster: &Cluster) {
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        let sent = Direction::of(&self.sender, a.address);
        let arrived = Direction::of(&self.receiver, a.address);
        assert_eq!(sent.payload(CE, 0), 0, "the sender marks nothing");
        assert_ne!(arrived.payload(CE, 0), 0, "no mark arrived");
        assert_ne!(arrived.payload(ECT_0, 0), 0, "everything is marked");
        assert_ne!(received(&b.ns, "InCEPkts"), 0);
        assert_ne!(received(&b.ns, "InECT0Pkts"), 0);

        let told = Direction::of(&self.receiver, b.address).flagged(ECE);
        assert!(!told.is_empty(), "the receiver says nothing of the marks");
        assert_eq!(
            told,
            Direction::of(&self.sender, b.address).flagged(ECE),
            "ECE"
        );

        let answers = sent.flagged(CWR);
        let whole = sent.data().filter(|f| f.number("tcp.len", 0) > FULL);
        let whole = whole.filter(|f| f.number("tcp.flags", 0) & CWR != 0);
        assert_ne!(whole.count(), 0, "no super-packet has CWR");
        // Were it on later segments of a super-packet, they would arrive by themselves.
        assert_eq!(arrived.flagged(CWR), answers, "CWR");
    }

    /// The same on a wire where each frame is a single segment.
    fn assert_on_wire(&self, cluster: &Cluster) {
        let a = cluster.pod(1);
        let sent = Direction::of(&self.sender, a.address);
        let wire = Direction::of(&self.wire, a.address);
        let arrived = Direction::of(&self.receiver, a.address);
        assert_eq!(wire.flagged(CWR), sent.flagged(CWR), "CWR");
        assert_eq!(wire.payload(CE, 0), arrived.payload(CE, 0), "bytes with CE");
        // A sender repeats itself without ECN (RFC 3168, 6.1.5).
        let mut repeated = kernel_counter(&a.ns, "snmp", "Tcp:", "RetransSegs");
        for frame in wire.data() {
            let ecn = [0, 1].map(|layer| frame.number("ip.dsfield.ecn", layer));
            match ecn {
                [ECT_0 | CE, ECT_0] => {}
                [NOT_ECT, NOT_ECT] if repeated > 0 => repeated -= 1,
                _ => panic!("ECN fields {ecn:?} of {frame:?}"),
            }
        }
    }
}

#[test]
fn marks_reach_the_receiver_and_the_answer_is_on_single_segments() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = cluster(Regime::R3, &[engine]);
        let errors = Errors::of(&cluster);
        let seen = Observed::transfer(&cluster);
        seen.assert_answered(&cluster);
        seen.assert_on_wire(&cluster);
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn marks_on_super_packets_that_leave_whole_reach_the_receiver() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = cluster(Regime::R1, &[WORKERS, engine]);
        send_until_whole(&cluster, 1, 2);
        let errors = Errors::of(&cluster);
        let before = cluster.counter(1, "super_sends");
        let seen = Observed::transfer(&cluster);
        let whole = cluster.counter(1, "super_sends") - before;
        assert!(whole > 50, "{whole} super-packets left whole by {engine}");
        seen.assert_answered(&cluster);
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn a_mark_on_what_cannot_carry_it_is_a_drop() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = cluster(Regime::R1, &[engine]);
        congest(&cluster, "");
        let answer = ping(&cluster.pod(1).ns, cluster.pod(2).address, 3, 56, false);
        assert!(answer.is_err(), "a marked ping arrived by {engine}");
        let dropped = || cluster.counter(2, "drop_ecn_drop");
        wait_until(NEWS, || dropped() >= 3);
        assert_eq!(dropped(), 3, "drops by {engine}");
        assert_eq!(received(&cluster.pod(2).ns, "InCEPkts"), 0);
    }
}
