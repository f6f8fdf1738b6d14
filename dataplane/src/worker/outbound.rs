//! A packet on its way out: what it is, to whom it goes, and what is known of the path.

use super::flow::SendPool;
use super::recursion;
use crate::offload::cut::PathLimit;
use crate::offload::ecn;
use crate::offload::plan::TrainKey;
use crate::offload::vnet_hdr::VnetHdr;
use crate::route::table::{Peer, PeerId, Table};
use crate::stats::DropReason;
use crate::wire::ecn::Ecn;
use crate::wire::frame::{FrameHeader, Wire};
use crate::wire::ip::IpPacket;

/// A packet that was parsed and looked up, each once.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a, 't> {
    /// The packet as it was read.
    pub packet: IpPacket<'a>,
    /// What the TUN said of it.
    pub offload: VnetHdr,
    /// Whom it is for.
    pub peer: &'t Peer,
    /// What its frames begin with.
    pub header: &'t FrameHeader,
    /// What its frames share.
    pub key: TrainKey,
    /// What is known of the path to the peer, if anything.
    pub limit: Option<PathLimit>,
}

impl<'a, 't> Outbound<'a, 't> {
    /// `packet`, of which the TUN said `offload`, by the routes of `table`.
    ///
    /// `pool` has the sockets that it may leave through. `limit` knows the paths to peers, and is
    /// asked about the one of this packet.
    #[inline]
    pub fn new(
        packet: IpPacket<'a>,
        offload: VnetHdr,
        table: &'t Table,
        pool: SendPool,
        limit: impl FnOnce(PeerId, &Peer) -> Option<PathLimit>,
    ) -> Result<Outbound<'a, 't>, DropReason> {
        let ports = packet.ports();
        let (id, peer) = look_up(table, packet, ports)?;
        let header = match packet {
            IpPacket::V4(_) => &peer.header_v4,
            IpPacket::V6(_) => &peer.header_v6,
        };
        Ok(Outbound {
            packet,
            offload,
            peer,
            header,
            key: TrainKey {
                peer: id.0,
                bucket: pool.socket(&packet, ports, peer.exit),
                ecn: match header.wire() {
                    Wire::Vxlan => ecn::encap(packet.ecn()),
                    // The peer may be flannel's proxy, which does not look at the outer field, so
                    // that routers must drop instead of mark (RFC 6040, section 4.1).
                    Wire::Ip => Ecn::NotEct,
                },
            },
            limit: limit(id, peer),
        })
    }
}

/// The peer of a packet, unless nothing may be sent to it.
#[inline(always)]
fn look_up<'t>(
    table: &'t Table,
    packet: IpPacket<'_>,
    ports: Option<[u8; 4]>,
) -> Result<(PeerId, &'t Peer), DropReason> {
    let found = match packet {
        IpPacket::V4(packet) => table.lookup_v4(packet.dst()),
        IpPacket::V6(packet) => table.lookup_v6(packet.dst()),
    };
    let Some(id) = found else {
        return Err(nobodys(table, packet));
    };
    let peer = table.peer(id);
    let port = peer.addr.port();
    if peer.is_cut_off() || recursion::is_outer(&packet, ports, table, port) {
        return Err(DropReason::Recursion);
    }
    Ok((id, peer))
}

/// Why a packet has no peer.
#[cold]
fn nobodys(table: &Table, packet: IpPacket<'_>) -> DropReason {
    let unicast = match packet {
        IpPacket::V6(_) if table.overlay().wire == Wire::Ip => return DropReason::NotIpv4,
        IpPacket::V4(packet) => {
            let dst = packet.dst();
            !dst.is_multicast() && !dst.is_broadcast() && !dst.is_unspecified()
        }
        IpPacket::V6(packet) => !packet.dst().is_multicast() && !packet.dst().is_unspecified(),
    };
    match unicast {
        true => DropReason::NoPeer,
        false => DropReason::NotUnicast,
    }
}

#[cfg(test)]
mod tests;
