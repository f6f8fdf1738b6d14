//! MTUs of the routes to peers. A socket that sends learns of them by refusal, and workers with it;
//! what a program redirects is held against nothing but what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Bound;
use weft_dataplane::sys::path::RouteProbe;

/// Peers that one look asks for. A route look-up takes some microseconds.
const LOOK_MAX: usize = 500;

/// Connected to, not sent to.
const ANY_PORT: u16 = 9;

/// What the kernel says of the routes to peers.
pub(super) struct RouteMtus {
    probe: RouteProbe,
    /// Those below the underlay device's.
    narrow: BTreeMap<IpAddr, u16>,
    /// The last address that was asked for.
    asked: Option<IpAddr>,
}

impl RouteMtus {
    /// Nothing is known yet of the routes from `local`.
    pub(super) fn new(local: Ipv4Addr) -> Result<RouteMtus, String> {
        let probe = RouteProbe::new((local, 0).into()).map_err(|e| e.to_string())?;
        Ok(RouteMtus {
            probe,
            narrow: BTreeMap::new(),
            asked: None,
        })
    }

    /// Ask for the next of `peers`, whose underlay device has this MTU.
    pub(super) fn look(&mut self, peers: &BTreeSet<IpAddr>, device: u32) {
        self.narrow.retain(|addr, _| peers.contains(addr));
        let last = self.asked.unwrap_or(IpAddr::from([0; 4]));
        let behind = peers.range((Bound::Excluded(last), Bound::Unbounded));
        for &addr in behind.chain(peers.range(..=last)).take(LOOK_MAX) {
            self.asked = Some(addr);
            // Without a route nothing is sent.
            let mtu = self.probe.ask(SocketAddr::new(addr, ANY_PORT)).ok();
            match mtu.filter(|&mtu| u32::from(mtu) < device) {
                Some(mtu) => drop(self.narrow.insert(addr, mtu)),
                None => drop(self.narrow.remove(&addr)),
            }
        }
    }

    /// The MTU of the route to `addr`, if it is below the device's.
    pub(super) fn get(&self, addr: IpAddr) -> Option<u16> {
        self.narrow.get(&addr).copied()
    }
}
