//! The vxlan backend: peers' leases become the routes of the dataplane's table.

use crate::lease::{BadAttrs, Lease, SubnetKey};
use crate::subnets::LeaseEvent;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use weft_dataplane::route::table::{BuildError, NewPeer, Overlay, Route, Table};

/// The `BackendType` of vxlan leases.
pub const BACKEND_TYPE: &str = "vxlan";

/// The peers of one overlay, kept up to date by lease events.
pub struct Vxlan {
    overlay: Overlay,
    port: u16,
    peers: BTreeMap<SubnetKey, NewPeer>,
    /// What is wrong with leases that are not usable, so that each reason is logged once
    /// and not again at every renewal.
    complaints: BTreeMap<SubnetKey, Complaint>,
}

/// Why a lease gives no usable peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Complaint {
    #[error("its backend is {0:?}, not \"vxlan\"; this node cannot reach it")]
    OtherBackend(String),
    #[error("{0}")]
    BadData(BadAttrs),
    #[error("PublicIP {0} is no address of a host")]
    BadPublicIp(Ipv4Addr),
}

impl Vxlan {
    /// No peers yet; every peer listens on UDP port `port`.
    pub fn new(overlay: Overlay, port: u16) -> Self {
        Self {
            overlay,
            port,
            peers: BTreeMap::new(),
            complaints: BTreeMap::new(),
        }
    }

    /// Number of peers.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Take in one event; whether the table differs because of it.
    ///
    /// A lease whose data is malformed leaves a peer that is known already as it is: a bad
    /// write must not cut off a node that works.
    pub fn apply(&mut self, event: LeaseEvent) -> bool {
        match event {
            LeaseEvent::Snapshot(leases) => self.replace(&leases),
            LeaseEvent::Put(lease) => {
                let peer = self.judge(&lease);
                self.set(lease.key(), peer)
            }
            LeaseEvent::Delete(key) => {
                self.complaints.remove(&key);
                self.set(key, None)
            }
        }
    }

    /// The table of the peers known now.
    pub fn table(&self) -> Result<Table, BuildError> {
        let routes: Vec<Route> = self.routes().collect();
        Table::build(self.overlay.clone(), &routes)
    }

    fn routes(&self) -> impl Iterator<Item = Route> {
        self.peers.iter().filter_map(|(key, &peer)| {
            let prefix = IpNet::V4(key.v4?);
            Some(Route { prefix, peer })
        })
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

    fn set(&mut self, key: SubnetKey, peer: Option<NewPeer>) -> bool {
        let before = match peer {
            Some(peer) => self.peers.insert(key, peer),
            None => self.peers.remove(&key),
        };
        before != peer
    }

    /// The peer that `lease` stands for from now on: the one it describes or, if its data is
    /// malformed, the one known before.
    fn judge(&mut self, lease: &Lease) -> Option<NewPeer> {
        let key = lease.key();
        if self.overlay.own_v4.is_some() && self.overlay.own_v4 == lease.subnet {
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
            Complaint::OtherBackend(_) => None,
            Complaint::BadData(_) | Complaint::BadPublicIp(_) => self.peers.get(&key).copied(),
        };
        if self.complaints.get(&key) != Some(&complaint) {
            let consequence = match known {
                Some(_) => "keeping what was known of it",
                None => "skipped",
            };
            tracing::warn!(
                "lease {key} of {}: {complaint}; {consequence}",
                lease.attrs.public_ip
            );
            self.complaints.insert(key, complaint);
        }
        known
    }

    fn peer_of(&self, lease: &Lease) -> Result<NewPeer, Complaint> {
        let attrs = &lease.attrs;
        if attrs.backend_type != BACKEND_TYPE {
            return Err(Complaint::OtherBackend(attrs.backend_type.clone()));
        }
        let ip = attrs.public_ip;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
            return Err(Complaint::BadPublicIp(ip));
        }
        let data = attrs.vxlan_data().map_err(Complaint::BadData)?;
        Ok(NewPeer {
            addr: SocketAddr::from((ip, self.port)),
            mac: data.vtep_mac,
        })
    }
}

#[cfg(test)]
mod tests;
