//! Taking over from the kernel VXLAN device of a flanneld: nothing of it is lost before the
//! workers run, and if they cannot, it comes back.

use super::error::TunnelError;
use super::port;
use super::spec::TunnelSpec;
use crate::backend::host::Host;
use crate::host::netlink::{Aside, Link, NetlinkError, Port};
use std::net::IpAddr;
use tracing::{info, warn};

/// What a device that is left aside means, and what to do.
const IN_THE_WAY: &str = "flanneld cannot make its device beside one that was set aside; if there is one, remove it before flanneld starts: ip link del flannel-old<N>";

/// See to all that can be known to keep a tunnel from the place of `kernel` while that is in
/// use.
pub(super) async fn check(
    host: &Host,
    kernel: &Link,
    spec: &TunnelSpec,
) -> Result<(), TunnelError> {
    let holders = host.netlink.vxlan_on(vxlan_port(spec)).await?;
    if let Some(other) = holders.iter().find(|link| link.index != kernel.index) {
        return Err(TunnelError::PortShared {
            device: kernel.name.clone(),
            other: other.name.clone(),
            port: spec.port,
        });
    }
    match holders.is_empty() {
        true => port::await_free(spec.local, spec.port).await,
        false => Ok(()),
    }
}

/// Remove a kernel device that a takeover left aside when it was broken off: beside it the
/// kernel makes no other with its VNI and port, so that flanneld could not come back. A failure
/// costs this run nothing.
pub(super) async fn clear(host: &Host, spec: &TunnelSpec) {
    if let Err(error) = remove_left_aside(host, spec).await {
        warn!(code = "W0509", "{error}; {IN_THE_WAY}");
    }
}

async fn remove_left_aside(host: &Host, spec: &TunnelSpec) -> Result<(), NetlinkError> {
    for link in host.netlink.left_aside(vxlan_port(spec), spec.vni).await? {
        host.netlink.delete_link(&link).await?;
        info!(
            "removed {}, left by a takeover that was broken off",
            link.name
        );
    }
    Ok(())
}

fn vxlan_port(spec: &TunnelSpec) -> Port {
    Port {
        number: spec.port,
        v6: spec.local.is_ipv6(),
    }
}

/// A takeover that is not over: the kernel device is set aside.
pub(super) struct Takeover {
    kernel: Aside,
    device: String,
    local: IpAddr,
    port: u16,
}

impl Takeover {
    /// Have `kernel` make room. From here on the node is cut off, until workers run.
    pub(super) async fn begin(
        host: &Host,
        kernel: &Link,
        spec: &TunnelSpec,
    ) -> Result<Takeover, TunnelError> {
        info!(
            "taking over from the kernel VXLAN device {}, which is removed",
            spec.device
        );
        Ok(Takeover {
            kernel: host.netlink.set_aside(kernel).await?,
            device: spec.device.clone(),
            local: spec.local,
            port: spec.port,
        })
    }

    /// Remove the kernel device: the workers run.
    pub(super) async fn complete(self, host: &Host) {
        if let Err(error) = host.netlink.delete_aside(&self.kernel).await {
            warn!(code = "W0509", "{error}; {IN_THE_WAY}");
        }
    }

    /// Put the kernel device back: there are no workers.
    pub(super) async fn undo(self, host: &Host) {
        match self.restore(host).await {
            Ok(()) => info!("{} is the kernel VXLAN device that it was", self.device),
            Err(error) => warn!(
                code = "W0509",
                "the kernel VXLAN device {} could not be put back in full: {error}; a start of flanneld mends it, but {IN_THE_WAY}",
                self.device
            ),
        }
    }

    async fn restore(&self, host: &Host) -> Result<(), TunnelError> {
        if let Some(tun) = host.netlink.link(&self.device).await? {
            host.netlink.delete_link(&tun).await?;
        }
        // The workers' sockets may be some time in closing. If they are somebody else's, the
        // device says so.
        let _ = port::await_free(self.local, self.port).await;
        Ok(host.netlink.put_back(&self.kernel).await?)
    }
}
