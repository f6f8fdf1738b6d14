//! The thread that finds out for which peers tunnel GSO works.
//!
//! It sleeps until there is a super-packet, and then probes every peer that had one, at most once
//! a second.

use super::peers::{PeerState, SLOTS};
use super::probe::{Outcome, Probe, Probing};
use super::{TunnelGso, TunnelGsoGate};
use crate::publish::Reader;
use crate::route::table::Table;
use crate::stats::{Count, WorkerStats};
use crate::sys::egress::Device;
use crate::sys::event::StopEvent;
use crate::sys::path::PathProbe;
use crate::sys::redirect::{self, Redirect};
use crate::wire::frame::{FRAME_OVERHEAD, FrameHeader};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Probes to a peer lost in a row after which it is seldom tried.
const LOST_MAX: u32 = 3;

/// How often a peer is probed while there are super-packets for it.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The same once it is given up: a firewall may be mended.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// How long what is known of a peer is believed without a super-packet for it.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Probes in flight at once: what the packet socket surely has room for.
const PROBES: usize = 64;

/// The state of a peer after a probe, and how many were lost in a row.
fn next_state(outcome: Outcome, wanted: TunnelGso, lost: u32) -> (PeerState, u32) {
    match outcome {
        Outcome::Whole => (PeerState::Open, 0),
        Outcome::Segmented if wanted == TunnelGso::On => (PeerState::Open, 0),
        Outcome::Segmented => (PeerState::Segmented, 0),
        Outcome::Lost => (PeerState::Blocked, lost.saturating_add(1)),
        Outcome::Unknown => (PeerState::Untried, lost),
    }
}

/// How long after a probe the next may follow.
fn pause(lost: u32) -> Duration {
    if lost < LOST_MAX {
        // Less than the pause between two rounds, which would else skip every other.
        TRY_EVERY / 2
    } else {
        TRY_AGAIN_EVERY
    }
}

/// What the prober remembers of the peer in a slot.
#[derive(Clone, Copy)]
struct Account {
    peer: Ipv4Addr,
    /// Probes lost in a row.
    lost: u32,
    /// When it may be tried again.
    next: Instant,
    /// When there last was a super-packet.
    wanted: Instant,
}

pub(super) struct Prober {
    gate: Arc<TunnelGsoGate>,
    wanted: TunnelGso,
    probing: Probing,
    paths: PathProbe,
    longest: usize,
    /// In place where `rp_filter` is strict.
    redirect: Option<Redirect>,
    memory: Memory,
}

/// Memory of the prober, taken once.
struct Memory {
    accounts: Box<[Option<Account>]>,
    probes: Vec<Probe>,
}

impl Prober {
    /// Decides for `gate` by how the probes of `probing` leave, and has `paths` learn MTUs.
    /// `longest` is the length in bytes of the frame of a packet that fills the overlay's MTU.
    pub(super) fn new(
        gate: Arc<TunnelGsoGate>,
        wanted: TunnelGso,
        probing: Probing,
        paths: PathProbe,
        longest: usize,
    ) -> Prober {
        Prober {
            gate,
            wanted,
            probing,
            paths,
            longest,
            redirect: None,
            memory: Memory {
                accounts: vec![None; SLOTS].into_boxed_slice(),
                probes: Vec::with_capacity(PROBES),
            },
        }
    }

    /// Probe when there is something to probe, until `stop` is raised.
    pub(super) fn run(&mut self, mut reader: Reader, stop: &StopEvent, stats: &WorkerStats) {
        let gate = self.gate.clone();
        while !gate.is_refused() {
            let limit = self.patience();
            if reader.wait(|| gate.wake.wait(stop, limit)) {
                return;
            }
            self.round(reader.table(), stats);
            if reader.wait(|| stop.wait(TRY_EVERY)) {
                return;
            }
        }
        // A thread that ends counts as failed, so it waits for the end like all others.
        while !reader.wait(|| stop.wait(Duration::MAX)) {}
    }

    /// How long to sleep while there is no super-packet.
    fn patience(&self) -> Duration {
        let peers = || self.gate.peers.iter();
        let is_open = |(_, state)| state == PeerState::Open;
        if self.redirect.is_some() && peers().any(is_open) {
            return TRY_EVERY;
        }
        // Until all is forgotten there is something to forget.
        match peers().next() {
            Some(_) => FORGET_AFTER,
            None => Duration::MAX,
        }
    }

    /// Probe every peer that there were super-packets for, and ask for the MTU of the path to it.
    fn round(&mut self, table: &Table, stats: &WorkerStats) {
        let gate = self.gate.clone();
        let now = Instant::now();
        for slot in 0..SLOTS {
            let Some((peer, wanted)) = gate.peers.look(slot) else {
                continue;
            };
            let new = Account {
                peer,
                lost: 0,
                next: now,
                wanted: now,
            };
            let known = self.memory.accounts[slot].filter(|known| known.peer == peer);
            let account = self.memory.accounts[slot].insert(known.unwrap_or(new));
            if !wanted {
                if now.duration_since(account.wanted) >= FORGET_AFTER {
                    gate.peers.give_back(slot);
                } else if self.redirect.is_some() {
                    // What is around the checks is believed as long as it is looked at.
                    gate.peers.set_state(slot, PeerState::Untried);
                }
                continue;
            }
            account.wanted = now;
            let Some((to, frame)) = find(table, peer).filter(|_| now >= account.next) else {
                continue;
            };
            self.paths.is_too_long(to.into(), self.longest, stats);
            self.memory.probes.push(Probe::new(slot, to, frame));
            if self.memory.probes.len() == PROBES {
                self.probe(now, stats);
            }
        }
        self.probe(now, stats);
    }

    fn send(&mut self) -> io::Result<()> {
        let redirected = self.redirect.is_some();
        let probes = &mut self.memory.probes;
        self.probing.send(&self.gate, probes, redirected)
    }

    /// Send the probes that are due, and draw the lesson from how each leaves.
    fn probe(&mut self, now: Instant, stats: &WorkerStats) {
        let gate = self.gate.clone();
        if self.memory.probes.is_empty() {
            return;
        }
        let mut sent = self.send();
        if sent.is_ok() && self.count_lost(stats) && self.change_redirect() {
            sent = self.send();
            self.count_lost(stats);
        }
        if let Err(error) = sent {
            gate.note_error(&error);
        }
        let Memory { accounts, probes } = &mut self.memory;
        for Probe { slot, outcome, .. } in probes.drain(..) {
            let Some(account) = &mut accounts[slot] else {
                continue;
            };
            let (state, lost) = next_state(outcome, self.wanted, account.lost);
            (account.lost, account.next) = (lost, now + pause(lost));
            gate.peers.set_state(slot, state);
            if outcome != Outcome::Unknown {
                gate.peers.take_sent(slot);
            }
        }
    }

    /// Count the probes that were lost, and what was sent since the last that were not; whether
    /// there are any.
    fn count_lost(&self, stats: &WorkerStats) -> bool {
        let probes = self.memory.probes.iter();
        let lost = probes.filter(|probe| probe.outcome == Outcome::Lost);
        let count = lost.map(|probe| {
            let sent = self.gate.peers.take_sent(probe.slot);
            stats.add(Count::ProbesLost, 1);
            stats.add(Count::TunnelGsoSendsLost, sent);
        });
        count.count() > 0
    }

    /// Probes were lost: whether they are now redirected past what may have stopped them, or no
    /// longer redirected, so that it is worth to send them again.
    #[cold]
    fn change_redirect(&mut self) -> bool {
        let Some(device) = &self.probing.device else {
            return false;
        };
        let tap = self.gate.device();
        let is_needed = redirect::is_needed(tap);
        let leads_there = |old: &Redirect| old.leads_to(device);
        if is_needed && self.redirect.as_ref().is_some_and(leads_there) {
            return false;
        }
        // One that leads to where the device was would swallow all, whatever else there is.
        let had_other = self.redirect.take().is_some();
        self.gate.redirect.set(None);
        if !is_needed {
            return had_other;
        }
        // What was found out without the redirect does not hold with it.
        self.gate.peers.close();
        let made = Device::named(tap).and_then(|tap| Redirect::new(&tap, device));
        self.gate.redirect.set(Some(made.as_ref().map(drop)));
        self.redirect = made.ok();
        self.redirect.is_some()
    }
}

/// Where the frames of a peer go, and what they begin with.
fn find(table: &Table, peer: Ipv4Addr) -> Option<(SocketAddrV4, [u8; FRAME_OVERHEAD])> {
    let peer = table.peer(table.peer_by_addr(peer.into())?);
    match (peer.addr, peer.header_v4) {
        (SocketAddr::V4(addr), FrameHeader::Vxlan(frame)) => Some((addr, frame)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_leaves_whole_opens_the_gate_and_one_in_frames_only_on_demand() {
        use TunnelGso::{Auto, On};
        assert_eq!(next_state(Outcome::Whole, Auto, 2), (PeerState::Open, 0));
        let segmented = next_state(Outcome::Segmented, Auto, 1);
        assert_eq!(segmented, (PeerState::Segmented, 0));
        assert_eq!(next_state(Outcome::Segmented, On, 1), (PeerState::Open, 0));
    }

    #[test]
    fn a_lost_probe_closes_the_gate_at_once_and_several_for_long() {
        let mut lost = 0;
        let pauses = [(); 3].map(|()| {
            let (state, now) = next_state(Outcome::Lost, TunnelGso::Auto, lost);
            assert_eq!(state, PeerState::Blocked);
            lost = now;
            pause(lost)
        });
        assert!(pauses[..2].iter().all(|&pause| pause < TRY_EVERY));
        assert_eq!(pauses[2], TRY_AGAIN_EVERY);
        let whole = next_state(Outcome::Whole, TunnelGso::Auto, lost);
        assert_eq!(whole, (PeerState::Open, 0), "it is tried again");
    }

    #[test]
    fn a_device_that_is_away_says_nothing_of_the_peer() {
        let away = next_state(Outcome::Unknown, TunnelGso::Auto, LOST_MAX - 1);
        assert_eq!(away, (PeerState::Untried, LOST_MAX - 1));
    }
}
