//! What single knobs of the host do to weft: loads between two pods with each setting, in turns
//! with none.
//!
//! `cargo run --release -p weft-benches --example tuning -- target/release/weft [ROUNDS [FLAG|SETTING...]]`,
//! as root; flags go to both agents, and of the settings those count whose names begin so. Settings
//! of the whole host are put back at the end.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use weft_benches::load::Workload;
use weft_lab::{Cluster, ClusterOptions, Error, LabOptions, Regime, Result};

const TIME: Duration = Duration::from_millis(1500);

const LOADS: [Workload; 4] = [
    Workload::Tcp1,
    Workload::Tcp4,
    Workload::PingPongTcp1,
    Workload::Udp64,
];

/// One thing that differs from the lab as it is.
struct Setting {
    name: &'static str,
    /// Shell commands on each node, that make it and take it back.
    on_nodes: [&'static str; 2],
    /// Sysctls of the whole host.
    on_host: &'static [(&'static str, &'static str)],
}

const RPS: [&str; 2] = [
    "echo 3 >/sys/class/net/eth0/queues/rx-0/rps_cpus",
    "echo 0 >/sys/class/net/eth0/queues/rx-0/rps_cpus",
];

const RFS: [&str; 2] = [
    "echo 4096 >/sys/class/net/eth0/queues/rx-0/rps_flow_cnt; echo 3 >/sys/class/net/eth0/queues/rx-0/rps_cpus",
    "echo 0 >/sys/class/net/eth0/queues/rx-0/rps_flow_cnt; echo 0 >/sys/class/net/eth0/queues/rx-0/rps_cpus",
];

/// TSO is not among them: while a veth has it, the other end merges nothing.
const SETTINGS: &[Setting] = &[
    Setting {
        name: "as it is",
        on_nodes: ["true", "true"],
        on_host: &[],
    },
    Setting {
        name: "gro off",
        on_nodes: ["ethtool -K eth0 gro off", "ethtool -K eth0 gro on"],
        on_host: &[],
    },
    Setting {
        name: "gso off",
        on_nodes: ["ethtool -K eth0 gso off", "ethtool -K eth0 gso on"],
        on_host: &[],
    },
    Setting {
        name: "udp-gso on",
        on_nodes: [
            "ethtool -K eth0 tx-udp-segmentation on",
            "ethtool -K eth0 tx-udp-segmentation off",
        ],
        on_host: &[],
    },
    Setting {
        name: "RPS",
        on_nodes: RPS,
        on_host: &[],
    },
    Setting {
        name: "RPS and RFS",
        on_nodes: RFS,
        on_host: &[("rps_sock_flow_entries", "4096")],
    },
    Setting {
        name: "netdev_max_backlog 4000",
        on_nodes: ["true", "true"],
        on_host: &[("netdev_max_backlog", "4000")],
    },
    Setting {
        name: "netdev_budget 600",
        on_nodes: ["true", "true"],
        on_host: &[("netdev_budget", "600")],
    },
];

/// Host-wide sysctls as they were, which come back when this drops.
struct Host(Vec<(String, String)>);

impl Host {
    fn set(sysctls: &[(&str, &str)]) -> Result<Host> {
        let mut host = Host(Vec::new());
        for (name, value) in sysctls {
            let path = format!("/proc/sys/net/core/{name}");
            let failed = |e| Error::because(&path, e);
            let old = fs::read_to_string(&path).map_err(failed)?;
            host.0.push((path.clone(), old));
            fs::write(&path, value).map_err(failed)?;
        }
        Ok(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for (path, old) in &self.0 {
            if let Err(error) = fs::write(path, old) {
                println!("{path} was not put back to {}: {error}", old.trim());
            }
        }
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = || Error::new("usage: tuning WEFT_BINARY [ROUNDS [FLAG|SETTING...]]");
    let binary = args.next().ok_or_else(usage)?;
    let binary = fs::canonicalize(binary).map_err(|e| Error::because("binary", e))?;
    let rounds: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let (flags, names): (Vec<String>, Vec<String>) = args.partition(|word| word.starts_with('-'));
    let is_meant = |setting: &Setting| {
        names.is_empty() || names.iter().any(|name| setting.name.starts_with(&**name))
    };
    let settings: Vec<&Setting> = SETTINGS
        .iter()
        .enumerate()
        .filter(|(number, setting)| *number == 0 || is_meant(setting))
        .map(|(_, setting)| setting)
        .collect();
    let cluster = Cluster::start(
        &ClusterOptions {
            etcd: false,
            flags,
            lab: LabOptions {
                regime: Regime::R2,
                ..LabOptions::default()
            },
            ..ClusterOptions::new(binary)
        },
        |_| {},
    )?;
    cluster.ping_all()?;
    let mut figures: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (number, setting) in settings.iter().enumerate() {
            for (load, figure) in measure(&cluster, setting)?.into_iter().enumerate() {
                figures.entry((number, load)).or_default().push(figure);
            }
        }
    }
    for (number, setting) in settings.iter().enumerate() {
        for (load, workload) in LOADS.iter().enumerate() {
            let ratios = figures[&(number, load)].iter().zip(&figures[&(0, load)]);
            let ratios = sorted(ratios.map(|(figure, base)| figure / base).collect());
            println!(
                "{:24} {:32} {:8.2}  {:.2} [{:.2}-{:.2}]",
                setting.name,
                workload.title(),
                middle(&sorted(figures[&(number, load)].clone())),
                middle(&ratios),
                ratios.first().copied().unwrap_or_default(),
                ratios.last().copied().unwrap_or_default(),
            );
        }
    }
    Ok(())
}

/// Gbit/s, microseconds or kpps, by load.
fn measure(cluster: &Cluster, setting: &Setting) -> Result<Vec<f64>> {
    let shell = |command: &str| -> Result<()> {
        let mut nodes = cluster.lab.nodes().iter();
        nodes.try_for_each(|node| node.ns.run(&["sh", "-c", command]).map(drop))
    };
    let _host = Host::set(setting.on_host)?;
    shell(setting.on_nodes[0])?;
    let (from, to) = (cluster.lab.node(1).pod()?, cluster.lab.node(2).pod()?);
    let figures = LOADS.iter().map(|load| {
        let measured = load.measure(from, to, TIME, &[])?;
        Ok(match load {
            Workload::Udp64 => measured.thousands_per_second(),
            Workload::PingPongTcp1 => measured.round_trip.map_or(f64::NAN, |trip| trip.median_us),
            _ => measured.gbits_per_second,
        })
    });
    let figures: Result<Vec<f64>> = figures.collect();
    shell(setting.on_nodes[1])?;
    figures
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
