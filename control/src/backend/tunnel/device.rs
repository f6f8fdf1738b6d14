//! The TUN device of a tunnel: address, route and mark.

use super::error::TunnelError;
use super::spec::{DeviceNetworks, TunnelSpec};
use crate::backend::host::Host;
use crate::backend::leftovers;
use crate::host::link::{self, Existing};
use crate::host::netlink::Link;
use crate::host::route::{self, default_metric};
use tracing::warn;

/// Give the device its MTU, address and route; its interface index.
pub(super) async fn configure(
    host: &Host,
    spec: &TunnelSpec,
    networks: &DeviceNetworks,
) -> Result<u32, TunnelError> {
    let netlink = &host.netlink;
    let device = claim(host, &spec.device).await?;
    let DeviceNetworks {
        network,
        previous,
        subnet,
    } = *networks;
    let addr = subnet.network();
    let known = [network, previous.unwrap_or(network)];
    let metric = spec.metric.unwrap_or_else(|| default_metric(network));
    link::ensure_up(netlink, &device, spec.mtu).await?;
    link::ensure_address(netlink, &device, addr, &known).await?;
    route::ensure(netlink, &device, network, metric, addr).await?;
    Ok(device.index)
}

/// The device of this index, with this name again; none if it is gone or not ours.
pub(super) async fn restore_name(
    host: &Host,
    index: u32,
    name: &str,
) -> Result<Option<Link>, TunnelError> {
    let netlink = &host.netlink;
    let found = netlink.link_at(index).await?;
    let Some(renamed) = found.filter(|link| link::existing(link) == Ok(Existing::Tun)) else {
        return Ok(None);
    };
    warn!(
        code = "W0502",
        "{name} was renamed to {}: calling it {name} again", renamed.name
    );
    if netlink.rename(&renamed, name).await.is_err() {
        // Before Linux 6.2 one that is up keeps its name.
        netlink.set_link_down(&renamed).await?;
        netlink.rename(&renamed, name).await?;
    }
    Ok(netlink.link(name).await?)
}

/// Mark the device of this name as this agent's.
pub(super) async fn claim(host: &Host, name: &str) -> Result<Link, TunnelError> {
    let device = host.netlink.link(name).await?;
    let device = device.ok_or_else(|| TunnelError::DeviceGone(name.to_owned()))?;
    if let Some(mark) = &host.mark {
        leftovers::claim(&host.netlink, &device, mark).await;
    }
    Ok(device)
}
