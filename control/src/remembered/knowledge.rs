//! What a node goes by: what the store says and, until it does, what was remembered.

use super::LATER;
use super::clock::Clock;
use super::memory::{self, Memory, Own, Peers};
use crate::family::PerFamily;
use crate::lease::Lease;
use crate::subnets::LeaseEvent;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::info;

#[derive(Default)]
pub(super) struct Knowledge {
    /// What the file held at the start, as long as it may be of use.
    pub(super) memory: Option<Memory>,
    /// It is not from the file, but from a process that was taken over from.
    pub(super) inherited: bool,
    /// The network config as it was given last.
    pub(super) config: String,
    /// The addresses that the store wanted this node to advertise when it was asked last.
    pub(super) advertised: PerFamily<Option<IpAddr>>,
    /// What people call the store.
    store: &'static str,
    /// By the store or, as `unconfirmed` says, by what was remembered.
    own: Option<Own>,
    /// By which the times of this are.
    clock: Clock,
    peers: Option<Peers>,
    pub(super) unconfirmed: Unconfirmed,
    /// What the first list of the store has put right.
    differences: String,
    /// How often what the store says has changed, and which state of it is in the file.
    changes: u64,
    pub(super) kept: u64,
}

/// What the store has not said yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Unconfirmed {
    pub(super) lease: bool,
    pub(super) peers: bool,
    /// When that was written, in seconds since 1970.
    pub(super) written: u64,
}

impl Knowledge {
    /// Of a node that may have a memory and goes by nothing yet.
    pub(super) fn of(memory: Option<Memory>, store: &'static str) -> Knowledge {
        Knowledge {
            memory,
            store,
            ..Knowledge::default()
        }
    }

    /// Go by a memory; the lease in it.
    pub(super) fn go_by(&mut self, memory: Memory) -> Lease {
        let lease = memory.own.lease();
        self.unconfirmed = Unconfirmed {
            lease: true,
            peers: true,
            written: memory.written,
        };
        self.set_own(memory.own);
        self.peers = Some(memory.peers);
        lease
    }

    /// All other nodes, as they are remembered and until the store lists them.
    pub(super) fn remembered_peers(&self) -> Option<LeaseEvent> {
        let peers = self.peers.as_ref()?;
        self.unconfirmed.peers.then(|| memory::snapshot(peers))
    }

    /// The store has given a lease; the other nodes are not known.
    pub(super) fn granted(&mut self, lease: &Lease) {
        self.set_own(Own::of(lease));
        (self.peers, self.unconfirmed) = (None, Unconfirmed::default());
        self.changes += 1;
    }

    /// The store has given the lease that was remembered.
    pub(super) fn confirmed(&mut self, lease: &Lease) {
        self.set_own(Own::of(lease));
        self.unconfirmed.lease = false;
        self.tell_if_confirmed();
        self.changes += 1;
    }

    fn set_own(&mut self, own: Own) {
        (self.own, self.clock) = (Some(own), Clock::read());
    }

    /// Have all times by the host's clock as it goes `now`, if somebody has set that since.
    pub(super) fn follow_clock(&mut self, now: Clock) {
        let set = now.set_since(self.clock);
        let Some(own) = self.own.as_mut().filter(|_| set != 0) else {
            return;
        };
        own.follow_clock(set);
        let written = &mut self.unconfirmed.written;
        *written = written.saturating_add_signed(set);
        self.clock = now;
        self.changes += 1;
    }

    /// Take in what the store says of the other nodes; whether that is news.
    pub(super) fn take_in(&mut self, event: &LeaseEvent) -> bool {
        match event {
            LeaseEvent::Snapshot(leases) => {
                let peer = |lease: &Lease| (lease.key(), Arc::new(lease.attrs.clone()));
                let listed: Peers = Arc::new(leases.iter().map(peer).collect());
                if std::mem::take(&mut self.unconfirmed.peers) {
                    self.differences = differences(self.peers.as_ref(), &listed);
                    self.tell_if_confirmed();
                }
                self.peers = Some(listed);
            }
            LeaseEvent::Put(lease) => {
                let peers = Arc::make_mut(self.peers.get_or_insert_default());
                let before = peers.insert(lease.key(), Arc::new(lease.attrs.clone()));
                if before.is_some_and(|before| *before == lease.attrs) {
                    return false;
                }
            }
            LeaseEvent::Delete(key) => {
                Arc::make_mut(self.peers.get_or_insert_default()).remove(key);
            }
        }
        self.changes += 1;
        true
    }

    /// Take in when the own lease ends by now; whether that is news.
    pub(super) fn ends(&mut self, ends: Option<u64>) -> bool {
        self.follow_clock(Clock::read());
        let Some(own) = &mut self.own else {
            return false;
        };
        let is_same = match (own.ends, ends) {
            (Some(before), Some(now)) => now >= before && now - before < LATER,
            (before, now) => before == now,
        };
        if !is_same {
            own.ends = ends;
            self.changes += 1;
        }
        !is_same
    }

    /// What is to be written, and its number; nothing before the store has said all of it.
    pub(super) fn due(&self) -> Option<(u64, Memory)> {
        let is_due = !self.is_unconfirmed() && self.kept != self.changes;
        let memory = self.all().filter(|_| is_due)?;
        Some((self.changes, memory))
    }

    /// All that is known, as old as it is.
    pub(super) fn handed_over(&self) -> Option<Memory> {
        let mut memory = self.all()?;
        match self.is_unconfirmed() {
            true => memory.written = self.unconfirmed.written,
            false => memory.stamp(Clock::read()),
        }
        Some(memory)
    }

    /// Without the time.
    fn all(&self) -> Option<Memory> {
        Some(Memory {
            written: 0,
            since_boot: None,
            config: self.config.clone(),
            advertised: self.advertised,
            own: self.own.clone()?,
            peers: self.peers.clone()?,
        })
    }

    fn is_unconfirmed(&self) -> bool {
        let Unconfirmed { lease, peers, .. } = self.unconfirmed;
        lease || peers
    }

    /// Forget everything but the config; the number of that.
    pub(super) fn forget(&mut self) -> u64 {
        let changes = self.changes + 1;
        *self = Knowledge {
            config: std::mem::take(&mut self.config),
            store: self.store,
            changes,
            kept: changes,
            ..Knowledge::default()
        };
        changes
    }

    /// Say that nothing is by the memory alone any more.
    fn tell_if_confirmed(&self) {
        let Unconfirmed { lease, peers, .. } = self.unconfirmed;
        if let Some(own) = self.own.as_ref().filter(|_| !lease && !peers) {
            let (key, differences) = (own.key, &self.differences);
            let store = self.store;
            info!("{store} has confirmed the lease {key}, and the other nodes: {differences}");
        }
    }
}

/// What a list puts right of what was known before.
fn differences(before: Option<&Peers>, listed: &Peers) -> String {
    let before = before.cloned().unwrap_or_default();
    let new = listed.keys().filter(|key| !before.contains_key(key));
    let changed = listed.iter().filter(|(key, attrs)| {
        let known = before.get(key);
        known.is_some_and(|known| known != *attrs)
    });
    let gone = before.keys().filter(|key| !listed.contains_key(key));
    let (new, changed, gone) = (new.count(), changed.count(), gone.count());
    let all = listed.len();
    format!("{all}, of which {new} are new and {changed} have changed; {gone} are gone")
}
