//! Why a tunnel fails.

use crate::host::link::DeviceConflict;
use crate::host::netlink::NetlinkError;
use crate::text::shown;
use crate::wire::Vni;
use weft_dataplane::route::table::BuildError;
use weft_dataplane::sys::engine::EngineError;
use weft_dataplane::sys::tun::OpenError;
use weft_dataplane::sys::udp::SocketError;
use weft_dataplane::worker::StartError;

/// Why a tunnel cannot start or go on. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Something else is called like the device.
    #[error(transparent)]
    Conflict(#[from] DeviceConflict),
    /// Somebody replaced the device while it was in use.
    #[error(
        "{0} was replaced by a kernel VXLAN device; stop the flanneld that made it, or this agent"
    )]
    Displaced(String),
    /// flanneld's device cannot be replaced, as others would go on holding its port.
    #[error(
        "{device} cannot be taken over: the kernel VXLAN device {other} has UDP port {port}, too, which weft cannot share; give one of the two networks another Backend.Port or, if {other} is a left-over, remove it: ip link del {other}"
    )]
    PortShared {
        /// The kernel device of our name.
        device: String,
        /// One of the others.
        other: String,
        /// The port of both.
        port: u16,
    },
    /// Another agent of this host has a network of the same VNI.
    #[error(
        "{device} is in use by another agent of this host, whose network has VNI {vni}, too (alias {}): give one of the two networks another Backend.VNI{}",
        shown(.alias),
        .port.map_or(String::new(), |port| format!(" and, as UDP port {port} cannot be shared, another Backend.Port"))
    )]
    VniTaken {
        /// The device of both.
        device: String,
        /// What the other has marked it with.
        alias: String,
        /// The VNI of both.
        vni: Vni,
        /// The port, if somebody has it, too.
        port: Option<u16>,
    },
    /// What another process has handed over cannot be used.
    #[error("what was handed over is of no use here: {0}")]
    Inherited(String),
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] OpenError),
    /// The device vanished while it was set up.
    #[error("{0} was removed while it was being set up; start again")]
    DeviceGone(String),
    /// flanneld's device is no longer what it was.
    #[error(
        "the kernel VXLAN device {0} was removed or made anew, or has another MAC, since the lease was asked for; start again"
    )]
    Changed(String),
    /// The kernel refuses a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The overlay's settings make no table.
    #[error(transparent)]
    Table(#[from] BuildError),
    /// The workers cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A worker ended by itself.
    #[error("a packet worker failed: {0}")]
    Worker(String),
}

impl TunnelError {
    /// Its code, see [`crate::codes`].
    pub(in crate::backend) fn code(&self) -> &'static str {
        match self {
            TunnelError::Conflict(_) | TunnelError::Device(OpenError::OtherKind(_)) => "W0521",
            TunnelError::Displaced(_) => "W0522",
            TunnelError::PortShared { .. } => "W0523",
            TunnelError::VniTaken { .. } | TunnelError::Device(OpenError::Held(_)) => "W0524",
            TunnelError::Device(OpenError::NoDevice | OpenError::NoPermission(_)) => "W0525",
            TunnelError::DeviceGone(_) | TunnelError::Changed(_) => "W0527",
            TunnelError::Inherited(_) => "W0910",
            TunnelError::Netlink(_) => NetlinkError::CODE,
            TunnelError::Start(StartError::Socket(SocketError::PortInUse(_))) => "W0523",
            TunnelError::Start(StartError::Engine(EngineError::RingRefused(_))) => "W0528",
            TunnelError::Start(StartError::Cpus(_)) => "W0529",
            TunnelError::Start(StartError::Thread(_) | StartError::Died) => "W0530",
            TunnelError::Worker(_) => "W0530",
            TunnelError::Device(_) | TunnelError::Table(_) | TunnelError::Start(_) => "W0531",
        }
    }
}
