//! Why a backend fails.

use super::mtu;
use super::tunnel::TunnelError;
use crate::config::ConfigError;
use crate::family::Family;
use crate::host::netlink::NetlinkError;
use ipnet::IpNet;

/// Why a backend cannot start or go on. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The network config asks for what cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The underlay interface lacks an address.
    #[error(
        "{iface} has no usable {family} address, which the network's {family} pods need; add one, or name another interface with -iface"
    )]
    NoAddress {
        /// The underlay interface.
        iface: String,
        /// Of the address.
        family: Family,
    },
    /// The lease lacks a subnet.
    #[error("the lease has no {0} subnet although the network has {0}")]
    NoSubnet(Family),
    /// The MTU leaves no room for packets.
    #[error(transparent)]
    Mtu(#[from] mtu::MtuError),
    /// The tunnel's route would hide a network that the host is in.
    #[error(
        "Network {network} cannot go through a tunnel: this host is in {connected} with {device}, and would be cut off from it; choose another Network"
    )]
    OwnNetwork {
        /// The network of all pods.
        network: IpNet,
        /// A device of the host.
        device: String,
        /// Its network.
        connected: IpNet,
    },
    /// All names that a device could have are taken.
    #[error(
        "flannel0 and the next {} names for the device are taken by others; remove one: ip link del NAME", .0 - 1
    )]
    NoDevice(usize),
    /// What another process has handed over is not what the network config asks for.
    #[error("what was handed over is of no use here: {0}")]
    Inherited(String),
    /// The kernel refuses a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

impl BackendError {
    /// Its code, see [`crate::codes`].
    pub fn code(&self) -> &'static str {
        match self {
            BackendError::Config(_) => ConfigError::CODE,
            BackendError::NoAddress { .. } | BackendError::NoSubnet(_) => "W0411",
            BackendError::Mtu(_) => "W0412",
            BackendError::OwnNetwork { .. } => "W0410",
            BackendError::NoDevice(_) => "W0526",
            BackendError::Inherited(_) => "W0910",
            BackendError::Netlink(_) => NetlinkError::CODE,
            BackendError::Tunnel(error) => error.code(),
        }
    }

    /// Whether it is about what another process has handed over, and could do without.
    pub fn is_inherited(&self) -> bool {
        matches!(
            self,
            BackendError::Inherited(_) | BackendError::Tunnel(TunnelError::Inherited(_))
        )
    }
}
