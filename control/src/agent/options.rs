//! What an agent is told when it starts.

use crate::backend::BackendOptions;
use crate::host::firewall::FirewallOptions;
use crate::host::iface::InterfaceOptions;
use crate::http::HealthzOptions;
use crate::remembered::RememberedOptions;
use crate::subnets::etcd::{EtcdOptions, normalised};
use crate::subnets::kube::KubeOptions;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing::Level;

/// Settings of the agent: those of its parts, and its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentOptions {
    /// Where leases are kept.
    pub etcd: EtcdOptions,
    /// Leases are in the Kubernetes API, in place of etcd.
    pub kube_subnets: bool,
    /// How to reach that, and what this node is there.
    pub kube: KubeOptions,
    /// A file with the network config and all leases, in place of etcd.
    pub subnets_file: Option<PathBuf>,
    /// Use a lease that has ended by this host's clock while its store does not answer.
    pub use_ended_lease: bool,
    /// How long before its end a lease is renewed.
    pub renew_margin: Duration,
    /// Which interface carries the packets, and what other nodes are told.
    pub interface: InterfaceOptions,
    /// How packets are carried.
    pub backend: BackendOptions,
    /// Rules that are kept in the host's firewall.
    pub firewall: FirewallOptions,
    /// Keep a blackhole route for the node's own subnet.
    pub blackhole_route: bool,
    /// The file that container runtimes read the subnet from.
    pub subnet_file: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered.
    pub healthz: HealthzOptions,
    /// How many of the peers that lose frames are named to who asks what the node is doing.
    pub metrics_peers: usize,
    /// Where the agent's local socket is made; none: it has none.
    pub socket_dir: Option<PathBuf>,
    /// Stay after another process has taken over, until that ends.
    pub linger: bool,
    /// Log verbosity: 0 is info, from 1 debug.
    pub verbosity: u8,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
    /// Take away what an agent with these settings has left, instead of running one.
    pub remove: bool,
    /// Take away what the next start would find its subnet and MAC by, too.
    pub remove_state: bool,
    /// Take away what the cluster knows of this node's network, too.
    pub drain: bool,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<LogFormat, &'static str> {
        match name {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json"),
        }
    }
}

impl AgentOptions {
    /// How what the store says is remembered.
    pub(super) fn remembered(&self) -> RememberedOptions {
        RememberedOptions {
            state_dir: self.backend.state_dir.clone(),
            prefix: match self.kube_subnets {
                true => self.kube.network_path(),
                false => normalised(&self.etcd.prefix),
            },
            use_ended: self.use_ended_lease,
        }
    }

    /// The log level that `-v` asks for.
    pub fn log_level(&self) -> Level {
        match self.verbosity {
            0 => Level::INFO,
            _ => Level::DEBUG,
        }
    }
}
