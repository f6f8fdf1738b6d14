//! Where the kernel routes packets to each peer, and peers whose own address leads back into a tunnel: what goes to them would come back, and
//! leave again, for ever. Such a lease keeps its place in the table, so that nobody else gets
//! its packets, but nothing is sent to it until the kernel routes its address elsewhere. The
//! workers know packets that came back by themselves; this spares them those, and tells.

use super::host::Host;
use super::peers::Peer;
use crate::host::iface;
use crate::host::netlink::{Link, NetlinkError};
use crate::lease::SubnetKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use tracing::{debug, info, warn};

/// Peers that one look asks for. A route look-up takes some ten microseconds.
const LOOK_MAX: usize = 1_000;

/// Where packets to an address leave.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// By the underlay device, or the kernel does not say.
    Underlay,
    /// By another device, of this index.
    Device(u32),
    /// Into the tunnel of this name.
    Tunnel(String),
}

/// The ways to the peers of one tunnel.
pub(super) struct Recursion {
    /// The address that packets to them leave from.
    local: IpAddr,
    /// What the kernel said of each peer's address.
    ways: BTreeMap<IpAddr, Way>,
    /// The last address that was asked for again.
    asked: Option<IpAddr>,
    /// Leases of which has been logged that nothing is sent to them.
    reported: BTreeSet<SubnetKey>,
}

impl Recursion {
    /// Nothing is known yet of the ways from `local`.
    pub(super) fn new(local: IpAddr) -> Recursion {
        Recursion {
            local,
            ways: BTreeMap::new(),
            asked: None,
            reported: BTreeSet::new(),
        }
    }

    /// Whether what is sent to `addr` comes back, as far as is known.
    pub(super) fn leads_back(&self, addr: IpAddr) -> bool {
        matches!(self.ways.get(&addr), Some(Way::Tunnel(_)))
    }

    /// Whether packets to `addr` leave by another device than the underlay's, as far as is known.
    pub(super) fn leaves_elsewhere(&self, addr: IpAddr) -> bool {
        matches!(self.ways.get(&addr), Some(Way::Device(_)))
    }

    /// Ask the kernel for the ways to those of `peers` that are new, or with `again` to the
    /// others, too, [`LOOK_MAX`] in all; whether any leads elsewhere than before.
    pub(super) async fn look<'a>(
        &mut self,
        host: &Host,
        peers: impl Iterator<Item = (&'a SubnetKey, &'a Peer)> + Clone,
        again: bool,
    ) -> bool {
        let wanted: BTreeSet<IpAddr> = peers.clone().map(|(_, peer)| peer.addr).collect();
        self.ways.retain(|addr, _| wanted.contains(addr));
        let changed = match self.ask(host, &wanted, again).await {
            Ok(changed) => changed,
            Err(error) => {
                debug!("{error}; looking at the ways to peers again");
                true
            }
        };
        self.report(host, peers);
        changed
    }

    async fn ask(
        &mut self,
        host: &Host,
        wanted: &BTreeSet<IpAddr>,
        again: bool,
    ) -> Result<bool, NetlinkError> {
        let unknown = wanted.iter().filter(|addr| !self.ways.contains_key(addr));
        let mut turn: Vec<IpAddr> = unknown.copied().take(LOOK_MAX).collect();
        if again {
            let known = self.in_turn(LOOK_MAX - turn.len());
            self.asked = known.last().copied().or(self.asked);
            turn.extend(known);
        }
        let mut devices = BTreeMap::new();
        let mut changed = false;
        for addr in turn {
            let way = self.way_to(host, addr, &mut devices).await?;
            let before = self.ways.insert(addr, way.clone());
            changed |= before.unwrap_or(Way::Underlay) != way;
        }
        Ok(changed)
    }

    /// Up to `count` addresses that are known, behind those of the last time.
    fn in_turn(&self, count: usize) -> Vec<IpAddr> {
        // No peer has the lowest of all addresses.
        let last = self.asked.unwrap_or(IpAddr::from([0; 4]));
        let behind = self.ways.range((Bound::Excluded(last), Bound::Unbounded));
        let all = behind.chain(self.ways.range(..=last));
        all.map(|(addr, _)| *addr).take(count).collect()
    }

    /// Where packets to `addr` leave. `devices` is what is known of devices by index, in this
    /// look.
    async fn way_to(
        &self,
        host: &Host,
        addr: IpAddr,
        devices: &mut BTreeMap<u32, Way>,
    ) -> Result<Way, NetlinkError> {
        // They leave by the device of the address that they are sent from.
        if matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local()) {
            return Ok(Way::Underlay);
        }
        let route = host.netlink.route_between(self.local, addr).await?;
        let Some(index) = route.and_then(|route| route.index) else {
            return Ok(Way::Underlay);
        };
        if let Some(known) = devices.get(&index) {
            return Ok(known.clone());
        }
        let way = match host.netlink.link_at(index).await? {
            Some(link) if link.name == host.underlay.name => Way::Underlay,
            Some(link) if is_tunnel(&link, host) => Way::Tunnel(link.name),
            Some(_) => Way::Device(index),
            None => Way::Underlay,
        };
        devices.insert(index, way.clone());
        Ok(way)
    }

    /// Log what has not been logged.
    fn report<'a>(&mut self, host: &Host, peers: impl Iterator<Item = (&'a SubnetKey, &'a Peer)>) {
        let mut reported = BTreeSet::new();
        for (key, Peer { addr, .. }) in peers {
            let was_reported = self.reported.contains(key);
            if let Some(Way::Tunnel(device)) = self.ways.get(addr) {
                reported.insert(*key);
                if !was_reported {
                    let underlay = &host.underlay.name;
                    warn!(
                        code = "W0314",
                        "lease {key} of {addr}: this node routes {addr} into {device}, a tunnel: nothing is sent to it, as it would come back; let that node advertise an address outside the tunnel (-public-ip), or give {addr} a route through {underlay}"
                    );
                }
            } else if was_reported {
                info!("lease {key} of {addr}: the way to {addr} is outside the tunnel again");
            }
        }
        self.reported = reported;
    }
}

/// Whether what enters `link` leaves to a peer, or comes back. What the user has chosen to carry
/// the packets does not.
fn is_tunnel(link: &Link, host: &Host) -> bool {
    iface::is_tunnel(link) && link.name != host.underlay.name
}

#[cfg(test)]
mod tests;
