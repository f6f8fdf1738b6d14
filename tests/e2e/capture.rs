//! What crosses the underlay, as tcpdump sees it and tshark reads it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use weft_lab::{Lab, Namespace, Process, run, wait_until};

/// How long tcpdump may take to start.
const START: Duration = Duration::from_secs(10);

/// Silence after which tcpdump has nothing more to write: it looks each second at the latest.
const QUIET: Duration = Duration::from_millis(1_200);

/// Fields asked of tshark. Each frame has a value per layer, the outermost first.
const FIELDS: [&str; 29] = [
    "frame.number",
    "frame.len",
    "ip.src",
    "ip.dst",
    "ip.len",
    "ip.ttl",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.frag_offset",
    "ip.proto",
    "ip.checksum.status",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "udp.checksum",
    "udp.checksum.status",
    "vxlan.flags",
    "vxlan.gbp",
    "vxlan.reserved8",
    "vxlan.vni",
    "ip.dsfield.ecn",
    "tcp.srcport",
    "tcp.seq_raw",
    "tcp.flags",
    "tcp.hdr_len",
    "tcp.len",
    "tcp.checksum",
    "tcp.checksum.status",
    "_ws.malformed",
];

/// A running capture.
pub(crate) struct Capture {
    tcpdump: Process,
    /// What of it tshark shows.
    shown: String,
    /// A port, and what its datagrams hold.
    tunnel: (u16, &'static str),
    file: PathBuf,
    log: PathBuf,
}

impl Capture {
    /// Capture what passes the underlay device of a node.
    pub(crate) fn start(lab: &Lab, number: usize) -> Capture {
        Capture::of_port(lab, number, 8472, "vxlan")
    }

    /// Capture what passes the underlay device of a node to this port, whose datagrams hold
    /// `content`, a protocol in tshark's words.
    pub(crate) fn of_port(lab: &Lab, number: usize, port: u16, content: &'static str) -> Capture {
        let shown = format!("udp.port=={port}");
        Capture::start_in(lab, &lab.node(number).ns, shown, (port, content))
    }

    /// Capture the TCP of a node's first pod as it leaves and reaches the pod.
    pub(crate) fn of_pod(lab: &Lab, number: usize) -> Capture {
        let ns = &lab.node(number).pod().unwrap().ns;
        Capture::start_in(lab, ns, "tcp".to_owned(), (8472, "vxlan"))
    }

    fn start_in(lab: &Lab, ns: &Namespace, shown: String, tunnel: (u16, &'static str)) -> Capture {
        let file = lab.dir().join(format!("{}.pcap", ns.name()));
        let log = lab.dir().join(format!("{}.tcpdump.log", ns.name()));
        let mut command = ns.command("tcpdump");
        // Buffered in the kernel, so that tcpdump keeps up; written as root, who owns the
        // directory.
        command.args(["-i", "eth0", "-s", "0", "-B", "65536", "-Z", "root", "-w"]);
        command.arg(&file);
        let tcpdump = ns.spawn(command, &log).unwrap();
        let started = wait_until(START, || read(&log).contains("listening on"));
        assert!(started, "tcpdump does not start: {}", read(&log));
        Capture {
            tcpdump,
            shown,
            tunnel,
            file,
            log,
        }
    }

    /// Wait until tcpdump has written what the kernel holds for it: what it has not read when it is
    /// stopped is lost, and not counted.
    fn catch_up(&self) {
        let len = || fs::metadata(&self.file).map_or(0, |file| file.len());
        let (mut last, mut since) = (len(), Instant::now());
        wait_until(START, || {
            let now = len();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET
        });
    }

    /// End the capture and dissect it with every checksum verified.
    pub(crate) fn frames(mut self) -> Vec<Frame> {
        self.catch_up();
        self.tcpdump.stop().unwrap();
        let log = read(&self.log);
        assert!(
            log.contains("\n0 packets dropped by kernel"),
            "tcpdump missed some: {log}"
        );
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file);
        // Payload is noise, in which some dissector would see a protocol of its own.
        let (port, content) = self.tunnel;
        for rule in [
            format!("udp.port==1-{},data", port - 1),
            format!("udp.port=={}-65535,data", port + 1),
            "tcp.port==1-65535,data".to_owned(),
            format!("udp.port=={port},{content}"),
        ] {
            command.args(["-d", &rule]);
        }
        command.args(["-Y", &self.shown]);
        for preference in [
            "ip.check_checksum:TRUE",
            "udp.check_checksum:TRUE",
            "tcp.check_checksum:TRUE",
            // Each fragment is looked at by itself.
            "ip.defragment:FALSE",
            "tcp.desegment_tcp_streams:FALSE",
        ] {
            command.args(["-o", preference]);
        }
        command.args(["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        run(&mut command)
            .unwrap()
            .lines()
            .map(Frame::parse)
            .collect()
    }
}

fn read(log: &PathBuf) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// One frame as tshark reads it.
#[derive(Debug)]
pub(crate) struct Frame(HashMap<&'static str, Vec<String>>);

impl Frame {
    fn parse(line: &str) -> Frame {
        let values = line.split('\t').map(|values| {
            let values = values.split(',').filter(|value| !value.is_empty());
            values.map(str::to_owned).collect()
        });
        Frame(FIELDS.into_iter().zip(values).collect())
    }

    /// All values of a field, the outermost layer first.
    pub(crate) fn all(&self, field: &str) -> &[String] {
        &self.0[field]
    }

    /// The value of a field in a layer, 0 for the outermost.
    pub(crate) fn text(&self, field: &str, layer: usize) -> &str {
        let values = self.all(field);
        let value = values.get(layer);
        value.unwrap_or_else(|| panic!("no {field} in layer {layer} of {self:?}"))
    }

    /// The same as a number, decimal or hexadecimal.
    pub(crate) fn number(&self, field: &str, layer: usize) -> u64 {
        let text = self.text(field, layer);
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.unwrap_or_else(|_| panic!("{field} is {text}"))
    }

    /// Whether a flag is set; tshark writes `1` or `True`.
    pub(crate) fn is_set(&self, field: &str, layer: usize) -> bool {
        matches!(self.text(field, layer), "1" | "True")
    }
}
