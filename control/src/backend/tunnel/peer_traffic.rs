//! Counting what goes to each peer and comes from it, where that is asked for.

use crate::status::PeerTrafficStatus;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};
use weft_dataplane::fastpath::{FastPathError, PeerTraffic, Tally, Traffic};

/// Pause before what was refused is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The programs that count, if they are wanted, and what is in their way.
#[derive(Default)]
pub(super) struct PeerTrafficCount {
    wanted: bool,
    peers: BTreeSet<IpAddr>,
    running: Option<PeerTraffic>,
    /// Why they do not count, as it was logged.
    problem: Option<String>,
    tried: Option<Instant>,
}

impl PeerTrafficCount {
    pub(super) fn new(wanted: bool) -> PeerTrafficCount {
        PeerTrafficCount {
            wanted,
            ..PeerTrafficCount::default()
        }
    }

    /// Count these peers from now on, and no others.
    pub(super) fn publish(&mut self, peers: impl Iterator<Item = IpAddr>) {
        if !self.wanted {
            return;
        }
        self.peers = peers.collect();
        if let Some(running) = &mut self.running
            && let Err(error) = running.count(self.peers.clone())
        {
            self.refused(&error.to_string());
        }
    }

    /// Count on the underlay device of this name, wherever that was done before.
    pub(super) fn look(&mut self, underlay: &str, port: u16) {
        if !self.wanted
            || self
                .running
                .as_mut()
                .is_some_and(|running| running.is_on(underlay))
        {
            return;
        }
        let is_early = |tried: Instant| tried.elapsed() < RETRY;
        if self.problem.is_some() && self.tried.is_some_and(is_early) {
            return;
        }
        self.tried = Some(Instant::now());
        match self.begin(underlay, port) {
            Ok(()) => {
                self.problem = None;
                info!("counting on {underlay} what goes to each peer and comes from it");
            }
            Err(error) => self.refused(&error.to_string()),
        }
    }

    fn begin(&mut self, underlay: &str, port: u16) -> Result<(), FastPathError> {
        if let Some(running) = &mut self.running {
            return running.move_to(underlay);
        }
        let mut running = PeerTraffic::start(underlay, port)?;
        running.count(self.peers.clone())?;
        self.running = Some(running);
        Ok(())
    }

    fn refused(&mut self, reason: &str) {
        if self.problem.as_deref() != Some(reason) {
            warn!(
                code = "W0532",
                "what goes to each peer and comes from it is not counted: {reason}; trying again each minute (-metrics-peer-traffic=false silences this)"
            );
            self.problem = Some(reason.to_owned());
        }
    }

    /// What the `named` peers with the most bytes and this node have sent each other.
    pub(super) fn status(&self, named: usize) -> Vec<PeerTrafficStatus> {
        let mut all = self
            .running
            .as_ref()
            .map(PeerTraffic::read)
            .unwrap_or_default();
        all.sort_by_key(|traffic| (Reverse(traffic.bytes()), traffic.peer));
        all.truncate(named);
        all.into_iter().map(status_of).collect()
    }
}

fn status_of(traffic: Traffic) -> PeerTrafficStatus {
    let Traffic {
        peer,
        sent,
        received,
    } = traffic;
    let Tally { packets, bytes } = received;
    PeerTrafficStatus {
        peer,
        sent_packets: sent.packets,
        sent_bytes: sent.bytes,
        received_packets: packets,
        received_bytes: bytes,
    }
}
