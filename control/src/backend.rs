//! Backends: how packets reach the other nodes.
//!
//! A backend has a carrier for each address family of the network: a tunnel (vxlan, udp),
//! kernel routes (host-gw) or both (vxlan with `DirectRouting`); alloc has none. What differs
//! between backends is decided once, when one is [`Prepared`]; the rest is common to all.
//!
//! ```text
//! Prepared::new      all that can fail without a lease: options, MTU, device, port, MAC
//! Prepared::attrs    what the lease tells the peers
//! Prepared::start    address, route and workers
//! Backend::apply     lease events
//! Backend::check_health  each second: are device and workers alive?
//! Backend::reconcile  each ten seconds: addresses and routes that others changed
//! Backend::stop      stops the workers; what is in the kernel stays
//! ```

mod collision;
mod dataplane;
mod direct;
mod error;
mod host_gw;
pub(crate) mod leftovers;
mod losses;
mod macs;
mod mtu;
mod options;
mod peers;
mod recursion;
mod takeover;
mod trouble;
mod tunnel;
mod tunnel_gso;
mod udp;
mod underlay;
mod vxlan;

use crate::config::NetworkConfig;
use crate::family::{Family, PerFamily};
use crate::host::iface::Underlay;
use crate::host::netlink::Netlink;
use crate::lease::{Lease, LeaseAttrs, Previous};
use crate::subnets::LeaseEvent;
pub(crate) use dataplane::RELEASE_GRACE;
use direct::{DirectRoutes, RoutedPeers};
pub use error::BackendError;
use ipnet::IpNet;
use macs::Twins;
pub use options::{Admit, BackendOptions, Cpus, EngineKind, TunnelGso, WorkerOptions};
use peers::{PeerKind, PeerSet};
use recursion::Recursion;
use std::net::IpAddr;
use tracing::{debug, info, warn};
use tunnel::{Place, PreparedTunnel, Tunnel};
use underlay::UnderlayWatch;
use weft_dataplane::route::table::{Admission, Overlay};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;

/// What a backend works with on this node.
pub struct Host {
    /// The kernel.
    pub netlink: Netlink,
    /// Where packets to other nodes leave.
    pub underlay: Underlay,
    /// What the backend is told.
    pub options: BackendOptions,
    /// The alias of this agent's devices, which tells them from those of other agents; without
    /// one, devices of earlier runs stay.
    pub mark: Option<String>,
}

impl Host {
    /// The underlay address of `family` to send from.
    fn local(&self, family: Family) -> Result<IpAddr, BackendError> {
        self.underlay
            .local
            .of(family)
            .ok_or_else(|| BackendError::NoAddress {
                iface: self.underlay.name.clone(),
                family,
            })
    }
}

/// A backend that needs only a lease.
pub struct Prepared {
    host: Host,
    attrs: LeaseAttrs,
    mtu: u32,
    carriers: Vec<PreparedCarrier>,
}

/// What is to carry the packets of one address family.
struct PreparedCarrier {
    peers: PeerKind,
    tunnel: Option<PreparedTunnel>,
    direct: RoutedPeers,
}

impl Prepared {
    /// Prepare the backend that the network config names.
    pub async fn new(host: Host, config: &NetworkConfig) -> Result<Prepared, BackendError> {
        if matches!(config.backend.kind.as_str(), "vxlan" | "udp") {
            collision::check(&host, config).await?;
        }
        match config.backend.kind.as_str() {
            "vxlan" => vxlan::prepare(host, config).await,
            "udp" => udp::prepare(host, config).await,
            "host-gw" => host_gw::prepare(host, config),
            "alloc" => Ok(Prepared::alloc(host)),
            _ => Err(config.unknown_backend().into()),
        }
    }

    /// A subnet and nothing else: somebody else sees to the packets.
    fn alloc(host: Host) -> Prepared {
        let (v4, v6) = host.underlay.public.typed();
        Prepared {
            attrs: LeaseAttrs::alloc(v4, v6),
            mtu: host.underlay.mtu,
            carriers: Vec::new(),
            host,
        }
    }

    /// What the lease is to tell the peers.
    pub fn attrs(&self) -> &LeaseAttrs {
        &self.attrs
    }

    /// The device through which encapsulated super-packets will be forwarded, if any.
    pub fn tap(&self) -> Option<String> {
        let mut tunnels = self.carriers.iter().filter_map(|c| c.tunnel.as_ref());
        tunnels.find_map(|tunnel| tunnel.tap(&self.host))
    }

    /// Set up what the lease's subnets need; no peer is known yet. Dropped, it stops.
    pub async fn start(
        self,
        config: &NetworkConfig,
        lease: &Lease,
        previous: &Previous,
    ) -> Result<Backend, BackendError> {
        let mut carriers: Vec<Carrier> = Vec::new();
        for prepared in self.carriers {
            match prepared.start(&self.host, config, lease, previous).await {
                Ok(carrier) => carriers.push(carrier),
                Err(error) => {
                    for tunnel in carriers.into_iter().filter_map(|c| c.tunnel) {
                        tunnel.withdraw(&self.host).await;
                    }
                    return Err(error);
                }
            }
        }
        for tunnel in carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            tunnel.confirm(&self.host).await;
        }
        let backend = Backend {
            host: self.host,
            mtu: self.mtu,
            carriers,
            twins: Twins::new(lease.attrs.clone()),
            listed: false,
            underlay: UnderlayWatch::default(),
        };
        backend.clear(config, previous).await;
        Ok(backend)
    }
}

impl PreparedCarrier {
    async fn start(
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
                // A subnets file may state another MAC, and then peers send to that.
                let data = lease.attrs.vxlan_data(family);
                let overlay = Overlay {
                    local_mac: data.map_or(tunnel.mac(), |data| data.vtep_mac).0.into(),
                    ..overlay(config, host.options.admit, lease)
                };
                let earlier = previous.network(family).unwrap_or(network);
                let networks = [network, earlier];
                let place = Place { networks, subnet };
                Some(tunnel.start(host, overlay, place).await?)
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

async fn clear_routes(host: &Host, network: IpNet, subnet_len: u8) {
    let mut routes = DirectRoutes::new(RoutedPeers::None, network, subnet_len);
    if let Err(error) = routes.reconcile(host, std::iter::empty()).await {
        warn!("{error}; routes to other nodes may be left of an earlier backend");
    }
}

/// What all tunnels have in common; the rest is theirs to fill in. Each knows the networks of
/// both families: a frame of the one that came through the tunnel of the other is held against
/// them, too.
fn overlay(config: &NetworkConfig, admit: Admit, lease: &Lease) -> Overlay {
    let networks = PerFamily::new(|family| config.network(family));
    let (network_v4, network_v6) = networks.typed();
    Overlay {
        wire: Wire::Vxlan,
        vni: Vni::default(),
        gbp: false,
        local_mac: [0; 6].into(),
        network_v4,
        subnet_len_v4: config.subnet_len(Family::V4),
        network_v6,
        subnet_len_v6: config.subnet_len(Family::V6),
        own_v4: lease.subnet,
        own_v6: lease.subnet_v6,
        admission: match admit {
            Admit::Strict => Admission::Strict,
            Admit::Loose => Admission::Loose,
        },
    }
}

/// A running backend.
pub struct Backend {
    host: Host,
    mtu: u32,
    carriers: Vec<Carrier>,
    twins: Twins,
    /// Whether all peers are known, so that what the kernel has of others is stale.
    listed: bool,
    underlay: UnderlayWatch,
}

/// What carries the packets of one address family.
struct Carrier {
    peers: PeerSet,
    tunnel: Option<Tunnel>,
    /// Peers to whom nothing may go through the tunnel.
    recursion: Option<Recursion>,
    direct: DirectRoutes,
}

impl Backend {
    /// Remove what earlier runs have left and this one has no use for: devices, and routes to
    /// nodes of a network that has changed or is carried in another way.
    async fn clear(&self, config: &NetworkConfig, previous: &Previous) {
        for family in Family::BOTH {
            let carrier = self.carriers.iter().find(|c| c.peers.family() == family);
            let looked_after = carrier.and_then(|_| config.network(family));
            let networks = [config.network(family), previous.network(family)];
            for network in networks.into_iter().flatten() {
                if Some(network.trunc()) != looked_after.map(|network| network.trunc()) {
                    clear_routes(&self.host, network, config.subnet_len(family)).await;
                }
            }
        }
        if let Some(mark) = &self.host.mark {
            let used: Vec<&str> = self.tunnels().map(Tunnel::device).collect();
            leftovers::remove(&self.host.netlink, mark, &used).await;
        }
    }

    fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.carriers.iter().filter_map(|c| c.tunnel.as_ref())
    }

    /// The kernel and the settings.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The largest packet that pods may send, in bytes: it fits the carriers of all families.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether all peers are known and programmed. One that cannot be does not count.
    pub fn is_settled(&self) -> bool {
        self.listed && self.carriers.iter().all(Carrier::is_settled)
    }

    /// Whether packets can leave from the addresses that were chosen at the start.
    pub fn has_underlay(&self) -> bool {
        self.underlay.is_there()
    }

    /// Number of peers that are programmed, of the family that has more.
    pub fn peers(&self) -> usize {
        let counts = self.carriers.iter().map(Carrier::programmed);
        counts.max().unwrap_or(0)
    }

    /// Take in a batch of events, with at most one table for each tunnel.
    pub async fn apply(&mut self, batch: &mut Vec<LeaseEvent>) -> Result<(), BackendError> {
        let first = !self.listed;
        self.listed |= batch
            .iter()
            .any(|event| matches!(event, LeaseEvent::Snapshot(_)));
        for carrier in &mut self.carriers {
            let changed = carrier.peers.take_in(batch);
            if changed || (first && self.listed) {
                carrier.look(&self.host, false).await;
                carrier.publish()?;
                carrier.direct(&self.host, self.listed).await;
                debug!("peers: {}", carrier.peers.len());
            }
        }
        let warnings = peers::warnings(self.carriers.iter_mut().map(|c| &mut c.peers));
        for line in warnings.into_iter().chain(self.twins.take_in(batch)) {
            warn!("{line}");
        }
        batch.clear();
        Ok(())
    }

    /// Look whether all devices and workers are alive; mend what can be mended. An error is
    /// one that does not pass by itself.
    pub async fn check_health(&mut self) -> Result<(), BackendError> {
        for tunnel in self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            tunnel.watch(&self.host).await?;
        }
        Ok(())
    }

    /// Restore addresses, routes and MAC files that others have changed, and look what has become
    /// of the underlay.
    pub async fn reconcile(&mut self) {
        self.underlay.look(&self.host).await;
        for carrier in &mut self.carriers {
            if let Some(tunnel) = &mut carrier.tunnel {
                tunnel.keep_mac();
                if let Err(error) = tunnel.mend(&self.host).await {
                    warn!("{}: {error}; trying again", tunnel.device());
                }
            }
            if carrier.look(&self.host, true).await
                && let Err(error) = carrier.publish()
            {
                warn!("{error}; trying again");
            }
            carrier.direct(&self.host, self.listed).await;
        }
    }

    /// Names of the tunnel devices, and what else leads to the peers, for the log.
    pub fn ways(&self) -> String {
        let devices: Vec<&str> = self.tunnels().map(Tunnel::device).collect();
        match devices.is_empty() {
            true => self.host.underlay.name.clone(),
            false => devices.join(" and "),
        }
    }

    /// Log what of the kernel is in use, and the counters, two lines for each tunnel.
    pub fn report(&self) {
        if self.tunnels().next().is_none() {
            info!("counters: no tunnel, the kernel carries the packets");
        }
        self.tunnels().for_each(Tunnel::report);
    }

    /// Stop the workers. Devices, addresses and routes stay.
    pub async fn stop(self) {
        for tunnel in self.carriers.into_iter().filter_map(|c| c.tunnel) {
            tunnel.stop().await;
        }
    }
}

impl Carrier {
    /// A tunnel reaches its peers with or without routes to them.
    fn is_settled(&self) -> bool {
        self.tunnel.is_some() || self.direct.is_settled()
    }

    fn programmed(&self) -> usize {
        match self.tunnel {
            Some(_) => self.peers.len(),
            None => self.direct.programmed(),
        }
    }

    /// Look whether the ways to new peers, or with `again` to others, too, lead back into a
    /// tunnel; whether any has changed.
    async fn look(&mut self, host: &Host, again: bool) -> bool {
        match &mut self.recursion {
            Some(recursion) => recursion.look(host, self.peers.leases(), again).await,
            None => false,
        }
    }

    /// Let the tunnel send to the peers.
    fn publish(&self) -> Result<(), BackendError> {
        let (Some(tunnel), Some(recursion)) = (&self.tunnel, &self.recursion) else {
            return Ok(());
        };
        tunnel.publish(self.peers.iter(), recursion)
    }

    /// Hold the kernel's routes to peers against those wanted, once all peers are known.
    async fn direct(&mut self, host: &Host, listed: bool) {
        if listed && let Err(error) = self.direct.reconcile(host, self.peers.iter()).await {
            warn!("{error}; trying again");
        }
    }
}
