//! Other nodes' leases become peers.

use super::Family;
use crate::lease::{BadAttrs, Lease, SubnetKey};
use crate::subnets::LeaseEvent;
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
    pub mac: [u8; 6],
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
pub(super) struct Peers {
    kind: PeerKind,
    own: IpNet,
    peers: BTreeMap<SubnetKey, Peer>,
    /// What is wrong with leases that are not usable, so that each reason is logged once
    /// and not again at every renewal.
    complaints: BTreeMap<SubnetKey, Complaint>,
}

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
}

/// A `BackendType` for people.
fn named(backend: &str) -> &str {
    match backend {
        "" => "not named (udp, alloc, or a reservation whose node is not up)",
        typed => typed,
    }
}

impl Peers {
    /// No peers yet; the lease for `own` is this node's.
    pub(super) fn new(kind: PeerKind, own: IpNet) -> Peers {
        Peers {
            kind,
            own,
            peers: BTreeMap::new(),
            complaints: BTreeMap::new(),
        }
    }

    /// The family in which they are reached.
    pub(super) fn family(&self) -> Family {
        self.kind.family
    }

    /// Number of peers.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// All peers, in the order of their leases' keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.peers.values()
    }

    /// Take in one event; whether any peer differs because of it.
    ///
    /// A lease whose data is malformed leaves a peer that is known already as it is: a bad
    /// write must not cut off a node that works.
    pub(super) fn apply(&mut self, event: &LeaseEvent) -> bool {
        match event {
            LeaseEvent::Snapshot(leases) => self.replace(leases),
            LeaseEvent::Put(lease) => {
                let peer = self.judge(lease);
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
            if let Some(peer) = self.judge(lease) {
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
    fn judge(&mut self, lease: &Lease) -> Option<Peer> {
        let key = lease.key();
        if self.kind.family.subnet(lease) == Some(self.own) {
            return None;
        }
        let complaint = match self.peer_of(lease) {
            Ok(peer) => {
                self.complaints.remove(&key);
                return Some(peer);
            }
            Err(complaint) => complaint,
        };
        let known = match complaint {
            Complaint::OtherBackend { .. } | Complaint::OtherFamily(_) => None,
            Complaint::BadData(_) | Complaint::BadAddress(_) => self.peers.get(&key).copied(),
        };
        if self.complaints.get(&key) != Some(&complaint) {
            let consequence = match known {
                Some(_) => "keeping what was known of it",
                None => "skipped",
            };
            let node = lease.attrs.identity();
            tracing::warn!("lease {key} of {node}: {complaint}; {consequence}");
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
                found: attrs.backend_type.clone(),
                own: backend,
            });
        }
        let subnet = family.subnet(lease);
        let (Some(subnet), Some(addr)) = (subnet, family.public(attrs)) else {
            return Err(Complaint::OtherFamily(family));
        };
        let broadcast = matches!(addr, IpAddr::V4(addr) if addr.is_broadcast());
        if addr.is_unspecified() || addr.is_multicast() || broadcast {
            return Err(Complaint::BadAddress(addr));
        }
        let mac = match has_mac {
            true => {
                family
                    .vxlan_data(attrs)
                    .map_err(Complaint::BadData)?
                    .vtep_mac
            }
            false => [0; 6],
        };
        Ok(Peer { subnet, addr, mac })
    }
}

#[cfg(test)]
mod tests;
