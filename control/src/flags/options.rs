//! The settings that flags and environment make up, grouped by what acts on them.

use super::{EngineKind, TunnelGso};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

/// Settings of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// Where leases are kept.
    pub etcd: EtcdOptions,
    /// Which interface carries the packets, and what other nodes are told.
    pub interface: InterfaceOptions,
    /// Rules that are kept in the host's firewall.
    pub firewall: FirewallOptions,
    /// Keep a blackhole route for the node's own subnet.
    pub blackhole_route: bool,
    /// Where `/healthz` and `/readyz` are answered.
    pub healthz: HealthzOptions,
    /// A file with the network config and all leases, in place of etcd.
    pub subnets_file: Option<PathBuf>,
    /// The file that container runtimes read the subnet from.
    pub subnet_file: PathBuf,
    /// How long before its end a lease is renewed.
    pub renew_margin: Duration,
    /// Log verbosity: 0 is info, from 1 debug.
    pub verbosity: u8,
    /// Where the MAC address and other state is kept across restarts.
    pub state_dir: PathBuf,
    /// TUN queues and workers; `None`: one for every two cores.
    pub queues: Option<usize>,
    /// What moves packets between TUN device and sockets.
    pub engine: EngineKind,
    /// How received datagrams are checked.
    pub admit: Admit,
    /// Sockets to send from; `None`: chosen by the dataplane.
    pub tx_sockets: Option<usize>,
    /// Set DF on outer packets, and learn the MTU of the path to each peer.
    pub outer_df: bool,
    /// Let the TUN device hand over TCP super-packets.
    pub tso: bool,
    /// Let the TUN device hand over UDP super-packets.
    pub uso: bool,
    /// Send trains with UDP segmentation offload; `None`: where the kernel does not corrupt them.
    pub udp_gso: Option<bool>,
    /// Receive trains with UDP receive offload.
    pub udp_gro: bool,
    /// How long idle workers look for packets before they sleep.
    pub spin: Duration,
    /// When to send TCP super-packets whole.
    pub tunnel_gso: TunnelGso,
    /// Take away what an agent with these settings has left, instead of running one.
    pub remove: bool,
    /// Take away what the next start would find its subnet and MAC by, too.
    pub remove_state: bool,
}

impl AgentOptions {
    /// The log level that `-v` asks for.
    pub fn log_level(&self) -> Level {
        match self.verbosity {
            0 => Level::INFO,
            _ => Level::DEBUG,
        }
    }
}

/// How to reach etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdOptions {
    /// Servers, as given: `http://host:port`, `https://host:port`, `unix://path` or `host:port`.
    pub endpoints: Vec<String>,
    /// Path that `config` and `subnets` are under.
    pub prefix: String,
    /// The client's certificate, PEM. Without `key_file` it does not count.
    pub cert_file: Option<PathBuf>,
    /// The client's key, PEM.
    pub key_file: Option<PathBuf>,
    /// Certificates that the servers' ones are checked against, PEM.
    pub ca_file: Option<PathBuf>,
    /// User name; empty: none.
    pub username: String,
    /// Password; empty: none.
    pub password: Secret,
}

/// Which interface carries the encapsulated packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceOptions {
    /// Names or addresses, the first that matches wins.
    pub iface: Vec<String>,
    /// Regular expressions, tried after all of `iface`. Each of them compiles.
    pub iface_regex: Vec<String>,
    /// Tried last: the interface and source address that this address is reached by.
    pub can_reach: Option<IpAddr>,
    /// IPv4 address that other nodes send to; `None`: the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// IPv6 address that other nodes send to; `None`: the interface's.
    pub public_ipv6: Option<Ipv6Addr>,
}

/// Where health checks are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// An IP address or the name of a host.
    pub host: String,
    /// 0: nowhere.
    pub port: u16,
}

impl HealthzOptions {
    /// `host:port` or `[address]:port`, if they are answered at all.
    pub fn address(&self) -> Option<String> {
        let HealthzOptions { host, port } = self;
        match (port, host.contains(':')) {
            (0, _) => None,
            (_, true) => Some(format!("[{host}]:{port}")),
            (_, false) => Some(format!("{host}:{port}")),
        }
    }
}

/// What is kept in the host's firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallOptions {
    /// Masquerade what pods send out of the network.
    pub ip_masq: bool,
    /// Let masquerading choose ports fully at random.
    pub random_fully: bool,
    /// Accept forwarded packets from and to the network.
    pub forward_rules: bool,
    /// Pause between two looks whether the rules (and the blackhole route) are there.
    pub resync: Duration,
}

/// How received datagrams are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// Only from live peers, and only for sources inside their own subnets.
    #[default]
    Strict,
    /// From anybody with the right VNI and MAC address, as kernel VXLAN does.
    Loose,
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keep `text` from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, to be handed to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_empty() {
            true => "none",
            false => "***",
        })
    }
}
