//! What the routes to peers let through. A socket that sends learns of it by refusal, and workers with
//! it; what a program redirects is held against nothing but what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Bound;
use weft_dataplane::fastpath::PeerPath;
use weft_dataplane::sys::path::RouteProbe;

/// Peers that one look asks for. A route look-up takes some microseconds.
const LOOK_MAX: usize = 500;

/// Connected to, not sent to.
const ANY_PORT: u16 = 9;

/// What the kernel says of the routes to peers.
pub(super) struct Routes {
    probe: RouteProbe,
    /// Those that let less through than the underlay device.
    narrow: BTreeMap<IpAddr, PeerPath>,
    /// The last address that was asked for.
    asked: Option<IpAddr>,
}

impl Routes {
    /// Nothing is known yet of the routes from `local`.
    pub(super) fn new(local: Ipv4Addr) -> Result<Routes, String> {
        let probe = RouteProbe::new((local, 0).into()).map_err(|e| e.to_string())?;
        Ok(Routes {
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
            let path = match self.probe.ask(SocketAddr::new(addr, ANY_PORT)) {
                Ok(mtu) => Some(PeerPath::Mtu(mtu)).filter(|_| u32::from(mtu) < device),
                Err(error) => Some(PeerPath::Nowhere).filter(|_| leads_nowhere(&error)),
            };
            match path {
                Some(path) => drop(self.narrow.insert(addr, path)),
                None => drop(self.narrow.remove(&addr)),
            }
        }
    }

    /// What is known of the route to `addr`, if it lets less through than the device.
    pub(super) fn get(&self, addr: IpAddr) -> Option<PeerPath> {
        self.narrow.get(&addr).copied()
    }
}

/// Whether it is what the kernel says where there is no route, or one that is `unreachable`,
/// `prohibit` or `blackhole`.
fn leads_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, InvalidInput, NetworkUnreachable, PermissionDenied};
    let kinds = [
        NetworkUnreachable,
        HostUnreachable,
        PermissionDenied,
        InvalidInput,
    ];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::{self, ip};

    #[test]
    fn routes_that_are_narrow_or_lead_nowhere_are_told_from_others() {
        netns::run(async |netlink| {
            netns::link(&netlink, "eth0").await;
            for words in ["addr add 192.0.2.1/24 dev eth0", "link set eth0 up"] {
                ip(&words.split(' ').collect::<Vec<_>>());
            }
            for route in [
                "192.0.2.3 dev eth0 mtu 1400",
                "unreachable 192.0.2.4",
                "prohibit 192.0.2.5",
                "blackhole 192.0.2.6",
            ] {
                let words: Vec<_> = ["route", "add"]
                    .into_iter()
                    .chain(route.split(' '))
                    .collect();
                ip(&words);
            }
            let mut routes = Routes::new(Ipv4Addr::new(192, 0, 2, 1)).unwrap();
            let peer = |last| IpAddr::from([192, 0, 2, last]);
            // Nothing leads to that one.
            let elsewhere = IpAddr::from([198, 51, 100, 1]);
            let peers: BTreeSet<IpAddr> = (2..=6).map(peer).chain([elsewhere]).collect();
            routes.look(&peers, 1500);
            let found: Vec<_> = peers.iter().map(|&addr| routes.get(addr)).collect();
            let nowhere = Some(PeerPath::Nowhere);
            let narrow = Some(PeerPath::Mtu(1400));
            assert_eq!(found, [None, narrow, nowhere, nowhere, nowhere, nowhere]);
            for last in 4..=6 {
                ip(&["route", "del", &format!("192.0.2.{last}")]);
            }
            routes.look(&peers, 1500);
            let found: Vec<_> = (4..=6).map(|last| routes.get(peer(last))).collect();
            assert_eq!(found, [None; 3]);
        });
    }
}
