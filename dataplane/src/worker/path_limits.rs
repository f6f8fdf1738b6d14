//! What one encap worker knows of the paths to its peers.

use crate::mtu::limits::inner_limit;
use crate::mtu::paths::PathMtus;
use crate::offload::cut::PathLimit;
use crate::route::table::{Peer, PeerId};
use crate::sys::path::PathProbe;
use std::sync::Arc;

/// Tells for each packet how long it may be on its path.
///
/// What all workers have learned is looked at once for each run of packets to one peer, between
/// two sends of what is planned; while nothing is believed of any path, not at all.
pub struct PathLimits {
    paths: Arc<PathMtus>,
    /// Who to ask whether what is known still holds, and the TUN's MTU in bytes.
    probe: Option<(PathProbe, usize)>,
    outer_df: bool,
    /// Milliseconds when it last began, while anything learned is believed.
    now: Option<u64>,
    /// The peer of the latest packet since then, and what is known of its path.
    latest: Option<(PeerId, Option<PathLimit>)>,
}

impl PathLimits {
    /// Go by what is known in `paths`. With `outer_df` outer packets must not be fragmented.
    pub fn new(paths: Arc<PathMtus>, outer_df: bool) -> PathLimits {
        PathLimits {
            paths,
            probe: None,
            outer_df,
            now: None,
            latest: None,
        }
    }

    /// The same, which has the kernel asked by `probe`, that learns for the same paths, whether
    /// lessons still hold. `mtu` is the TUN's, in bytes.
    pub fn asking(self, probe: PathProbe, mtu: usize) -> PathLimits {
        let probe = Some((probe, mtu));
        PathLimits { probe, ..self }
    }

    /// Begin a batch, or go on with one after some of it was sent. `now`, in milliseconds, is asked for only if it matters.
    pub(super) fn begin(&mut self, now: impl FnOnce() -> u64) {
        self.now = match self.paths.is_empty() {
            true => None,
            false => Some(now()).filter(|&now| self.paths.any(now)),
        };
        self.latest = None;
    }

    /// What is known of the path to `peer`, the one of this `id` in the table of this batch.
    #[inline]
    pub(super) fn of(&mut self, id: PeerId, peer: &Peer) -> Option<PathLimit> {
        let now = self.now?;
        if let Some((latest, limit)) = self.latest
            && latest == id
        {
            return limit;
        }
        let limit = self.look(peer, now);
        self.latest = Some((id, limit));
        limit
    }

    #[inline(never)]
    fn look(&mut self, peer: &Peer, now: u64) -> Option<PathLimit> {
        let (to, wire) = (peer.addr, peer.header_v4.wire());
        let known = self.paths.look(to.ip(), now)?;
        let mtu = match &mut self.probe {
            Some((probe, mtu)) if known.is_due => {
                let longest = wire.header_len() + *mtu;
                probe.ask_again(to, longest, known.mtu)?
            }
            _ => known.mtu,
        };
        Some(PathLimit {
            fits: inner_limit(wire, to.ip(), mtu),
            outer_df: self.outer_df,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtu::paths::LIFETIME_MS;
    use crate::route::table::{NewPeer, Overlay, Route, Table};
    use crate::wire::ethernet::MacAddr;
    use std::net::IpAddr;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 3));

    fn table() -> Table {
        let route = |prefix: &str, addr: IpAddr| Route {
            prefix: prefix.parse().unwrap(),
            peer: NewPeer {
                addr: (addr, 8472).into(),
                mac: MacAddr([2; 6]),
            },
        };
        let routes = [route("10.0.1.0/24", NEAR), route("10.0.2.0/24", FAR)];
        Table::build(Overlay::default(), &routes).unwrap()
    }

    fn limit_of(limits: &mut PathLimits, addr: IpAddr) -> Option<usize> {
        let table = table();
        let id = table.peer_by_addr(addr).unwrap();
        limits.of(id, table.peer(id)).map(|limit| limit.fits)
    }

    #[test]
    fn while_nothing_was_learned_no_clock_is_read_and_nothing_limits() {
        let mut limits = PathLimits::new(Arc::default(), false);
        limits.begin(|| panic!("nobody needs the time"));
        assert_eq!(limit_of(&mut limits, NEAR), None);
    }

    #[test]
    fn each_peer_has_its_own_limit_in_whatever_order_it_is_asked_for() {
        let paths = Arc::new(PathMtus::new());
        paths.learn(NEAR, 1400, 0);
        let mut limits = PathLimits::new(paths.clone(), false);
        limits.begin(|| 0);
        for (addr, fits) in [
            (NEAR, Some(1350)),
            (NEAR, Some(1350)),
            (FAR, None),
            (FAR, None),
            (NEAR, Some(1350)),
        ] {
            assert_eq!(limit_of(&mut limits, addr), fits);
        }
        paths.learn(NEAR, 1300, 0);
        paths.learn(FAR, 1200, 0);
        limits.begin(|| 0);
        assert_eq!(limit_of(&mut limits, NEAR), Some(1250));
        assert_eq!(limit_of(&mut limits, FAR), Some(1150));
        limits.begin(|| LIFETIME_MS);
        assert_eq!(limit_of(&mut limits, NEAR), None);
    }

    /// The ids of two tables may name different peers.
    #[test]
    fn a_batch_knows_nothing_of_the_peers_of_the_one_before() {
        let paths = Arc::new(PathMtus::new());
        paths.learn(NEAR, 1400, 0);
        let mut limits = PathLimits::new(paths, true);
        let (table, id) = (table(), PeerId(0));
        limits.begin(|| 0);
        let limit = limits.of(id, table.peer(PeerId(0)));
        assert_eq!(limit.map(|limit| limit.outer_df), Some(true));
        limits.begin(|| 0);
        assert_eq!(limits.of(id, table.peer(PeerId(1))), None);
    }
}
