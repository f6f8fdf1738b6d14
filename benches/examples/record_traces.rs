//! Records what `benches/traces` holds: the headers of what a node's TUN hands out under load.
//!
//! `cargo run -p weft-benches --example record_traces -- target/release/weft`, as root.

use std::path::Path;
use std::time::Duration;
use weft_benches::load::Workload;
use weft_lab::{Cluster, ClusterOptions, Error, Namespace, Result};

/// Packets of a trace.
const PACKETS: &str = "256";

/// Bytes kept of each: the longest IPv4 and TCP headers that real traffic has.
const HEADERS: &str = "96";

/// Time for a load to reach its speed before the capture begins.
const WARM_UP: Duration = Duration::from_millis(800);

fn main() -> Result<()> {
    let binary = std::env::args_os().nth(1);
    let binary = binary.ok_or_else(|| Error::new("usage: record_traces WEFT_BINARY"))?;
    let binary = std::fs::canonicalize(binary).map_err(|e| Error::because("binary", e))?;
    let cluster = Cluster::start(&ClusterOptions::new(binary), |_| {})?;
    cluster.ping_all()?;
    for (name, workload) in [
        ("tcp-data", Workload::Tcp1),
        ("tcp-acknowledgments", Workload::Tcp1Reverse),
        ("tcp-4-streams", Workload::Tcp4),
        ("udp-64", Workload::Udp64),
    ] {
        record(&cluster, name, workload)?;
    }
    Ok(())
}

/// Capture what node 1's TUN hands out while `workload` runs from its pod.
fn record(cluster: &Cluster, name: &str, workload: Workload) -> Result<()> {
    let (near, far) = (cluster.lab.node(1), cluster.lab.node(2));
    let (from, to) = (near.pod()?, far.pod()?);
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            capture(&near.ns, name)
        });
        let time = Duration::from_secs(3);
        let measured = workload.measure(from, to, time, &cluster.agent_pids());
        let captured = capture.join();
        captured.map_err(|_| Error::new("the capture panicked"))??;
        measured.map(|_| ())
    })
}

fn capture(node: &Namespace, name: &str) -> Result<()> {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let file = traces.join(format!("{name}.pcap"));
    let file = file.display().to_string();
    let words = [
        "timeout",
        "5",
        "tcpdump",
        "-q",
        "-i",
        "flannel.1",
        "-Q",
        "out",
    ];
    let limits = [
        "-c", PACKETS, "-s", HEADERS, "-Z", "root", "-w", &file, "ip",
    ];
    node.run(&[&words[..], &limits].concat()).map(|_| ())
}
