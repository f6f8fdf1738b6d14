//! What carries the packets of one address family: a tunnel, routes of the kernel, or both.

use super::direct::{DirectRoutes, RoutedPeers};
use super::error::BackendError;
use super::host::Host;
use super::peers::{Peer, PeerKind, PeerSet};
use super::recursion::Recursion;
use super::tunnel::{DeviceNetworks, PreparedTunnel, Tunnel};
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::lease::{Lease, LeaseAttrs, Previous};
use crate::status::PeerStatus;
use std::net::IpAddr;
use tracing::warn;

/// What a backend has made before the lease.
pub(super) struct Carriers {
    /// What the lease is to tell the peers.
    pub(super) attrs: LeaseAttrs,
    /// The largest packet that pods may send, in bytes: it fits the carriers of all families.
    pub(super) mtu: u32,
    /// One for each family of the network; none if somebody else sees to the packets.
    pub(super) list: Vec<PreparedCarrier>,
}

/// What is to carry the packets of one address family.
pub(super) struct PreparedCarrier {
    pub(super) peers: PeerKind,
    pub(super) tunnel: Option<PreparedTunnel>,
    pub(super) direct: RoutedPeers,
}

impl PreparedCarrier {
    pub(super) async fn start(
        self,
        host: &Host,
        config: &NetworkConfig,
        lease: &Lease,
        previous: &Previous,
    ) -> Result<Carrier, BackendError> {
        let family = self.peers.family;
        let missing = || BackendError::NoSubnet(family);
        let network = config.network(family).ok_or_else(missing)?;
        let subnet = lease.subnet(family).ok_or_else(missing)?;
        let tunnel = match self.tunnel {
            Some(tunnel) => {
                let networks = DeviceNetworks {
                    network,
                    previous: previous.network(family),
                    subnet,
                };
                Some(
                    tunnel
                        .start(host, (config, lease), family, networks)
                        .await?,
                )
            }
            None => None,
        };
        let subnet_len = config.subnet_len(family);
        Ok(Carrier {
            peers: PeerSet::new(self.peers, network, subnet),
            recursion: tunnel.as_ref().map(|tunnel| Recursion::new(tunnel.local())),
            tunnel,
            direct: DirectRoutes::new(self.direct, network, subnet_len),
        })
    }
}

/// What carries the packets of one address family.
pub(super) struct Carrier {
    pub(super) peers: PeerSet,
    pub(super) tunnel: Option<Tunnel>,
    /// Peers to whom nothing may go through the tunnel.
    pub(super) recursion: Option<Recursion>,
    pub(super) direct: DirectRoutes,
}

impl Carrier {
    /// A tunnel reaches its peers with or without routes to them.
    pub(super) fn is_settled(&self) -> bool {
        self.tunnel.is_some() || self.direct.is_settled()
    }

    pub(super) fn programmed(&self) -> usize {
        match self.tunnel {
            Some(_) => self.peers.len(),
            None => self.direct.programmed(),
        }
    }

    /// How `peer` is reached.
    pub(super) fn peer_status(&self, peer: &Peer) -> PeerStatus {
        let tunnel = self.tunnel.as_ref();
        let tunnel = tunnel.filter(|_| !self.direct.leads_to(peer.subnet));
        PeerStatus {
            subnet: peer.subnet,
            public: peer.addr,
            device: tunnel.map(|tunnel| tunnel.device().to_owned()),
        }
    }

    /// Look whether the ways to new peers, or with `again` to others, too, lead back into a
    /// tunnel; whether any has changed.
    pub(super) async fn look(&mut self, host: &Host, again: bool) -> bool {
        match &mut self.recursion {
            Some(recursion) => recursion.look(host, self.peers.leases(), again).await,
            None => false,
        }
    }

    /// Let the tunnel send to the peers.
    pub(super) async fn publish(&mut self, host: &Host, listed: bool) -> Result<(), BackendError> {
        let (Some(tunnel), Some(recursion)) = (&mut self.tunnel, &self.recursion) else {
            return Ok(());
        };
        let peers = self.peers.iter();
        Ok(tunnel.publish(host, peers, recursion, listed).await?)
    }

    /// Hold the kernel's routes to peers against those wanted, once all peers are known.
    pub(super) async fn direct(&mut self, host: &Host, listed: bool) {
        if listed && let Err(error) = self.direct.reconcile(host, self.peers.iter()).await {
            warn!(code = "W0506", "{error}; trying again");
        }
    }
}

/// The underlay address of `family` to send from.
pub(super) fn local_address(host: &Host, family: Family) -> Result<IpAddr, BackendError> {
    let local = host.underlay.local.of(family);
    local.ok_or_else(|| BackendError::NoAddress {
        iface: host.underlay.name.clone(),
        family,
    })
}
