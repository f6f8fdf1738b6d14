//! The TUN device of a tunnel: address, route and mark.

use super::spec::{Place, TunnelSpec};
use crate::backend::{BackendError, Host, leftovers};
use crate::host::link;
use crate::host::netlink::Link;
use crate::host::route::{self, default_metric};

/// Give the device its MTU, address and route; its interface index.
pub(super) async fn configure(
    host: &Host,
    spec: &TunnelSpec,
    place: &Place,
) -> Result<u32, BackendError> {
    let netlink = &host.netlink;
    let device = claim(host, &spec.device).await?;
    let addr = place.subnet.network();
    let network = place.networks[0];
    let metric = spec.metric.unwrap_or_else(|| default_metric(network));
    link::ensure_up(netlink, &device, spec.mtu).await?;
    link::ensure_address(netlink, &device, addr, &place.networks).await?;
    route::ensure(netlink, &device, network, metric, addr).await?;
    Ok(device.index)
}

/// Mark the device of this name as this agent's.
pub(super) async fn claim(host: &Host, name: &str) -> Result<Link, BackendError> {
    let device = host.netlink.link(name).await?;
    let device = device.ok_or_else(|| BackendError::DeviceGone(name.to_owned()))?;
    if let Some(mark) = &host.mark {
        leftovers::claim(&host.netlink, &device, mark).await;
    }
    Ok(device)
}
