//! What a node is doing, as plain data: `/metrics` and `weft status` are two views of it.
//!
//! Times are in seconds and count back from when it was made, sizes are in bytes. Counters begin
//! at 0 with the agent, those of a tunnel also when its device is made anew.

mod text;

use crate::family::Family;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// weft's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// How long ago that was.
    pub uptime_seconds: u64,
    /// Whether the node can be used, as `/readyz` says.
    pub ready: bool,
    /// The subnets that are the node's.
    pub lease: LeaseStatus,
    /// Where packets to other nodes leave.
    pub underlay: UnderlayStatus,
    /// The backend's type, as leases have it.
    pub backend: String,
    /// The largest packet that pods may send.
    pub mtu: u32,
    /// What the subnets of all nodes lie in, IPv4 first; empty if no packet is the agent's concern.
    #[serde(default)]
    pub networks: Vec<IpNet>,
    /// Other nodes that packets can be sent to.
    pub peers: usize,
    /// Where leases are kept.
    pub store: StoreStatus,
    /// How often a process went on where another one had stopped.
    #[serde(default)]
    pub hand_overs: HandOverStatus,
    /// What carries packets, one for each address family, if it is not the kernel alone.
    pub tunnels: Vec<TunnelStatus>,
}

/// What was counted from the first process on that did not go on where another had stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HandOverStatus {
    /// Times that a process took over from one that ran.
    pub from_agents: u64,
    /// Times that it went on with what the service manager had kept.
    pub from_store: u64,
    /// Times that it came to nothing.
    pub refused: u64,
    /// How long packets waited the last time; `None`: there was none, or it is not known, as after a
    /// crash.
    pub waited_seconds: Option<f64>,
}

/// The node's lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The subnets, IPv4 first.
    pub subnets: Vec<IpNet>,
    /// The addresses that other nodes send to.
    pub public: Vec<IpAddr>,
    /// Until it ends, unless it is renewed; `None`: it is a reservation, or of a file.
    pub seconds_left: Option<u64>,
}

/// The interface that carries the outer packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnderlayStatus {
    /// Its name.
    pub name: String,
    /// The addresses that packets leave from.
    pub addresses: Vec<IpAddr>,
    /// Whether the host has all of them.
    pub there: bool,
}

/// Another node, in one address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its pods' subnet.
    pub subnet: IpNet,
    /// Its underlay address.
    pub public: IpAddr,
    /// The TUN device that leads to it, unless the kernel carries its packets by itself.
    pub device: Option<String>,
}

/// Where leases are kept, and what is known from there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// How old what the node goes by is, as long as the store has not confirmed it.
    pub remembered_seconds: Option<u64>,
    /// How the store answers; `None` of a file.
    pub health: Option<StoreHealth>,
}

impl StoreStatus {
    /// What people call the store.
    pub fn called(&self) -> &str {
        match self.name.as_str() {
            "" => "the store",
            name => name,
        }
    }
}

/// How a store answers. A node without news asks it for hours for nothing: it holds watches open,
/// and a store that goes away is asked as soon as these break.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreHealth {
    /// Whether the last request was answered.
    pub reachable: bool,
    /// How long ago a request was last answered.
    pub answered_seconds_ago: Option<f64>,
    /// How long the last answers took, the newest at the end.
    pub latest_seconds: Vec<f64>,
    /// Requests so far.
    pub requests: u64,
    /// Those of them that no server has answered.
    pub failures: u64,
    /// How long all answers together took.
    pub answer_seconds: f64,
    /// Upper bounds in seconds, and how many answers took so long and longer than the bound
    /// before; slower ones are in none.
    pub answers_within: Vec<(f64, u64)>,
}

/// A tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// The TUN device.
    pub device: String,
    /// The form of frames: `vxlan`, or `ip` without anything before the packet.
    pub wire: String,
    /// VXLAN network identifier.
    pub vni: Option<u32>,
    /// UDP port of all nodes.
    pub port: u16,
    /// The address that frames leave from, if there are any.
    pub local: Option<IpAddr>,
    /// MTU of the device.
    pub mtu: u32,
    /// Times that the device was made anew, as somebody had removed it.
    pub remakes: u64,
    /// What eBPF programs carry.
    pub fast_path: FastPathStatus,
    /// What packets are sent by.
    pub table: TableStatus,
    /// What the peers with the most traffic and this node have sent each other, where that is counted.
    #[serde(default)]
    pub peer_traffic: Vec<PeerTrafficStatus>,
    /// What workers do; `None` while the device is made anew.
    pub workers: Option<WorkersStatus>,
}

impl NodeStatus {
    /// The node's own address in the tunnel of this family, by which others reach it.
    pub fn own_end(&self, family: Family) -> Option<IpAddr> {
        let mut ends = self.lease.subnets.iter().map(|subnet| subnet.network());
        ends.find(|end| Family::of(*end) == family)
    }

    /// The underlay address that packets of this family leave from.
    pub fn local(&self, family: Family) -> Option<IpAddr> {
        let mut locals = self.underlay.addresses.iter().copied();
        locals.find(|local| Family::of(*local) == family)
    }

    /// The tunnel that leads to another node, if one does.
    pub fn tunnel_to(&self, peer: &PeerStatus) -> Option<&TunnelStatus> {
        let device = peer.device.as_ref()?;
        self.tunnels.iter().find(|tunnel| tunnel.device == *device)
    }

    /// The longest packet that the way to another node is to take.
    pub fn mtu_to(&self, peer: &PeerStatus) -> usize {
        self.tunnel_to(peer).map_or(self.mtu, |tunnel| tunnel.mtu) as usize
    }
}

impl TunnelStatus {
    /// Whether the fast path takes echo requests to nodes of this family, and leaves other ICMP to the
    /// workers (`dataplane/bpf/choice.h`). With flannel's udp the workers send all there is.
    pub fn parts_icmp(&self, family: Family) -> bool {
        self.takes_echoes(family) && self.fast_path.mode != "on"
    }

    /// Whether the fast path takes echo requests to nodes of this family.
    pub fn takes_echoes(&self, family: Family) -> bool {
        self.fast_path.state == "on" && self.wire == "vxlan" && family == Family::V4
    }

    /// Bytes in front of each packet on the underlay, outer IP header included.
    pub fn overhead(&self) -> u32 {
        let v6 = self.local.is_some_and(|local| local.is_ipv6());
        match (self.wire.as_str(), v6) {
            ("vxlan", false) => 50,
            ("vxlan", true) => 70,
            (_, false) => 28,
            (_, true) => 48,
        }
    }
}

/// The fast path of a tunnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FastPathStatus {
    /// What was asked for: `auto`, `on` or `off`.
    pub mode: String,
    /// `on`, `refused` or `off`.
    pub state: String,
    /// How programs are attached, if there are any.
    pub hook: Option<String>,
    /// What keeps it from running, or from going on without the agent.
    pub reason: Option<String>,
}

/// The table of peers that a tunnel sends by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Peers in it.
    pub peers: usize,
    /// How long ago it was made.
    pub age_seconds: f64,
    /// How long it took to make it and to hand it to the workers.
    pub publish_seconds: f64,
    /// Tables so far.
    pub publications: u64,
}

/// The workers of a tunnel, and of the counters the fast path's as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkersStatus {
    /// `ring` or `poll`.
    pub engine: String,
    /// The cores that workers are pinned to, if they are.
    pub cpus: Option<String>,
    /// What the kernel grants: `off`, `on`, `limited` or `refused`, by name.
    pub capabilities: BTreeMap<String, String>,
    /// Whether super-packets leave whole.
    pub tunnel_gso: TunnelGsoStatus,
    /// All counters, by name.
    pub counters: BTreeMap<String, u64>,
    /// Packets that went no further, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Frames that could not leave, of all peers.
    pub lost_frames: u64,
    /// The peers that lost most of them.
    pub lost_to: Vec<PeerLoss>,
    /// What waits for each worker that receives.
    pub queues: Vec<QueueStatus>,
}

/// Tunnel GSO.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TunnelGsoStatus {
    /// What is known of it as a whole.
    pub state: String,
    /// Peers that super-packets get out to.
    pub open: usize,
    /// Peers that they do not get out to.
    pub blocked: usize,
}

/// Frames that could not leave for one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLoss {
    /// Its underlay address.
    pub peer: IpAddr,
    /// How many.
    pub frames: u64,
}

/// What a peer and this node have sent each other over the underlay, in whatever way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTrafficStatus {
    /// The peer's underlay address.
    pub peer: IpAddr,
    /// Packets sent to it.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that came from it.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// What waits for a worker that receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Datagrams in its sockets, with what the kernel adds to each.
    pub waiting_bytes: u64,
    /// What may wait there.
    pub room_bytes: u64,
}
