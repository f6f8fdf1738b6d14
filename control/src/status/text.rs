//! A node's status for a person: five lines, and at most eight more for each tunnel.

use super::{
    HandOverStatus, LeaseStatus, NodeStatus, PeerTrafficStatus, StoreHealth, StoreStatus,
    TunnelStatus, WorkersStatus,
};
use crate::text::span;
use std::fmt::{self, Display};
use std::time::Duration;

/// Drop reasons and peers named in a line.
const NAMED: usize = 6;

impl Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "ready" } else { "NOT READY" };
        let up = seconds(self.uptime_seconds);
        let (version, pid) = (&self.version, self.pid);
        row(
            f,
            "node",
            format_args!(
                "{ready}, up {up}: weft {version}, process {pid}{}",
                self.hand_overs
            ),
        )?;
        row(f, "lease", &self.lease)?;
        let underlay = &self.underlay;
        let there = if underlay.there { "" } else { ": NOT THERE" };
        let addresses = list(&underlay.addresses);
        row(
            f,
            "underlay",
            format_args!("{} {addresses}{there}", underlay.name),
        )?;
        let (peers, backend, mtu) = (self.peers, &self.backend, self.mtu);
        row(
            f,
            "peers",
            format_args!("{peers} by {backend}, MTU of pods {mtu}"),
        )?;
        row(f, "store", &self.store)?;
        if self.tunnels.is_empty() {
            row(
                f,
                "tunnels",
                "none: the kernel carries all packets by itself",
            )?;
        }
        self.tunnels.iter().try_for_each(|tunnel| tunnel.fmt(f))
    }
}

/// After other things of a line; nothing if there were none.
impl Display for HandOverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from_agents + self.from_store {
            0 => {}
            times => write!(f, "; {times} hand-overs")?,
        }
        if let Some(waited) = self.waited_seconds {
            write!(f, ", packets waited {} at the last", ms(waited))?;
        }
        match self.refused {
            0 => Ok(()),
            refused => write!(f, "; HAND-OVERS REFUSED {refused}"),
        }
    }
}

impl Display for LeaseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, advertised as {}, ",
            list(&self.subnets),
            list(&self.public)
        )?;
        match self.seconds_left {
            Some(0) => f.write_str("HAS ENDED"),
            Some(left) => write!(f, "ends in {} unless renewed", seconds(left)),
            None => f.write_str("never ends"),
        }
    }
}

impl Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.health {
            Some(health) => write!(f, "{} {health}", self.called())?,
            None => f.write_str("a file")?,
        }
        match self.remembered_seconds {
            Some(age) => write!(f, "; GOING BY WHAT IT SAID {} AGO", seconds(age)),
            None => Ok(()),
        }
    }
}

impl Display for StoreHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reachable {
            "answers"
        } else {
            "DOES NOT ANSWER"
        })?;
        match (self.answered_seconds_ago, self.latest_seconds.last()) {
            (Some(ago), Some(took)) => {
                let slowest = self.latest_seconds.iter().copied().fold(0.0, f64::max);
                let (ago, took, slowest) = (seconds(ago as u64), ms(*took), ms(slowest));
                write!(
                    f,
                    ", last asked {ago} ago in {took} (slowest of late {slowest})"
                )?;
            }
            _ => f.write_str(", never so far")?,
        }
        write!(
            f,
            "; requests {}, without an answer {}",
            self.requests, self.failures
        )
    }
}

impl Display for TunnelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vni = self.vni.map_or(String::new(), |vni| format!(" VNI {vni}"));
        let (wire, port) = (&self.wire, self.port);
        let running = match &self.workers {
            Some(workers) => workers.how(),
            None => "BEING MADE ANEW".to_owned(),
        };
        let remakes = match self.remakes {
            0 => String::new(),
            times => format!(", made anew {times} times"),
        };
        row(
            f,
            &self.device,
            format_args!("{wire}{vni}, UDP {port}, {running}{remakes}"),
        )?;
        let table = &self.table;
        let (peers, took) = (table.peers, ms(table.publish_seconds));
        let age = seconds(table.age_seconds as u64);
        let path = &self.fast_path;
        let hook = path
            .hook
            .as_ref()
            .map_or(String::new(), |hook| format!(", {hook}"));
        let reason = path
            .reason
            .as_ref()
            .map_or(String::new(), |why| format!("; {why}"));
        let path = format!("fast path {} ({}{hook}){reason}", path.state, path.mode);
        row(
            f,
            "  table",
            format_args!("peers {peers}, made {age} ago in {took}"),
        )?;
        row(f, "  ways", path)?;
        if !self.peer_traffic.is_empty() {
            row(f, "  peers", most_traffic(&self.peer_traffic))?;
        }
        match &self.workers {
            Some(workers) => workers.rows(f),
            None => Ok(()),
        }
    }
}

impl WorkersStatus {
    fn how(&self) -> String {
        let cpus = self.cpus.as_deref().unwrap_or("none");
        format!(
            "engine {}, queues {}, cpus {cpus}",
            self.engine,
            self.queues.len()
        )
    }

    fn rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caps = self.capabilities.iter();
        let caps: Vec<String> = caps
            .map(|(name, grant)| format!("{name} {grant}"))
            .collect();
        let gso = &self.tunnel_gso.state;
        row(
            f,
            "  kernel",
            format_args!("{}, tunnel_gso {gso}", caps.join(", ")),
        )?;
        let count = |name: &str| self.counters.get(name).copied().unwrap_or(0);
        row(
            f,
            "  traffic",
            format_args!(
                "out {} in frames {} and sends {}, in {} in frames {} and receives {}; by the fast path {} and {}",
                bytes(count("tun_read_bytes")),
                count("frames_sent"),
                count("sends"),
                bytes(count("tun_write_bytes")),
                count("frames_received"),
                count("receives"),
                count("fast_sends"),
                count("fast_receives"),
            ),
        )?;
        let drops = self.drops.iter().filter(|(_, drops)| **drops > 0);
        let drops = most(drops.map(|(reason, drops)| (reason.clone(), *drops)));
        let waiting: u64 = self.queues.iter().map(|queue| queue.waiting_bytes).sum();
        let waiting = bytes(waiting);
        row(
            f,
            "  drops",
            format_args!("{drops}; waiting to be received: {waiting}"),
        )?;
        if self.lost_frames == 0 {
            return Ok(());
        }
        let lost = self.lost_to.iter();
        let lost = most(lost.map(|loss| (loss.peer.to_string(), loss.frames)));
        row(
            f,
            "  lost",
            format_args!("frames {} could not leave: {lost}", self.lost_frames),
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{name:<13} {text}")
}

/// Names with their numbers, the largest first.
fn most(all: impl Iterator<Item = (String, u64)>) -> String {
    let mut all: Vec<(String, u64)> = all.collect();
    all.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let named = all
        .iter()
        .take(NAMED)
        .map(|(name, number)| format!("{name} {number}"));
    let named: Vec<String> = named.collect();
    match (named.is_empty(), all.len().saturating_sub(NAMED)) {
        (true, _) => "none".to_owned(),
        (false, 0) => named.join(", "),
        (false, more) => format!("{} and {more} more", named.join(", ")),
    }
}

/// The peers with the most traffic, which come first.
fn most_traffic(all: &[PeerTrafficStatus]) -> String {
    let named = all.iter().take(NAMED).map(|traffic| {
        let (sent, received) = (bytes(traffic.sent_bytes), bytes(traffic.received_bytes));
        format!("{} out {sent} in {received}", traffic.peer)
    });
    let named: Vec<String> = named.collect();
    named.join(", ")
}

fn list(all: &[impl Display]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(" and ")
}

fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// A number of bytes in the largest unit of which there is one.
fn bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, "B");
    for larger in ["KB", "MB", "GB", "TB"] {
        if size < 1000.0 {
            break;
        }
        (size, unit) = (size / 1000.0, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{size:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests;
