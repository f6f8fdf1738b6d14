//! The routing table as the programs read it: made whole, put in place by one pointer.

use super::layout::{self, ROLE_BITS, ROLE_ROUTE, ROLE_SENDER, TableKey};
use crate::route::table::{Peer, Table};
use aya::maps::lpm_trie::Key;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Exits other than this one lead through another device, where only sockets find the way.
const EXIT_HERE: u8 = 0;

/// An entry of the programs' table.
pub(super) type Entry = (Key<TableKey>, layout::Peer);

/// What is known of the path to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPath {
    /// Outer IP packets may have so many bytes at most.
    Mtu(u16),
    /// There is no route, or one that refuses. Workers are refused, too, and say so.
    Nowhere,
}

/// The IPv4 part of a [`Table`], as the programs have it.
#[derive(Clone, Default)]
pub struct Entries(Vec<Entry>);

impl Entries {
    /// Those of `table`.
    pub fn of(table: &Table) -> Entries {
        let senders = table.peers().iter().filter_map(|peer| {
            let IpAddr::V4(addr) = peer.addr.ip() else {
                return None;
            };
            Some((key(ROLE_SENDER, addr, 32), value(peer)?))
        });
        let routes = table.routes_v4().filter_map(|(prefix, id)| {
            let key = key(ROLE_ROUTE, prefix.network(), prefix.prefix_len());
            Some((key, value(table.peer(id))?))
        });
        Entries(senders.chain(routes).collect())
    }

    /// The peers' addresses, each once.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> {
        let is_sender = |(key, _): &&Entry| key.data()[..4] == ROLE_SENDER.to_ne_bytes();
        let senders = self.0.iter().filter(is_sender);
        senders.map(|(_, peer)| IpAddr::from(peer.addr))
    }

    /// With what `path` knows of the path to each peer.
    pub(super) fn with_paths(&self, path: impl Fn(IpAddr) -> Option<PeerPath>) -> Vec<Entry> {
        let entries = self.0.iter().map(|(key, peer)| {
            let mut peer = *peer;
            match path(IpAddr::from(peer.addr)) {
                Some(PeerPath::Mtu(mtu)) => peer.mtu = mtu.into(),
                Some(PeerPath::Nowhere) => peer.flags |= layout::RECEIVE_ONLY,
                None => {}
            }
            (*key, peer)
        });
        entries.collect()
    }
}

/// The key of a prefix in a role.
pub(super) fn key(role: u32, addr: Ipv4Addr, prefix_len: u8) -> Key<TableKey> {
    let mut bytes = TableKey::default();
    bytes[..4].copy_from_slice(&role.to_ne_bytes());
    bytes[4..].copy_from_slice(&addr.octets());
    Key::new(ROLE_BITS + u32::from(prefix_len), bytes)
}

fn value(peer: &Peer) -> Option<layout::Peer> {
    let SocketAddr::V4(addr) = peer.addr else {
        return None;
    };
    let stays = peer.is_cut_off() || peer.exit != EXIT_HERE;
    Some(layout::Peer {
        addr: addr.ip().octets(),
        flags: if stays { layout::RECEIVE_ONLY } else { 0 },
        port: addr.port().to_be_bytes(),
        mac: peer.mac.0,
        ..layout::Peer::default()
    })
}
