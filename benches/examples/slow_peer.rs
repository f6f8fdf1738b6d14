//! What a healthy peer has of a flood to a slow one: round trips and TCP, for kernel VXLAN and
//! for weft, in turns.
//!
//! `cargo run --release -p weft-benches --example slow_peer -- target/release/weft [ROUNDS]`,
//! as root.

#![allow(clippy::print_stdout)]

use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weft_benches::load::iperf::{self, Direction};
use weft_lab::{
    Agent, AgentOptions, Error, Lab, LabOptions, PeersFile, Pod, Regime, Result, Vtep, VxlanSpec,
    slow, wait_until,
};

/// Length of the flood's datagrams in bytes.
const DATAGRAM: usize = 1400;

/// The link to the slow peer.
const RATE: &str = "20mbit";
const QUEUE: &str = "20000000";

/// Round trips of one measurement, and the time between two.
const PINGS: &str = "300";
const INTERVAL: &str = "0.01";

/// Who carries the packets.
#[derive(Clone, Copy)]
enum Carrier {
    Kernel,
    /// weft, with this backend and engine.
    Weft(&'static str, &'static str),
}

const CARRIERS: [Carrier; 5] = [
    Carrier::Kernel,
    Carrier::Weft("vxlan", "ring"),
    Carrier::Weft("vxlan", "poll"),
    Carrier::Weft("udp", "ring"),
    Carrier::Weft("udp", "poll"),
];

impl Carrier {
    fn name(self) -> String {
        match self {
            Carrier::Kernel => "kernel VXLAN".to_owned(),
            Carrier::Weft(backend, engine) => format!("weft {backend} {engine}"),
        }
    }

    fn overhead(self) -> u32 {
        match self {
            Carrier::Weft("udp", _) => 28,
            _ => 50,
        }
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let binary = args
        .next()
        .ok_or_else(|| Error::new("usage: slow_peer WEFT_BINARY [ROUNDS]"))?;
    let binary = std::fs::canonicalize(binary).map_err(|e| Error::because("binary", e))?;
    let rounds = args
        .next()
        .and_then(|n| n.to_str()?.parse().ok())
        .unwrap_or(3);
    println!(
        "round MTU carrier | median p99 loss alone | beside the flood | TCP Gbit/s alone, beside"
    );
    for round in 1..=rounds {
        for mtu in [1500, 9000] {
            for carrier in CARRIERS {
                let line = measure(&binary, carrier, mtu)?;
                println!("{round} {mtu} {:16} | {line}", carrier.name());
            }
        }
    }
    Ok(())
}

/// One measurement on nodes of its own.
fn measure(binary: &Path, carrier: Carrier, mtu: u32) -> Result<String> {
    let mut lab = Lab::new(LabOptions {
        nodes: 3,
        mtu,
        regime: Regime::R1,
        ..LabOptions::default()
    })?;
    slow::join(&lab, 1, 3, mtu)?;
    slow::limit(&lab, 1, RATE, QUEUE)?;
    let inner = mtu - carrier.overhead();
    let mut agents = Vec::new();
    match carrier {
        Carrier::Kernel => by_kernel(&mut lab, inner)?,
        Carrier::Weft(backend, engine) => {
            let network = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"BACKEND"}}"#;
            let file = PeersFile::create(&lab, &network.replace("BACKEND", backend), 1..=3)?;
            for number in 1..=3 {
                let mut options = AgentOptions::without_etcd(binary, file.path());
                options.flags.push(format!("-engine={engine}"));
                let mut agent = Agent::start(&lab, number, options)?;
                let env = agent.wait_ready()?;
                lab.attach_pod(number, env.subnet, inner)?;
                agents.push(agent);
            }
        }
    }
    let [from, healthy, slow] = [1, 2, 3].map(|number| lab.node(number).pod().cloned());
    let (from, healthy, slow) = (from?, healthy?, slow?);
    let reached = || pings(&from, &healthy, "1").is_ok_and(|round_trips| round_trips.len() == 1);
    if !wait_until(Duration::from_secs(10), reached) {
        return Err(Error::new("the healthy peer is not reached"));
    }
    let alone = both(&from, &healthy)?;
    let beside = while_flooded(&from, &slow, || both(&from, &healthy))?;
    Ok(format!(
        "{} | {} | {:.2} {:.2}",
        alone.0, beside.0, alone.1, beside.1
    ))
}

/// Kernel VXLAN on all nodes, as flannel would set it up.
fn by_kernel(lab: &mut Lab, mtu: u32) -> Result<()> {
    let mut vteps = Vec::new();
    for number in 1..=3 {
        let subnet = format!("10.244.{number}.1/24");
        let subnet = subnet.parse().map_err(|e| Error::because("subnet", e))?;
        let spec = VxlanSpec {
            mtu,
            ..VxlanSpec::flannel(1)
        };
        vteps.push(Vtep::create(lab, number, spec, subnet)?);
        lab.attach_pod(number, subnet, mtu)?;
    }
    let peers: Vec<_> = vteps.iter().map(Vtep::as_peer).collect();
    for (i, vtep) in vteps.iter().enumerate() {
        for peer in peers.iter().enumerate().filter(|(j, _)| *j != i) {
            vtep.learn(peer.1)?;
            vtep.route(peer.1)?;
        }
    }
    Ok(())
}

/// Do `during` while the queue to the slow peer is full.
fn while_flooded<T>(from: &Pod, slow: &Pod, during: impl FnOnce() -> Result<T>) -> Result<T> {
    let socket = slow.ns.enter(|| UdpSocket::bind((slow.address, 0)))?;
    let socket = socket.map_err(|e| Error::because("cannot open a UDP socket", e))?;
    let to = socket
        .local_addr()
        .map_err(|e| Error::because("UDP socket", e))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| slow::flood(from, to, DATAGRAM, &done));
        // 20 MB are full in less than a second.
        std::thread::sleep(Duration::from_secs(2));
        let outcome = during();
        done.store(true, Ordering::SeqCst);
        outcome
    })
}

/// Round trips as text, and the speed of one TCP stream in Gbit/s.
fn both(from: &Pod, to: &Pod) -> Result<(String, f64)> {
    let mut times = pings(from, to, PINGS)?;
    times.sort_by(f64::total_cmp);
    let asked: usize = PINGS.parse().unwrap_or(0);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied();
    let (median, p99) = (at(0.5).unwrap_or(f64::NAN), at(0.99).unwrap_or(f64::NAN));
    let lost = asked - times.len();
    let tcp = iperf::run(from, to, Duration::from_secs(2), 1, Direction::There)?;
    let text = format!("{:.0} us {:.0} us {lost}/{asked}", median * 1e3, p99 * 1e3);
    Ok((text, tcp.bits_per_second / 1e9))
}

/// The round trips that came back, in milliseconds.
fn pings(from: &Pod, to: &Pod, count: &str) -> Result<Vec<f64>> {
    let mut ping = from.ns.command("ping");
    ping.args(["-n", "-W", "1", "-i", INTERVAL, "-c", count]);
    let output = ping.arg(to.address.to_string()).output();
    let output = output.map_err(|e| Error::because("ping", e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("time=")?;
        rest.split(' ').next()?.parse().ok()
    });
    Ok(times.collect())
}
