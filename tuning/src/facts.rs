//! What a host is like, as far as packets care.

mod device;
mod knobs;
mod workers;

use crate::catalog::Kind;
use crate::cpus::CpuSet;
use crate::host::Host;
use crate::knob::{Knob, KnobError, Knobs};
pub use device::{DeviceError, default_device};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The device that encapsulated packets leave by.
    pub device: Device,
    /// CPUs.
    pub cores: Cores,
    /// Workers of running agents, or those that one would have.
    pub workers: Workers,
    /// weft's own devices that are there.
    pub tunnels: Vec<Tunnel>,
    /// What the CPUs could not take in, since the kernel started.
    pub backlog: Backlog,
    /// Whether a program moves interrupts about.
    pub irqbalance: bool,
    /// Every knob that there is here.
    #[serde(serialize_with = "as_list")]
    pub knobs: BTreeMap<Knob, Reading>,
    /// Knobs that cannot be read, with the reason, each reason once.
    pub unreadable: Vec<String>,
}

/// The underlay device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What drives it, where it is a card.
    pub driver: Option<String>,
    /// In bytes.
    pub mtu: u32,
    /// The node of memory that it is attached to, where there are several.
    pub numa_node: Option<u32>,
    /// Receive queues.
    pub rx_queues: u32,
    /// Send queues.
    pub tx_queues: u32,
    /// The interrupts of its queues.
    pub irqs: Vec<u32>,
}

/// CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cores {
    /// Those that run.
    pub online: CpuSet,
    /// Those of them that this process may use (cpuset, taskset).
    pub allowed: CpuSet,
    /// Those of the device's NUMA node; all online ones where there is no such thing.
    pub near: CpuSet,
    /// NUMA nodes.
    pub nodes: usize,
}

/// The workers of one device of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Workers {
    /// Queues of the TUN device.
    pub queues: usize,
    /// The CPUs that workers are pinned to; empty where they are not.
    pub cpus: CpuSet,
    /// Whether they run, or would if an agent were started.
    pub running: bool,
}

/// A TUN device of weft's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// Its name.
    pub name: String,
    /// Packets that each of its queues holds.
    pub length: u32,
}

/// Sums over all CPUs of `/proc/net/softnet_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Packets that did not fit into the backlog of a CPU.
    pub dropped: u64,
    /// How often work was left over when the budget was used up.
    pub squeezed: u64,
}

/// The value of a knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// As [`Knobs::read`] has it.
    pub now: String,
    /// The most that the device takes, where it says so.
    pub most: Option<u64>,
    /// The driver does not let it be changed.
    pub fixed: bool,
}

fn as_list<S: Serializer>(knobs: &BTreeMap<Knob, Reading>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Item<'a> {
        knob: String,
        #[serde(flatten)]
        reading: &'a Reading,
    }
    to.collect_seq(knobs.iter().map(|(knob, reading)| Item {
        knob: knob.to_string(),
        reading,
    }))
}

impl Facts {
    /// Look at `host` and its `device`. `workers` are those that an agent would have, which count
    /// if none runs.
    pub fn of(host: &Host, device: &str, workers: Workers) -> Result<Facts, DeviceError> {
        let device = Device::of(host, device)?;
        let mut facts = Facts {
            cores: cores(host, device.numa_node),
            workers: workers::running(host).unwrap_or(workers),
            tunnels: tunnels(host),
            backlog: backlog(host),
            irqbalance: workers::runs(host, "irqbalance"),
            device,
            ..Facts::default()
        };
        for kind in Kind::ALL {
            for knob in facts.knobs_of(kind) {
                facts.read(host, knob);
            }
        }
        Ok(facts)
    }

    fn read(&mut self, host: &Host, knob: Knob) {
        match reading(host, &knob) {
            Ok(reading) => _ = self.knobs.insert(knob, reading),
            Err(KnobError::Gone) => {}
            Err(KnobError::Refused(reason)) => {
                if !self.unreadable.contains(&reason) {
                    self.unreadable.push(reason);
                }
            }
        }
    }

    /// The host as it was before these knobs had other values.
    pub fn before<'a>(&self, old: impl IntoIterator<Item = (&'a Knob, &'a str)>) -> Facts {
        let mut before = self.clone();
        for (knob, value) in old {
            if let Some(reading) = before.knobs.get_mut(knob) {
                value.clone_into(&mut reading.now);
            }
        }
        before
    }

    /// The value of a knob.
    pub fn now(&self, knob: &Knob) -> Option<&str> {
        Some(&self.knobs.get(knob)?.now)
    }
}

fn reading(host: &Host, knob: &Knob) -> Result<Reading, KnobError> {
    let ethtool = &host.ethtool;
    let amount = match knob {
        Knob::Ring { device, receive } => ethtool.ring(device, *receive)?,
        Knob::Channels { device } => ethtool.channels(device)?,
        Knob::Feature { device, feature } => {
            let offload = ethtool.feature(device, feature)?.ok_or(KnobError::Gone)?;
            return Ok(Reading {
                now: if offload.on { "on" } else { "off" }.to_owned(),
                most: None,
                fixed: offload.fixed,
            });
        }
        _ => {
            return Ok(Reading {
                now: host.read(knob)?,
                most: None,
                fixed: false,
            });
        }
    };
    let amount = amount.ok_or(KnobError::Gone)?;
    Ok(Reading {
        now: amount.now.to_string(),
        most: Some(amount.most),
        fixed: false,
    })
}

fn cores(host: &Host, node: Option<u32>) -> Cores {
    let list = |path: &str| -> Option<CpuSet> { host.text(path)?.parse().ok() };
    let online = list("sys/devices/system/cpu/online").unwrap_or_default();
    let status = host.text("proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = allowed
        .and_then(|list| list.parse().ok())
        .unwrap_or_else(|| online.clone());
    let near = node.and_then(|node| list(&format!("sys/devices/system/node/node{node}/cpulist")));
    let near = near.unwrap_or_default().and(&online);
    let nodes = host.names("sys/devices/system/node");
    let is_node = |name: &&String| {
        let number = name.strip_prefix("node");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    Cores {
        near: near.or(&online).clone(),
        online,
        allowed,
        nodes: nodes.iter().filter(is_node).count().max(1),
    }
}

fn tunnels(host: &Host) -> Vec<Tunnel> {
    let names = host.names("sys/class/net").into_iter();
    let tunnels = names
        .filter(|name| name.starts_with("flannel"))
        .filter_map(|name| {
            let of = |file: &str| format!("sys/class/net/{name}/{file}");
            // A kernel VXLAN device of that name is none.
            host.text(&of("tun_flags"))?;
            let length = host.number(&of("tx_queue_len"))?;
            Some(Tunnel { name, length })
        });
    tunnels.collect()
}

fn backlog(host: &Host) -> Backlog {
    let text = host.text("proc/net/softnet_stat").unwrap_or_default();
    let mut sums = Backlog::default();
    for line in text.lines() {
        let mut columns = line.split_whitespace().skip(1);
        let mut next = || u64::from_str_radix(columns.next()?, 16).ok();
        sums.dropped += next().unwrap_or_default();
        sums.squeezed += next().unwrap_or_default();
    }
    sums
}

#[cfg(test)]
mod tests;
