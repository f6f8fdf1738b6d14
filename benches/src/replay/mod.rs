//! The workers' own code over packets in memory, without a kernel.
//!
//! [`Encap`] and [`Decap`] stand in for an engine: they hand one batch to
//! `worker::encap::batch` and `worker::decap::batch`, again and again. The trains that an
//! [`Encap`] plans are what a [`Decap`] receives, so one set of packets serves both ways.

mod arrival;
mod coalesce;
mod decap;
mod encap;
mod packets;

pub use arrival::Arrival;
pub use coalesce::Coalesce;
pub use decap::Decap;
pub use encap::{Encap, TunRead};
pub use packets::Spec;

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weft_dataplane::offload::coalesce::{Coalescer, Limits};
use weft_dataplane::offload::vnet_hdr::Layout;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::vxlan::Vni;

/// MTU of the tunnel in bytes, on an underlay of 1,500.
pub const MTU: usize = 1450;

/// The node that encapsulates: underlay address and `VtepMAC`.
const NEAR: (IpAddr, MacAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    MacAddr([2, 0, 0, 0, 0, 1]),
);

/// The node that decapsulates.
const FAR: (IpAddr, MacAddr) = (
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    MacAddr([2, 0, 0, 0, 0, 2]),
);

/// The same work on the same packets, over and over.
pub trait Replay {
    /// Put back what [`Replay::run`] has changed.
    fn rewind(&mut self);

    /// Do the work of one batch as a worker does it.
    fn run(&mut self);
}

/// The table of node `own`, to which `peer` owns all subnets.
fn table(own: (IpAddr, MacAddr), peer: (IpAddr, MacAddr), subnets: &[IpNet]) -> Table {
    let overlay = Overlay {
        vni: Vni::default(),
        local_mac: own.1,
        network_v4: "10.244.0.0/16".parse().ok(),
        subnet_len_v4: 24,
        network_v6: "fd00:244::/32".parse().ok(),
        subnet_len_v6: 64,
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: SocketAddr::new(peer.0, 8472),
        mac: peer.1,
    };
    let routes: Vec<_> = subnets
        .iter()
        .map(|&prefix| Route { prefix, peer })
        .collect();
    Table::build(overlay, &routes).expect("two valid subnets")
}

/// The node's subnet that `address` lies in.
fn subnet(address: IpAddr) -> IpNet {
    let len = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new_assert(address, len).trunc()
}

/// A coalescer as a worker has it.
fn coalescer() -> Coalescer {
    let limits = Limits {
        udp_segments: 64,
        ..Limits::new(MTU)
    };
    Coalescer::new(256, Layout::Legacy, limits).expect("the legacy header is short")
}

#[cfg(test)]
mod tests;
