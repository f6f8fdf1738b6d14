//! Other nodes' leases become peers.
//!
//! A lease can be read and still be wrong. One outside the network, or one that reaches into
//! this node's own subnet, makes no peer: a route to it would lead other packets astray, those
//! to this host's own pods or networks. Leases of others may overlap each other: the longest
//! prefix gets the packets, as in the kernel's tables, whatever carries them.

use crate::family::Family;
use crate::lease::{BadAttrs, Lease, SubnetKey, enclosed, is_host};
use crate::subnets::LeaseEvent;
use crate::text::shown;
use crate::wire::MacAddr;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A node as one backend reaches it in one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its pods' subnet.
    pub subnet: IpNet,
    /// Its advertised address.
    pub addr: IpAddr,
    /// Its VtepMAC; zero where the backend has none.
    pub mac: MacAddr,
}

/// Which leases make peers, and what of them is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerKind {
    /// Of subnet and address.
    pub family: Family,
    /// The `BackendType` that peers must have.
    pub backend: &'static str,
    /// Whether peers have a VtepMAC.
    pub has_mac: bool,
}

/// The peers of one backend in one address family, kept up to date by lease events.
pub(super) struct PeerSet {
    kind: PeerKind,
    network: IpNet,
    own: IpNet,
    peers: BTreeMap<SubnetKey, Peer>,
    /// What is wrong with leases that are not usable, so that each reason is logged once
    /// and not again at every renewal.
    complaints: BTreeMap<SubnetKey, Complaint>,
    /// What other leases get of the subnets of peers, logged once, too.
    overlaps: BTreeMap<SubnetKey, String>,
    /// What has not been logged yet.
    warnings: Vec<(LeaseName, String)>,
}

/// How messages name a lease: by its key and its node.
type LeaseName = (SubnetKey, IpAddr);

/// Why a lease gives no usable peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Complaint {
    #[error("its backend is {}, not {}; this node cannot reach it", named(.found), named(.own))]
    OtherBackend { found: String, own: &'static str },
    #[error("it has no {0} subnet or no {0} address; this node cannot reach it over {0}")]
    OtherFamily(Family),
    #[error("{0}")]
    BadData(BadAttrs),
    #[error("its public address {0} is no address of a host")]
    BadAddress(IpAddr),
    #[error("{subnet} is not inside Network {network}")]
    Outside { subnet: IpNet, network: IpNet },
    #[error("{subnet} overlaps {own}, this node's own subnet")]
    InOwn { subnet: IpNet, own: IpNet },
}

/// A `BackendType` for people.
fn named(backend: &str) -> &str {
    match backend {
        "" => "none (udp, alloc, or a reservation whose node is not up)",
        typed => typed,
    }
}

impl PeerSet {
    /// No peers yet; all have subnets of `network`, and `own` is this node's.
    pub(super) fn new(kind: PeerKind, network: IpNet, own: IpNet) -> PeerSet {
        PeerSet {
            kind,
            network: network.trunc(),
            own,
            peers: BTreeMap::new(),
            complaints: BTreeMap::new(),
            overlaps: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The family in which they are reached.
    pub(super) fn family(&self) -> Family {
        self.kind.family
    }

    /// What their subnets lie in.
    pub(super) fn network(&self) -> IpNet {
        self.network
    }

    /// Number of peers.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// All peers, in the order of their leases' keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.peers.values()
    }

    /// All peers with their leases' keys.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&SubnetKey, &Peer)> + Clone {
        self.peers.iter()
    }

    /// Take in events; whether any peer differs because of them.
    pub(super) fn take_in(&mut self, events: &[LeaseEvent]) -> bool {
        let mut changed = false;
        for event in events {
            changed |= self.apply(event);
        }
        if changed {
            self.note_overlaps();
        }
        changed
    }

    /// Take in one event; whether any peer differs because of it.
    ///
    /// A lease whose data is malformed leaves a peer that is known already as it is: a bad
    /// write must not cut off a node that works.
    fn apply(&mut self, event: &LeaseEvent) -> bool {
        match event {
            LeaseEvent::Snapshot(leases) => self.replace(leases),
            LeaseEvent::Put(lease) => {
                let peer = self.resolve(lease);
                self.set(lease.key(), peer)
            }
            LeaseEvent::Delete(key) => {
                self.complaints.remove(key);
                self.set(*key, None)
            }
        }
    }

    fn replace(&mut self, leases: &[Lease]) -> bool {
        let mut peers = BTreeMap::new();
        for lease in leases {
            if let Some(peer) = self.resolve(lease) {
                peers.insert(lease.key(), peer);
            }
        }
        let listed: BTreeSet<SubnetKey> = leases.iter().map(Lease::key).collect();
        self.complaints.retain(|key, _| listed.contains(key));
        let changed = peers != self.peers;
        self.peers = peers;
        changed
    }

    fn set(&mut self, key: SubnetKey, peer: Option<Peer>) -> bool {
        let before = match peer {
            Some(peer) => self.peers.insert(key, peer),
            None => self.peers.remove(&key),
        };
        before != peer
    }

    /// The peer that `lease` stands for from now on: the one it describes or, if its data is
    /// malformed, the one known before.
    fn resolve(&mut self, lease: &Lease) -> Option<Peer> {
        let key = lease.key();
        let complaint = match self.peer_of(lease) {
            Ok(peer) => {
                self.complaints.remove(&key);
                return Some(peer);
            }
            Err(complaint) => complaint,
        };
        let known = match complaint {
            Complaint::BadData(_) | Complaint::BadAddress(_) => self.peers.get(&key).copied(),
            Complaint::OtherBackend { .. }
            | Complaint::OtherFamily(_)
            | Complaint::Outside { .. }
            | Complaint::InOwn { .. } => None,
        };
        if self.complaints.get(&key) != Some(&complaint) {
            let consequence = match known {
                Some(_) => "keeping what was known of it",
                None => "skipped",
            };
            let name = (key, lease.attrs.identity());
            self.warnings
                .push((name, format!("{complaint}; {consequence}")));
            self.complaints.insert(key, complaint);
        }
        known
    }

    fn peer_of(&self, lease: &Lease) -> Result<Peer, Complaint> {
        let attrs = &lease.attrs;
        let PeerKind {
            family,
            backend,
            has_mac,
        } = self.kind;
        if attrs.backend_type != backend {
            return Err(Complaint::OtherBackend {
                found: shown(&attrs.backend_type),
                own: backend,
            });
        }
        let subnet = lease.subnet(family);
        let (Some(subnet), Some(addr)) = (subnet, attrs.public(family)) else {
            return Err(Complaint::OtherFamily(family));
        };
        let (network, own) = (self.network, self.own);
        if !network.contains(&subnet) {
            return Err(Complaint::Outside { subnet, network });
        }
        if own.contains(&subnet) || subnet.contains(&own) {
            return Err(Complaint::InOwn { subnet, own });
        }
        if !is_host(addr) {
            return Err(Complaint::BadAddress(addr));
        }
        let mac = match has_mac {
            true => {
                attrs
                    .vxlan_data(family)
                    .map_err(Complaint::BadData)?
                    .vtep_mac
            }
            false => MacAddr::default(),
        };
        Ok(Peer { subnet, addr, mac })
    }

    /// Put down which peers lose packets to others whose subnets lie inside theirs.
    fn note_overlaps(&mut self) {
        let subnets = self.peers.iter().map(|(key, peer)| (peer.subnet, *key));
        let mut losses: BTreeMap<SubnetKey, Vec<&Peer>> = BTreeMap::new();
        for (outer, inner) in enclosed(subnets.collect()) {
            let gainer = &self.peers[&inner];
            // One node's own leases cost it nothing.
            if gainer.addr != self.peers[&outer].addr {
                losses.entry(outer).or_default().push(gainer);
            }
        }
        let mut overlaps = BTreeMap::new();
        for (key, inside) in losses {
            let loser = &self.peers[&key];
            let Some((first, rest)) = inside.split_first() else {
                continue;
            };
            let more = match rest.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let line = format!(
                "{} of {} lies inside its subnet{more}; packets to that part go there",
                first.subnet, first.addr
            );
            if self.overlaps.get(&key) != Some(&line) {
                self.warnings.push(((key, loser.addr), line.clone()));
            }
            overlaps.insert(key, line);
        }
        self.overlaps = overlaps;
    }
}

/// What is wrong with leases and has not been logged yet, a line for each lease: both families
/// may say the same of it.
pub(super) fn warnings<'a>(all: impl Iterator<Item = &'a mut PeerSet>) -> Vec<String> {
    let mut reasons: BTreeMap<LeaseName, Vec<String>> = BTreeMap::new();
    for (lease, reason) in all.flat_map(|peers| peers.warnings.drain(..)) {
        let reasons = reasons.entry(lease).or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let line = |((key, node), reasons): (LeaseName, Vec<String>)| {
        format!("lease {key} of {node}: {}", reasons.join("; "))
    };
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
