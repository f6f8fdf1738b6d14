//! Why the agent ends by itself.

use crate::backend::BackendError;
use crate::hand_over::ChannelError;
use crate::host::firewall::FirewallError;
use crate::host::iface::IfaceError;
use crate::host::netlink::NetlinkError;
use crate::http::HealthError;
use crate::lease::LeaseEnd;
use crate::subnets::SubnetError;
use std::io;

/// Why the agent cannot start or go on. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The runtime or the signal handlers.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The subnet manager refuses.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// `/healthz` cannot be served.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// No underlay interface.
    #[error(transparent)]
    Iface(#[from] IfaceError),
    /// The kernel cannot be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Nothing can be masqueraded on this host.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Packets cannot be carried.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The agent that runs went on before it heard that this one does.
    #[error("{name} goes on, and this one ends: {reason}")]
    NotHandedOver {
        /// The other.
        name: String,
        /// Why it was not told.
        reason: ChannelError,
    },
    /// The subnet manager no longer reports leases.
    #[error("the watch on the other nodes' leases ended by itself; start again")]
    WatchEnded,
    /// The lease is over.
    #[error("{end}: {}", after(.end, .subnets))]
    LeaseOver {
        /// How it ended.
        end: LeaseEnd,
        /// The subnets it was for.
        subnets: String,
    },
}

impl AgentError {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            AgentError::Process(_) => "W0103",
            AgentError::Subnet(error) => error.code(),
            AgentError::Health(_) => HealthError::CODE,
            AgentError::Iface(error) => error.code(),
            AgentError::Netlink(_) => NetlinkError::CODE,
            AgentError::Firewall(_) => FirewallError::CODE,
            AgentError::Backend(error) => error.code(),
            AgentError::NotHandedOver { .. } => "W0909",
            AgentError::WatchEnded => "W0219",
            AgentError::LeaseOver { end, .. } => end.code(),
        }
    }
}

/// What the end of a lease means, and what to do.
fn after(end: &LeaseEnd, subnets: &str) -> String {
    match end {
        LeaseEnd::Changed { .. } | LeaseEnd::Outdated | LeaseEnd::Reassigned => {
            "start again to use it".to_owned()
        }
        LeaseEnd::Revoked | LeaseEnd::Taken { .. } | LeaseEnd::Overlapped { .. } => {
            format!("{subnets} is no longer this node's; start again to take a new lease")
        }
    }
}
