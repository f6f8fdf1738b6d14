//! Frames over an IPv6 underlay as an independent dissector reads them, with nothing left to
//! offloads.

use crate::traffic::{ping, tcp, udp, udp_super};
use crate::tunnel::{Family, Node, Offload, Tunnel, UNDERLAY_MTU, Vtep, underlay};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::NamedTempFile;
use weft_dataplane::worker::EngineKind;
use weft_lab::skips_test_without_namespaces;

/// MTU of the underlay and the Ethernet header.
const LONGEST_FRAME: u64 = UNDERLAY_MTU as u64 + 14;

/// tshark's word for a checksum that it found right.
const GOOD: &str = "1";

/// How software, the kernel's and ours, writes a checksum of 0 in TCP too, which tshark does
/// not call right: it tells the two apart (RFC 1624). Receivers do not.
const ZERO: &str = "0xffff";

/// Fields asked of tshark. Each frame has a value per layer, the outermost first.
const FIELDS: [&str; 18] = [
    "frame.len",
    "ipv6.src",
    "ipv6.plen",
    "ipv6.hlim",
    "ipv6.tclass.dscp",
    "ipv6.flow",
    "ipv6.fraghdr.nxt",
    "ip.checksum.status",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "udp.checksum",
    "udp.checksum.status",
    "vxlan.vni",
    "tcp.checksum",
    "tcp.checksum.status",
    "icmpv6.checksum.status",
    "_ws.malformed",
];

/// A running capture of a node's underlay device.
struct Capture {
    tcpdump: Child,
    stderr: BufReader<ChildStderr>,
    file: NamedTempFile,
}

impl Capture {
    fn start(node: &Node) -> Capture {
        let file = NamedTempFile::new().unwrap();
        // Buffered in the kernel, so that tcpdump keeps up; written as root, who owns the file.
        let mut command = Command::new("tcpdump");
        command.args(["-i", "eth0", "-s", "0", "-B", "65536", "-Z", "root", "-w"]);
        command.arg(file.path()).stderr(Stdio::piped());
        let mut tcpdump = node.ns.enter(|| command.spawn().unwrap()).unwrap();
        let mut stderr = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "tcpdump ended");
        }
        Capture {
            tcpdump,
            stderr,
            file,
        }
    }

    /// End the capture and dissect it with every checksum verified.
    fn frames(mut self) -> Vec<Frame> {
        let pid = rustix::process::Pid::from_child(&self.tcpdump);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let complete = rest.contains("\n0 packets dropped by kernel");
        assert!(complete, "tcpdump missed some: {rest}");
        let mut command = Command::new("tshark");
        command.arg("-r").arg(self.file.path());
        command.args(["-Y", "udp.port==8472"]);
        // Payload is noise, in which some dissector would see a protocol of its own.
        for rule in [
            "udp.port==1-8471,data",
            "udp.port==8473-65535,data",
            "tcp.port==1-65535,data",
            "udp.port==8472,vxlan",
        ] {
            command.args(["-d", rule]);
        }
        for protocol in ["ip", "udp", "tcp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        command.args(["-o", "tcp.desegment_tcp_streams:FALSE"]);
        command.args(["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "tshark: {:?}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(Frame::parse).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// One frame as tshark reads it.
#[derive(Debug)]
struct Frame(HashMap<&'static str, Vec<String>>);

impl Frame {
    fn parse(line: &str) -> Frame {
        let values = line.split('\t').map(|values| {
            let values = values.split(',').filter(|value| !value.is_empty());
            values.map(str::to_owned).collect()
        });
        Frame(FIELDS.into_iter().zip(values).collect())
    }

    fn all(&self, field: &str) -> &[String] {
        &self.0[field]
    }

    /// A number of the outermost layer, decimal or hexadecimal.
    fn outer(&self, field: &str) -> u64 {
        let text = self.all(field).first();
        let text = text.unwrap_or_else(|| panic!("no {field} in {self:?}"));
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.unwrap_or_else(|_| panic!("{field} is {text}"))
    }

    /// What must hold of every frame, whoever sent it.
    fn check(&self) {
        assert!(self.all("_ws.malformed").is_empty(), "{self:?}");
        let len = self.outer("frame.len");
        assert!(len <= LONGEST_FRAME, "{self:?}");
        assert_eq!(self.outer("ipv6.plen"), len - 14 - 40, "{self:?}");
        assert_eq!(self.outer("udp.length"), len - 14 - 40, "{self:?}");
        assert!(self.all("ipv6.fraghdr.nxt").is_empty(), "{self:?}");
        assert_eq!(self.outer("udp.dstport"), 8472, "{self:?}");
        assert_eq!(self.outer("vxlan.vni"), 1, "{self:?}");
        assert_ne!(self.outer("udp.checksum"), 0, "{self:?}");
        let mut sums = 0;
        for layer in ["ip", "udp", "tcp", "icmpv6"] {
            for status in self.all(&format!("{layer}.checksum.status")) {
                let good = status == GOOD || layer == "tcp" && self.all("tcp.checksum") == [ZERO];
                assert!(good, "{layer} in {self:?}");
                sums += 1;
            }
        }
        // The outer one, and one or two inside: IPv4 has one itself.
        assert!(sums >= 2, "{self:?}");
    }
}

/// Check what crosses a tunnel over IPv6 whose node 1 is weft's.
fn check(vteps: [Vtep; 2]) {
    if skips_test_without_namespaces() {
        return;
    }
    let tunnel = Tunnel::new(Family::V6, vteps, Offload::None);
    let [a, b] = &tunnel.nodes;
    let capture = Capture::start(b);
    for family in Family::BOTH {
        let largest = tunnel.mtu() - family.header_len() - 8;
        for (from, to) in [(a, b), (b, a)] {
            ping(family, from, to, largest);
            tcp(family, from, to, 8, 200_000);
            udp(family, from, to, &[0, 1, 1_001, largest]);
            udp_super(family, from, to, (1_111, 30, 5));
        }
    }
    let frames = capture.frames();
    tunnel.assert_no_errors();
    for node in &tunnel.nodes {
        let address = underlay(Family::V6, node.number).to_string();
        let sent = frames.iter().filter(|f| f.all("ipv6.src")[0] == address);
        let sent: Vec<_> = sent.collect();
        sent.iter().for_each(|frame| frame.check());
        let full = sent
            .iter()
            .filter(|f| f.outer("frame.len") == LONGEST_FRAME);
        // 3.2 MB of TCP in segments of at most 1,390 bytes.
        assert!(full.count() > 2_000, "{} frames from {address}", sent.len());
        if node.vtep != Vtep::Kernel {
            check_outer_header(&sent);
        }
    }
}

/// What must hold of the outer headers that weft sends.
fn check_outer_header(sent: &[&Frame]) {
    let mut labels: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for frame in sent {
        assert_eq!(frame.outer("ipv6.hlim"), 64, "{frame:?}");
        assert_eq!(frame.outer("ipv6.tclass.dscp"), 0, "{frame:?}");
        let port = frame.outer("udp.srcport");
        labels
            .entry(port)
            .or_default()
            .insert(frame.outer("ipv6.flow"));
    }
    assert!(
        labels.len() > 4,
        "flows leave from these ports only: {labels:?}"
    );
    // Routers spread flows by the label: a second one would reorder them.
    let single = labels.values().all(|labels| labels.len() == 1);
    assert!(single, "labels of each source port: {labels:x?}");
}

#[test]
fn frames_of_the_ring_engine_fit_an_ipv6_underlay_and_every_field_is_right() {
    check([Vtep::Weft(EngineKind::Ring); 2]);
}

#[test]
fn frames_of_the_poll_engine_fit_an_ipv6_underlay_and_every_field_is_right() {
    check([Vtep::Weft(EngineKind::Poll); 2]);
}

#[test]
fn frames_between_weft_and_the_kernel_fit_an_ipv6_underlay_and_every_field_is_right() {
    check([Vtep::Weft(EngineKind::Ring), Vtep::Kernel]);
}
