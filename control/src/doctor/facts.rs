//! What was seen, and nothing that follows from it.

use crate::host::firewall::HostChain;
use crate::probe::Outcome;
use crate::status::{NodeStatus, PeerStatus, TunnelStatus};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the agent says, or why none does.
    pub agent: Result<Box<AgentFacts>, String>,
    /// This host.
    pub host: HostFacts,
    /// The other nodes that were asked for.
    pub peers: Vec<PeerFacts>,
    /// How many there are.
    pub peers_known: usize,
    /// All of them, asked or not.
    pub leases: Vec<PeerStatus>,
    /// Why no node could be asked.
    pub unasked: Option<String>,
}

/// A running agent.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// Its name: network and `subnet.env`.
    pub name: String,
    /// What it said at first.
    pub status: NodeStatus,
    /// What it said after the other nodes had been asked.
    pub later: NodeStatus,
    /// Its process, if that can be seen.
    pub process: Option<ProcessFacts>,
}

/// A process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its effective capabilities (`CapEff`).
    pub capabilities: u64,
    /// The seccomp mode: 0 without, 2 with a filter.
    pub seccomp: u32,
}

/// A host.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// The kernel's release.
    pub release: String,
    /// Whether that is one that corrupts trains.
    pub corrupts_udp_gso: bool,
    /// Why `/dev/net/tun` cannot be opened, if it cannot.
    pub tun: Option<String>,
    /// Values by path below `/proc/sys`; what is not there is missing.
    pub sysctls: BTreeMap<String, String>,
    /// Interfaces.
    pub links: Vec<LinkFacts>,
    /// Kernel VXLAN devices on the overlay's port, and whether they are up.
    pub vxlan: Vec<(String, bool)>,
    /// Who else has sockets on the port.
    pub sockets: Vec<String>,
    /// BPF programs of others: the device and the program.
    pub programs: Vec<(String, String)>,
    /// Whether a BPF file system is mounted at `/sys/fs/bpf`.
    pub bpffs: bool,
    /// Chains of the firewall, of IPv4.
    pub chains: Vec<HostChain>,
    /// IPsec policies.
    pub ipsec: u32,
    /// Whether the underlay's device merges what it receives.
    pub gro: Option<bool>,
    /// Seconds since 1970.
    pub now: u64,
    /// Whether the clock follows a server, where that can be told.
    pub synchronized: Option<bool>,
    /// Values in `subnet.env`; `None` if it cannot be read.
    pub subnet_env: Option<BTreeMap<String, String>>,
    /// When that was written, in seconds since 1970.
    pub subnet_env_written: Option<u64>,
    /// The container runtime's configurations, in its order.
    pub conflists: Vec<Conflist>,
    /// Whether the CNI plugin `flannel` is installed.
    pub cni_plugin: bool,
    /// UDP datagrams and TCP segments received, and those of them with a wrong checksum.
    pub received: (u64, u64),
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its name.
    pub name: String,
    /// `tun`, `bridge`, `vxlan` and so on.
    pub kind: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A file in `/etc/cni/net.d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Its path.
    pub path: String,
    /// Types of its plugins, or why it cannot be read.
    pub plugins: Result<Vec<String>, String>,
    /// The MTU that it gives pods, if it gives one.
    pub mtu: Option<u32>,
}

/// Another node, and what became of the packets to it. Lengths are those of the tunnel's MTU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// The node.
    pub peer: PeerStatus,
    /// The device that packets to its subnet leave by, if there is a route.
    pub route: Option<String>,
    /// A small packet through the tunnel.
    pub tunnel: Outcome,
    /// The same by the workers, where the fast path has taken that one; `None`: it has not.
    pub workers: Option<Outcome>,
    /// As long as the tunnel takes, not to be fragmented.
    pub tunnel_whole: Outcome,
    /// The same, to be fragmented where it has to.
    pub tunnel_long: Outcome,
    /// A small packet to its underlay address.
    pub underlay: Outcome,
    /// As long as the outer packet of `tunnel_whole`, not to be fragmented.
    pub underlay_whole: Outcome,
    /// The same, to be fragmented where it has to.
    pub underlay_long: Outcome,
    /// Through the tunnel, with this node's underlay address as source, so that the answer comes
    /// over the underlay: it tells whether datagrams get there.
    pub there: Outcome,
    /// Over the underlay, with this node's address in the tunnel as source, so that the answer
    /// comes through the tunnel: it tells whether datagrams get here.
    pub back: Outcome,
    /// A datagram to its port that means nothing.
    pub port: Outcome,
}

impl PeerFacts {
    /// Nothing was heard of this node.
    pub fn silent(peer: PeerStatus) -> PeerFacts {
        PeerFacts {
            peer,
            route: None,
            tunnel: Outcome::Silent,
            workers: None,
            tunnel_whole: Outcome::Silent,
            tunnel_long: Outcome::Silent,
            underlay: Outcome::Silent,
            underlay_whole: Outcome::Silent,
            underlay_long: Outcome::Silent,
            there: Outcome::Silent,
            back: Outcome::Silent,
            port: Outcome::Silent,
        }
    }
}

/// The port of flannel's VXLAN, for hosts without an agent that says another.
pub(super) const DEFAULT_PORT: u16 = 8472;

impl Facts {
    /// What the agent says of its node, if there is one.
    pub(super) fn status(&self) -> Option<&NodeStatus> {
        self.agent.as_ref().ok().map(|agent| &agent.status)
    }

    /// The tunnels of that.
    pub(super) fn tunnels(&self) -> &[TunnelStatus] {
        self.status().map_or(&[], |status| &status.tunnels)
    }

    /// The overlay's UDP port.
    pub(super) fn port(&self) -> u16 {
        let first = self.tunnels().first();
        first.map_or(DEFAULT_PORT, |tunnel| tunnel.port)
    }

    /// Whether programs carry packets of any tunnel, which then pass the host's firewall by.
    pub(super) fn has_fast_path(&self) -> bool {
        let mut tunnels = self.tunnels().iter();
        tunnels.any(|tunnel| tunnel.fast_path.state == "on")
    }

    /// The interface of this name.
    pub(super) fn link(&self, name: &str) -> Option<&LinkFacts> {
        self.host.links.iter().find(|link| link.name == name)
    }

    /// A value below `/proc/sys`.
    pub(super) fn sysctl(&self, path: &str) -> Option<&str> {
        self.host.sysctls.get(path).map(String::as_str)
    }
}
