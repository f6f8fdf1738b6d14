//! Asking a node by each way that packets to it can take.
//!
//! Which way a packet takes is the programs' choice (`dataplane/bpf/choice.h`). Of a node whose fast
//! path is `auto` they carry echo requests, and leave all other ICMP to the workers. So those are
//! measured by asking for the time (ICMP timestamp), which every kernel answers as it does an echo
//! request; workers send with an outer checksum, by which the peer's programs leave it to the workers
//! there, and its answer is no echo either. Counters tell what became of it.

use super::report::{PingReport, WayReport};
use super::target::Target;
use crate::family::Family;
use crate::probe::{Pinger, ProbeError, Series, SeriesPlan, Summary};
use crate::socket::{self, Answer, AskError, Verb};
use crate::status::{NodeStatus, TunnelStatus};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long the last answer is waited for.
const WAIT: Duration = Duration::from_secs(1);

/// Longer than a flow stays with the workers after its last packet (`PAUSE`): what was asked for the
/// time takes its flow along on the way in.
pub(crate) const FORGOTTEN: Duration = Duration::from_millis(120);

/// Longer than a worker is busy with a batch.
const COUNTED: Duration = Duration::from_millis(20);

/// What is wanted of a ping.
#[derive(Clone, Copy, Debug)]
pub struct PingOptions {
    /// Requests by each way.
    pub count: u32,
    /// From one to the next.
    pub interval: Duration,
    /// Bytes of data in each, as ping has it.
    pub size: usize,
}

/// Why nothing was measured. One line.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// No socket.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The agent has gone.
    #[error(transparent)]
    Agent(#[from] AskError),
}

/// The name of a way, and whether the time is asked for, so that requests take it.
const FAST_PATH: (&str, bool) = ("fast path", false);
const WORKERS: (&str, bool) = ("userspace", false);
const BY_TIME: (&str, bool) = ("userspace", true);
const KERNEL: (&str, bool) = ("kernel", false);

/// Ask `target` of the agent at `socket`, which has said `status` of itself.
pub fn ping(
    socket: &Path,
    agent: &str,
    status: &NodeStatus,
    target: &Target,
    options: PingOptions,
) -> Result<PingReport, PingError> {
    let family = Family::of(target.address);
    let tunnel = status.tunnel_to(&target.peer);
    let from = tunnel.and_then(|_| status.own_end(family));
    let mut pinger = Pinger::new(family)?;
    let header = match family {
        Family::V4 => 28,
        Family::V6 => 48,
    };
    let mut ways = Vec::new();
    for (name, time) in ways_of(tunnel, family) {
        thread::sleep(FORGOTTEN);
        let plan = SeriesPlan {
            count: options.count,
            interval: options.interval,
            wait: WAIT,
            len: options.size + header,
            time,
        };
        let before = counters(socket, tunnel)?;
        let series = pinger.series(from, target.address, plan)?;
        // A worker counts a batch when it is done with it.
        thread::sleep(COUNTED);
        let after = counters(socket, tunnel)?;
        ways.push(way_report(name, &series, before.zip(after)));
    }
    let most = status.mtu_to(&target.peer);
    let found = pinger.path_mtu(from, target.address, most)?;
    let whole = match tunnel {
        Some(tunnel) => whole_on_underlay(&mut pinger, status, tunnel, target, most)?,
        None => None,
    };
    let passes = found.map(|found| found.mtu);
    let path_mtu = passes.map(|passes| whole.map_or(passes, |whole| passes.min(whole)));
    Ok(PingReport {
        version: 1,
        agent: agent.to_owned(),
        peer: target.peer.clone(),
        address: target.address,
        bytes: options.size + header,
        fast_path: tunnel.map(|tunnel| tunnel.fast_path.clone()),
        ways,
        path_mtu,
        path_mtu_told: found.is_some_and(|found| found.told),
        in_fragments: passes.filter(|passes| Some(*passes) > path_mtu),
        device_mtu: most,
    })
}

/// The longest packet, up to `most` bytes, whose outer packet crosses the underlay in one piece;
/// `None` if the peer's underlay address does not answer.
fn whole_on_underlay(
    pinger: &mut Pinger,
    status: &NodeStatus,
    tunnel: &TunnelStatus,
    target: &Target,
    most: usize,
) -> Result<Option<usize>, ProbeError> {
    let public = target.peer.public;
    let own = status.local(Family::of(public));
    let overhead = tunnel.overhead() as usize;
    let found = pinger.path_mtu(own, public, most + overhead)?;
    Ok(found.map(|found| found.mtu.saturating_sub(overhead)))
}

/// The ways that packets to a target can take.
fn ways_of(tunnel: Option<&TunnelStatus>, family: Family) -> Vec<(&'static str, bool)> {
    let Some(tunnel) = tunnel else {
        return vec![KERNEL];
    };
    match (tunnel.takes_echoes(family), tunnel.parts_icmp(family)) {
        (false, _) => vec![WORKERS],
        (true, false) => vec![FAST_PATH],
        (true, true) => vec![FAST_PATH, BY_TIME],
    }
}

/// How many packets went each way, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ways {
    fast: u64,
    /// By the workers: that many, or fewer.
    workers: u64,
}

impl Ways {
    /// How many since `before`.
    fn since(self, before: Ways) -> Ways {
        Ways {
            fast: self.fast.saturating_sub(before.fast),
            workers: self.workers.saturating_sub(before.workers),
        }
    }
}

/// What a tunnel has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Carried {
    out: Ways,
    back: Ways,
}

impl Carried {
    fn of(tunnel: &TunnelStatus) -> Option<Carried> {
        let counters = &tunnel.workers.as_ref()?.counters;
        let count = |name: &str| counters.get(name).copied().unwrap_or(0);
        // Those of all packets have the programs' in them. A super-packet that these receive is
        // several frames, so that the workers have fewer.
        let ways = |fast: &str, all: &str| Ways {
            fast: count(fast),
            workers: count(all).saturating_sub(count(fast)),
        };
        Some(Carried {
            out: ways("fast_sends", "tun_reads"),
            back: ways("fast_receives", "frames_received"),
        })
    }
}

/// What the programs of the tunnel have counted by now.
fn counters(socket: &Path, tunnel: Option<&TunnelStatus>) -> Result<Option<Carried>, AskError> {
    let Some(tunnel) = tunnel.filter(|tunnel| tunnel.fast_path.state == "on") else {
        return Ok(None);
    };
    let reply = socket::ask(socket, &Verb::Status)?;
    let Answer::Status(status) = reply.answer else {
        return Ok(None);
    };
    let mut tunnels = status.tunnels.iter();
    let tunnel = tunnels.find(|now| now.device == tunnel.device);
    Ok(tunnel.and_then(Carried::of))
}

fn way_report(name: &str, series: &Series, carried: Option<(Carried, Carried)>) -> WayReport {
    let received = series.times.len() as u32;
    let range = |of: fn(&Carried) -> Ways, packets: u32| {
        let (before, after) = carried?;
        Some(share(packets, of(&after).since(of(&before))))
    };
    WayReport {
        way: name.to_owned(),
        sent: series.sent,
        received,
        loss: match series.sent {
            0 => 0.0,
            sent => f64::from(sent - received.min(sent)) / f64::from(sent),
        },
        times: Summary::of(&series.times),
        out_by_fast_path: range(|carried| carried.out, series.sent),
        in_by_fast_path: range(|carried| carried.back, received),
        refusals: series.refusals.iter().map(ToString::to_string).collect(),
        unsent: series.unsent.clone(),
    }
}

/// How many of so many packets the fast path has carried, at least and at most, if so many of
/// everybody's went each way meanwhile.
fn share(packets: u32, ways: Ways) -> (u32, u32) {
    let within = |count: u64| packets.min(u32::try_from(count).unwrap_or(u32::MAX));
    (packets - within(ways.workers), within(ways.fast))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{FastPathStatus, WorkersStatus};

    fn tunnel(state: &str, mode: &str, wire: &str) -> TunnelStatus {
        TunnelStatus {
            wire: wire.to_owned(),
            fast_path: FastPathStatus {
                mode: mode.to_owned(),
                state: state.to_owned(),
                ..FastPathStatus::default()
            },
            ..TunnelStatus::default()
        }
    }

    #[test]
    fn a_way_is_asked_if_packets_can_take_it() {
        let both = vec![FAST_PATH, BY_TIME];
        for (state, mode, wire, ways) in [
            ("on", "auto", "vxlan", both),
            ("on", "on", "vxlan", vec![FAST_PATH]),
            ("on", "auto", "ip", vec![WORKERS]),
            ("refused", "auto", "vxlan", vec![WORKERS]),
            ("off", "off", "vxlan", vec![WORKERS]),
        ] {
            let tunnel = tunnel(state, mode, wire);
            assert_eq!(
                ways_of(Some(&tunnel), Family::V4),
                ways,
                "{state} {mode} {wire}"
            );
            assert_eq!(ways_of(Some(&tunnel), Family::V6), [WORKERS]);
        }
        assert_eq!(ways_of(None, Family::V4), [KERNEL]);
    }

    #[test]
    fn counters_bound_what_the_fast_path_has_carried() {
        for (fast, workers, share_of_five) in [
            (5, 0, (5, 5)),
            (0, 5, (0, 0)),
            (0, 10, (0, 0)),
            (3, 2, (3, 3)),
            // Others send as well.
            (1000, 2, (3, 5)),
            (1000, 1000, (0, 5)),
        ] {
            let ways = Ways { fast, workers };
            assert_eq!(share(5, ways), share_of_five, "{ways:?}");
        }
    }

    #[test]
    fn workers_have_what_is_left_of_all_packets() {
        let counters = [
            ("tun_reads", 10),
            ("fast_sends", 4),
            ("frames_received", 9),
            ("fast_receives", 9),
        ];
        let mut tunnel = tunnel("on", "auto", "vxlan");
        assert_eq!(Carried::of(&tunnel), None);
        tunnel.workers = Some(WorkersStatus {
            counters: counters
                .map(|(name, count)| (name.to_owned(), count))
                .into(),
            ..WorkersStatus::default()
        });
        let ways = |fast, workers| Ways { fast, workers };
        let carried = Carried {
            out: ways(4, 6),
            back: ways(9, 0),
        };
        assert_eq!(Carried::of(&tunnel), Some(carried));
    }

    #[test]
    fn a_series_becomes_numbers() {
        let series = Series {
            sent: 4,
            times: vec![Duration::from_millis(2); 3],
            ..Series::default()
        };
        let report = way_report("kernel", &series, None);
        assert_eq!((report.sent, report.received, report.loss), (4, 3, 0.25));
        assert_eq!(report.times.unwrap().median_seconds, 0.002);
        assert_eq!(report.out_by_fast_path, None);
        let report = way_report("kernel", &Series::default(), None);
        assert_eq!((report.loss, report.times), (0.0, None));
    }
}
