//! What a tunnel tells of itself.

use super::Tunnel;
use super::spec::Wire;
use crate::status::{FastPathStatus, TableStatus, TunnelStatus};
use std::time::{Duration, Instant};

/// The tables that were handed to the workers.
#[derive(Debug, Default)]
pub(super) struct Published {
    peers: usize,
    /// When the last one was, and how long that took.
    last: Option<(Instant, Duration)>,
    number: u64,
}

impl Published {
    /// A table of so many peers, begun then, is in force.
    pub(super) fn note(&mut self, peers: usize, begun: Instant) {
        self.peers = peers;
        self.last = Some((Instant::now(), begun.elapsed()));
        self.number += 1;
    }

    fn status(&self) -> TableStatus {
        let (age, took) = self.last.map_or_else(Default::default, |(at, took)| {
            (at.elapsed().as_secs_f64(), took.as_secs_f64())
        });
        TableStatus {
            peers: self.peers,
            age_seconds: age,
            publish_seconds: took,
            publications: self.number,
        }
    }
}

impl Tunnel {
    /// What it is doing; so many of the peers that lost frames, or sent most, are named.
    pub(in crate::backend) fn status(&self, named: usize) -> TunnelStatus {
        let spec = &self.spec;
        let (wire, vni) = match spec.wire {
            Wire::Vxlan => ("vxlan", Some(spec.vni.get())),
            Wire::Ip => ("ip", None),
        };
        let report = self.fast_path.report(spec);
        let workers = self.workers.as_ref();
        TunnelStatus {
            device: spec.device.clone(),
            wire: wire.to_owned(),
            vni,
            port: spec.port,
            local: Some(spec.local),
            mtu: spec.mtu,
            remakes: self.remakes,
            fast_path: FastPathStatus {
                mode: report.mode.name().to_owned(),
                state: self.fast_path.name().to_owned(),
                hook: report.hook,
                reason: report.reason,
            },
            table: self.published.status(),
            peer_traffic: self.peer_traffic.status(named),
            workers: workers.map(|workers| workers.status(&self.fast_path.stats(), named)),
        }
    }
}
