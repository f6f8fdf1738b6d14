//! The lab: nodes and pods in network namespaces, joined by one underlay.
//!
//! [`Lab`] makes nodes; [`Etcd`], [`Agent`] and [`Vtep`] (kernel VXLAN) run on them;
//! a [`Switch`] chooses which [`Path`] pod traffic takes, and an [`Arena`] lets
//! [`Contestant`]s take turns. Everything a lab makes carries
//! its id in its name, so several can run at once and each removes only its own: on drop,
//! on failure, and on SIGINT, SIGTERM or SIGHUP (see [`guard`]).

pub mod agent;
pub mod arena;
pub mod cluster;
pub mod command;
pub mod contestant;
pub mod etcd;
pub mod flannel;
pub mod guard;
pub mod ip;
pub mod kernel;
#[cfg(feature = "kube")]
pub mod kube;
pub mod log;
pub mod memory;
pub mod netns;
pub mod ovs;
pub mod path;
pub mod peers_file;
pub mod process;
pub mod proxy;
pub mod regime;
pub mod skip;
pub mod slow;
pub mod subnet_env;
pub mod tools;
pub mod topology;
pub mod tuntap;
pub mod wait;

pub use agent::{Agent, AgentOptions};
pub use arena::Arena;
pub use cluster::{Cluster, ClusterOptions};
pub use command::{run, script};
pub use contestant::{CONTESTANTS, Contestant};
pub use etcd::Etcd;
pub use ip::ip;
pub use kernel::{Vtep, VxlanSpec};
pub use memory::memory_dir;
pub use netns::{Namespace, isolated};
pub use path::{Path, Switch};
pub use peers_file::PeersFile;
pub use process::Process;
pub use regime::Regime;
pub use skip::{skip, skips_test, skips_test_without, skips_test_without_namespaces, unavailable};
pub use subnet_env::SubnetEnv;
pub use topology::{Lab, LabOptions, Node, Pod};
pub use wait::{uninterrupted, wait_until};

/// Why something in the lab failed: one line that names the command or file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Result of lab operations.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that reads as `message`, its line breaks made spaces.
    pub fn new(message: impl Into<String>) -> Error {
        let message: String = message.into();
        let lines: Vec<_> = message.lines().map(str::trim).collect();
        Error(lines.join(" ").trim().to_owned())
    }

    /// `what` failed for the reason `source`.
    pub fn because(what: impl std::fmt::Display, source: impl std::fmt::Display) -> Error {
        Error::new(format!("{what}: {source}"))
    }
}
