//! A backend at work.

use super::carrier::Carrier;
use super::direct::{DirectRoutes, RoutedPeers};
use super::error::BackendError;
use super::host::Host;
use super::tunnel::{FastPathMode, FastPathReport, Tunnel, remove_fast_paths};
use super::twins::Twins;
use super::underlay::UnderlayCheck;
use super::{leftovers, peers, underlay};
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::hand_over::TunnelOffer;
use crate::lease::{Lease, Previous};
use crate::status::{PeerStatus, TunnelStatus, UnderlayStatus};
use crate::subnets::LeaseEvent;
use ipnet::IpNet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use tracing::{debug, info, warn};

/// A running backend.
pub struct Backend {
    host: Host,
    mtu: u32,
    carriers: Vec<Carrier>,
    twins: Twins,
    /// Whether all peers are known, so that what the kernel has of others is stale.
    listed: bool,
    underlay: UnderlayCheck,
}

impl Backend {
    /// A backend whose carriers run; no peer is known yet.
    pub(super) fn new(host: Host, mtu: u32, carriers: Vec<Carrier>, lease: &Lease) -> Backend {
        Backend {
            host,
            mtu,
            carriers,
            twins: Twins::new(lease.attrs.clone()),
            listed: false,
            underlay: UnderlayCheck::default(),
        }
    }

    /// Remove what earlier runs have left and this one has no use for: devices, and routes to
    /// nodes of a network that has changed or is carried in another way.
    pub(super) async fn clear(&self, config: &NetworkConfig, previous: &Previous, bpffs: &Path) {
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
        let (netlink, mark) = (&self.host.netlink, self.host.mark.as_deref());
        let (done, failures) = remove_fast_paths(netlink, bpffs, mark).await;
        for what in done {
            info!("removed {what}, which an earlier run made for another backend or network");
        }
        for reason in failures {
            warn!(
                code = "W0606",
                "{reason}; it may be left of an earlier backend"
            );
        }
    }

    fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.carriers.iter().filter_map(|c| c.tunnel.as_ref())
    }

    fn tunnels_mut(&mut self) -> impl Iterator<Item = &mut Tunnel> {
        self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut())
    }

    /// The kernel and the settings.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The largest packet that pods may send, in bytes: it fits the carriers of all families.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether all peers are known.
    pub fn is_listed(&self) -> bool {
        self.listed
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

    /// What the subnets of all nodes lie in, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.carriers.iter().map(|carrier| carrier.peers.network())
    }

    /// All peers, those of IPv4 first, each family in the order of the leases' keys.
    pub fn peer_status(&self) -> Vec<PeerStatus> {
        let of = |carrier: &Carrier| -> Vec<PeerStatus> {
            let peers = carrier.peers.iter();
            peers.map(|peer| carrier.peer_status(peer)).collect()
        };
        self.carriers.iter().flat_map(of).collect()
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
                carrier.publish(&self.host, self.listed).await?;
                carrier.direct(&self.host, self.listed).await;
                debug!("peers: {}", carrier.peers.len());
            }
        }
        let warnings = peers::warnings(self.carriers.iter_mut().map(|c| &mut c.peers));
        for line in warnings {
            warn!(code = "W0312", "{line}");
        }
        for line in self.twins.take_in(batch) {
            warn!(code = "W0313", "{line}");
        }
        batch.clear();
        Ok(())
    }

    /// Look whether all devices and workers are alive; put right what can be. An error is
    /// one that does not pass by itself.
    pub async fn check_health(&mut self) -> Result<(), BackendError> {
        underlay::follow(&mut self.host).await;
        for tunnel in self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            tunnel.check_health(&self.host).await?;
        }
        Ok(())
    }

    /// Restore addresses, routes and MAC files that others have changed, and look what has become
    /// of the underlay.
    pub async fn reconcile(&mut self) {
        self.underlay.look(&mut self.host).await;
        for carrier in &mut self.carriers {
            if let Some(tunnel) = &mut carrier.tunnel {
                tunnel.keep_mac();
                if let Err(error) = tunnel.reconcile(&self.host).await {
                    warn!(code = "W0506", "{}: {error}; trying again", tunnel.device());
                }
            }
            if carrier.look(&self.host, true).await
                && let Err(error) = carrier.publish(&self.host, self.listed).await
            {
                warn!(code = "W0506", "{error}; trying again");
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

    /// Where packets to other nodes leave.
    pub fn underlay(&self) -> UnderlayStatus {
        let underlay = &self.host.underlay;
        UnderlayStatus {
            name: underlay.name.clone(),
            addresses: underlay.local.present().collect(),
            there: self.has_underlay(),
        }
    }

    /// What each tunnel is doing; of the peers that lost frames so many are named.
    pub fn tunnel_status(&self, named: usize) -> Vec<TunnelStatus> {
        self.tunnels().map(|tunnel| tunnel.status(named)).collect()
    }

    /// Tell how the fast path of each tunnel is, and first have all in `mode` if there is one.
    pub async fn fast_path(&mut self, mode: Option<FastPathMode>) -> Vec<FastPathReport> {
        let mut reports = Vec::new();
        for tunnel in self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            if let Some(mode) = mode {
                tunnel.set_fast_path(&self.host, mode).await;
            }
            reports.push(tunnel.fast_path());
        }
        reports
    }

    /// What a successor is given: each tunnel, with its descriptors. The error is one line.
    pub fn offer(&self) -> Result<Vec<(TunnelOffer, Vec<BorrowedFd<'_>>)>, String> {
        self.tunnels()
            .map(|tunnel| {
                let device = tunnel.device();
                let anew = || format!("{device} is being made anew; try again");
                tunnel.offer().ok_or_else(anew)
            })
            .collect()
    }

    /// What the programs of each device find the workers by, with the device's name.
    pub fn holds(&self) -> Vec<(String, OwnedFd)> {
        let hold = |tunnel: &Tunnel| Some((tunnel.device().to_owned(), tunnel.hold()?));
        self.tunnels().filter_map(hold).collect()
    }

    /// How often what a successor is given has changed.
    pub fn changes(&self) -> u64 {
        self.tunnels().map(Tunnel::changes).sum()
    }

    /// Have room for datagrams that come while nobody reads them.
    pub fn make_room(&mut self) {
        self.tunnels_mut().for_each(Tunnel::make_room);
    }

    /// Stop the workers, which have sent then what they had read, and keep what they work with.
    pub fn pause(&mut self) {
        self.tunnels_mut().for_each(Tunnel::pause);
    }

    /// Go on where the workers have stopped.
    pub fn resume(&mut self) {
        self.tunnels_mut().for_each(Tunnel::resume);
    }

    /// Let workers begin that were parked since they share what they work with.
    pub fn go(&mut self) {
        self.tunnels_mut().for_each(Tunnel::go);
    }

    /// Have fast paths in the place of those of the process that was before.
    pub async fn start_fast_paths(&mut self) {
        for tunnel in self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            tunnel.start_fast_path(&self.host).await;
        }
    }

    /// Leave everything as it is to the process that carries the packets.
    pub fn leave(self) {
        let tunnels = self.carriers.into_iter().filter_map(|c| c.tunnel);
        tunnels.for_each(Tunnel::leave);
    }

    /// Stop the workers. Devices, addresses and routes stay.
    pub async fn stop(self) {
        for tunnel in self.carriers.into_iter().filter_map(|c| c.tunnel) {
            tunnel.stop().await;
        }
    }
}

async fn clear_routes(host: &Host, network: IpNet, subnet_len: u8) {
    let mut routes = DirectRoutes::new(RoutedPeers::None, network, subnet_len);
    if let Err(error) = routes.reconcile(host, std::iter::empty()).await {
        warn!(
            code = "W0511",
            "{error}; routes to other nodes may be left of an earlier backend"
        );
    }
}
