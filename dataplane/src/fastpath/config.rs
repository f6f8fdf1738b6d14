//! What is said of a fast path when it starts and while it runs.

use super::error::FastPathError;
use super::index_of;
use super::layout::Settings;
use super::links::Hook;
use crate::route::table::{Admission, Overlay};
use crate::wire::frame::Wire;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the fast path runs and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the TUN device.
    pub device: String,
    /// Name of the underlay device.
    pub underlay: String,
    /// Underlay address to send from.
    pub local: Ipv4Addr,
    /// UDP port of all nodes.
    pub port: u16,
    /// How long the programs believe their table when no agent looks any more.
    pub lifetime: Duration,
    /// Where the BPF file system is mounted.
    pub bpffs: PathBuf,
    /// How programs are attached; `None`: by links where the kernel has them.
    pub hook: Option<Hook>,
}

/// What may change while programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Take all that can be taken, whatever is cheaper.
    pub all: bool,
    /// Send TCP super-packets by the fast path, and not in trains by the workers.
    pub super_packets: bool,
    /// MTU of the underlay device in bytes.
    pub mtu: u32,
}

/// The veth pair that merges segments on their way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merger {
    /// Interface index of the end that packets are given to.
    pub near: u32,
    /// Name of the other end, which they come out of.
    pub far: String,
}

impl Config {
    /// What the programs are to know of this node.
    pub(super) fn settings(&self, overlay: &Overlay) -> Result<Settings, FastPathError> {
        let (network, network_mask) = masked(overlay.network_v4);
        let (own, own_mask) = masked(overlay.own_v4);
        Ok(Settings {
            tunnel: index_of(&self.device)?,
            underlay: index_of(&self.underlay)?,
            vxlan: (overlay.wire == Wire::Vxlan).into(),
            vni: overlay.vni.get(),
            strict: (overlay.admission == Admission::Strict).into(),
            local: self.local.octets(),
            network,
            network_mask,
            own,
            own_mask,
            port: self.port.to_be_bytes(),
            mac: overlay.local_mac.0,
            lifetime: u64::try_from(self.lifetime.as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

/// Address and mask; what is not there holds no address.
fn masked(net: Option<Ipv4Net>) -> ([u8; 4], [u8; 4]) {
    match net {
        Some(net) => (net.network().octets(), net.netmask().octets()),
        None => ([255; 4], [0; 4]),
    }
}
