//! The routing table: built whole by the control thread, read by the workers, never changed.

use super::hash_index::{HashIndex, hash_addr, hash_addr_and};
use super::prefixes::{Address, MAX_VALUE, Network, Prefix, PrefixMap};
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, MacAddr};
use crate::wire::frame::{FrameHeader, Wire};
use crate::wire::vxlan::Vni;
use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How strictly received frames are held against the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Admission {
    /// Take frames from live peers only, and from each only inner sources that are its own
    /// or lie outside the overlay network.
    #[default]
    Strict,
    /// Take any frame with our VNI and MAC, as kernel VXLAN does, or any packet, as
    /// flannel's `udp` proxy does.
    Loose,
}

/// What all peers of an overlay have in common, and this node's place in it. The default has
/// no network, so that nothing is routed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The form of the frames.
    pub wire: Wire,
    /// VXLAN network identifier; of no meaning with [`Wire::Ip`].
    pub vni: Vni,
    /// MAC address this node advertises (its VtepMAC); of no meaning with [`Wire::Ip`].
    pub local_mac: MacAddr,
    /// The IPv4 network that the nodes' subnets are cut from.
    pub network_v4: Option<Ipv4Net>,
    /// Prefix length of every node's IPv4 subnet (SubnetLen).
    pub subnet_len_v4: u8,
    /// The IPv6 network that the nodes' subnets are cut from.
    pub network_v6: Option<Ipv6Net>,
    /// Prefix length of every node's IPv6 subnet (IPv6SubnetLen).
    pub subnet_len_v6: u8,
    /// This node's IPv4 subnet.
    pub own_v4: Option<Ipv4Net>,
    /// This node's IPv6 subnet.
    pub own_v6: Option<Ipv6Net>,
    /// What is taken from whom.
    pub admission: Admission,
    /// Take headers with a group policy, too (draft-smith-vxlan-group-policy); it is ignored.
    pub gbp: bool,
}

/// The port of a peer that nothing is to be sent to, because it would come back. Its frames
/// are admitted as those of others are.
pub const CUT_OFF: u16 = 0;

/// Groups of peers that share no send socket with each other, see [`Table::with_exits`].
pub const EXITS: u8 = 2;

/// A peer as the control thread names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewPeer {
    /// Underlay address and port, or [`CUT_OFF`].
    pub addr: SocketAddr,
    /// The peer's VtepMAC; of no meaning with [`Wire::Ip`].
    pub mac: MacAddr,
}

/// Destinations in `prefix` belong to `peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Inner destinations; bits beyond the prefix length are ignored.
    pub prefix: IpNet,
    /// The node that has them.
    pub peer: NewPeer,
}

/// A node of the overlay, with the headers of every frame sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Underlay address and port.
    pub addr: SocketAddr,
    /// The peer's VtepMAC.
    pub mac: MacAddr,
    /// Its group of send sockets, below [`EXITS`].
    pub exit: u8,
    /// What a frame that carries IPv4 begins with.
    pub header_v4: FrameHeader,
    /// What a frame that carries IPv6 begins with.
    pub header_v6: FrameHeader,
}

impl Peer {
    /// Whether nothing is to be sent to it, see [`CUT_OFF`].
    #[inline]
    pub fn is_cut_off(&self) -> bool {
        self.addr.port() == CUT_OFF
    }
}

fn header(overlay: &Overlay, dst: MacAddr, ethertype: u16) -> FrameHeader {
    match overlay.wire {
        Wire::Vxlan => FrameHeader::vxlan(overlay.vni, dst, overlay.local_mac, ethertype),
        Wire::Ip => FrameHeader::Nothing,
    }
}

/// Names a peer of one table; another table may give the number to another peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub u32);

/// An overlay that no table can be built for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Subnets larger than their network or longer than an address.
    #[error("subnet length {subnet_len} does not cut {network} into subnets")]
    SubnetLen {
        /// The overlay network.
        network: IpNet,
        /// The configured length.
        subnet_len: u8,
    },
    /// More routes than there are numbers for their peers.
    #[error("{0} routes are more than a table can hold")]
    TooManyRoutes(usize),
}

#[cfg(test)]
thread_local! {
    /// Destinations that this thread has looked up, for tests that count.
    pub(crate) static LOOKUPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Routes and peers of one overlay at one time.
pub struct Table {
    overlay: Overlay,
    v4: PrefixMap<u32>,
    v6: PrefixMap<u128>,
    peers: Box<[Peer]>,
    /// The first peer of each underlay address.
    by_addr: HashIndex,
    /// Stands in for ids beyond the peers.
    nobody: Peer,
}

impl Table {
    /// A table of `routes`.
    ///
    /// Routes with the same peer address and MAC share one [`Peer`]. Of routes with the
    /// same prefix the last one gets the traffic; the peers of the others stay in the
    /// table, so that what they send is still admitted. Only the overlay can be at fault,
    /// never a route: one odd lease must not cost the node its table. With [`Wire::Ip`] no
    /// IPv6 destination has a route.
    pub fn build(overlay: Overlay, routes: &[Route]) -> Result<Table, BuildError> {
        let network_v4 = network_v4(&overlay)?;
        let network_v6 = network_v6(&overlay)?;
        let (peers, ids) = number_peers(&overlay, routes)?;
        let mut v4 = Vec::with_capacity(routes.len());
        let mut v6 = Vec::new();
        for (route, value) in routes.iter().zip(ids) {
            let len = route.prefix.prefix_len();
            match route.prefix.network() {
                IpAddr::V4(start) => v4.push(Prefix {
                    start: start.to_bits(),
                    len,
                    value,
                }),
                // Without an EtherType there is only one kind of packet.
                IpAddr::V6(_) if overlay.wire == Wire::Ip => {}
                IpAddr::V6(start) => v6.push(Prefix {
                    start: start.to_bits(),
                    len,
                    value,
                }),
            }
        }
        let by_addr = index_by_addr(&peers);
        Ok(Table {
            v4: PrefixMap::new(network_v4, v4),
            v6: PrefixMap::new(network_v6, v6),
            by_addr,
            peers: peers.into(),
            nobody: nobody(),
            overlay,
        })
    }

    /// With the group of send sockets that `exit` gives for each peer's address. What a queue
    /// holds is charged to the socket that sent it, so peers that are reached through different
    /// queues, those of different devices, are to have none in common.
    pub fn with_exits(mut self, exit: impl Fn(IpAddr) -> u8) -> Table {
        for peer in &mut self.peers {
            peer.exit = exit(peer.addr.ip()) % EXITS;
        }
        self
    }

    /// A table without peers: all lookups miss and a strict overlay admits nothing.
    pub fn empty(overlay: Overlay) -> Table {
        Table {
            v4: PrefixMap::new(None, Vec::new()),
            v6: PrefixMap::new(None, Vec::new()),
            by_addr: index_by_addr(&[]),
            peers: Box::default(),
            nobody: nobody(),
            overlay,
        }
    }

    /// The peer of the longest prefix over `dst`.
    #[inline]
    pub fn lookup_v4(&self, dst: Ipv4Addr) -> Option<PeerId> {
        #[cfg(test)]
        LOOKUPS.set(LOOKUPS.get() + 1);
        self.v4.get(dst.to_bits()).map(PeerId)
    }

    /// The peer of the longest prefix over `dst`.
    #[inline]
    pub fn lookup_v6(&self, dst: Ipv6Addr) -> Option<PeerId> {
        #[cfg(test)]
        LOOKUPS.set(LOOKUPS.get() + 1);
        self.v6.get(dst.to_bits()).map(PeerId)
    }

    /// The peer of an id that this table gave.
    ///
    /// The id of another table may name another peer or none; for none the result is a peer
    /// with port 0, to which the kernel refuses to send.
    #[inline]
    pub fn peer(&self, id: PeerId) -> &Peer {
        self.peers.get(id.0 as usize).unwrap_or(&self.nobody)
    }

    /// A peer with this underlay address; of several the first in the order of routes.
    ///
    /// IPv4 addresses mapped into IPv6, as dual-stack sockets report them, count as IPv4.
    #[inline]
    pub fn peer_by_addr(&self, addr: IpAddr) -> Option<PeerId> {
        let ip = addr.to_canonical();
        let has = |number: u32| {
            let peer = self.peers.get(number as usize);
            peer.is_some_and(|peer| peer.addr.ip() == ip)
        };
        self.by_addr.get(hash_addr(ip), has).map(PeerId)
    }

    /// The overlay this table was built for.
    #[inline]
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Prefixes that answer every IPv4 address as [`lookup_v4`](Table::lookup_v4) does; none lies
    /// in another.
    pub fn routes_v4(&self) -> impl Iterator<Item = (Ipv4Net, PeerId)> {
        self.v4.ranges().flat_map(|(first, last, value)| {
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
            Ipv4Subnets::new(first, last, 0).map(move |prefix| (prefix, PeerId(value)))
        })
    }

    /// All peers; the peer with [`PeerId`] `n` is at `n`.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }
}

/// A peer to which the kernel refuses to send.
fn nobody() -> Peer {
    Peer {
        addr: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        mac: MacAddr::default(),
        exit: 0,
        header_v4: FrameHeader::Nothing,
        header_v6: FrameHeader::Nothing,
    }
}

/// The distinct peers of `routes`, and for each route the number of its peer.
fn number_peers(overlay: &Overlay, routes: &[Route]) -> Result<(Vec<Peer>, Vec<u32>), BuildError> {
    if routes.len() >= MAX_VALUE as usize {
        return Err(BuildError::TooManyRoutes(routes.len()));
    }
    let mut peers: Vec<Peer> = Vec::with_capacity(routes.len());
    let mut index = HashIndex::with_room(routes.len());
    let number = |route: &Route| {
        let NewPeer { addr, mac } = route.peer;
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let new = peers.len();
        let same = |number: u32| {
            let peer = &peers[number as usize];
            peer.addr == addr && peer.mac == mac
        };
        let number = index.get_or_insert(hash_peer(addr, mac), same, new as u32);
        if number as usize == new {
            peers.push(Peer {
                addr,
                mac,
                exit: 0,
                header_v4: header(overlay, mac, ETHERTYPE_IPV4),
                header_v6: header(overlay, mac, ETHERTYPE_IPV6),
            });
        }
        number
    };
    let ids = routes.iter().map(number).collect();
    Ok((peers, ids))
}

fn network_v4(overlay: &Overlay) -> Result<Option<Network<u32>>, BuildError> {
    let Some(net) = overlay.network_v4 else {
        return Ok(None);
    };
    let start = net.network().to_bits();
    network(net.into(), start, overlay.subnet_len_v4).map(Some)
}

fn network_v6(overlay: &Overlay) -> Result<Option<Network<u128>>, BuildError> {
    let Some(net) = overlay.network_v6 else {
        return Ok(None);
    };
    let start = net.network().to_bits();
    network(net.into(), start, overlay.subnet_len_v6).map(Some)
}

fn network<A: Address>(net: IpNet, start: A, subnet_len: u8) -> Result<Network<A>, BuildError> {
    let len = net.prefix_len();
    if subnet_len < len || subnet_len > A::BITS {
        return Err(BuildError::SubnetLen {
            network: net.trunc(),
            subnet_len,
        });
    }
    Ok(Network {
        start,
        len,
        subnet_len,
    })
}

fn index_by_addr(peers: &[Peer]) -> HashIndex {
    let mut index = HashIndex::with_room(peers.len());
    for (number, peer) in (0..).zip(peers) {
        let ip = peer.addr.ip();
        let same = |number: u32| peers[number as usize].addr.ip() == ip;
        index.get_or_insert(hash_addr(ip), same, number);
    }
    index
}

fn hash_peer(addr: SocketAddr, mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    let [g, h] = addr.port().to_be_bytes();
    hash_addr_and(addr.ip(), u64::from_be_bytes([g, h, a, b, c, d, e, f]))
}

#[cfg(test)]
pub(crate) mod tests;
