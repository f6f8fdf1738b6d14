//! The udp backend: IPv4 packets as they are in UDP datagrams, in the format of flannel's
//! proxy.

use super::carrier::{Carriers, PreparedCarrier, local_address};
use super::direct::RoutedPeers;
use super::error::BackendError;
use super::host::Host;
use super::mtu;
use super::peers::PeerKind;
use super::tunnel::port;
use super::tunnel::{
    BackendOptions, Inheritance, PreparedTunnel, SharedDataplane, TunnelSpec, Wire,
};
use crate::config::{NetworkConfig, UdpOptions};
use crate::family::Family;
use crate::host::link::{self, Existing};
use crate::host::netlink::{Link, NetlinkError};
use crate::lease::LeaseAttrs;
use crate::release;
use crate::wire::Vni;
use std::time::Duration;

/// The `BackendType` of udp leases: none. Those of alloc nodes look the same, and are peers as
/// with flannel.
const BACKEND: &str = "";

/// Metric of the route to the network. The device stays when weft ends, and flanneld, which
/// does not know it, makes another one beside it. Its route has no metric, so that it is the
/// better one; were they alike, flanneld would take ours for its own and lose all packets.
const METRIC: u32 = 1;

/// Device names that are tried, from `flannel0` on.
const DEVICES: usize = 16;

/// How long the device of an agent that has ended may stay taken: the kernel tears its
/// io_uring instances down in the background.
const RELEASE_GRACE: Duration = Duration::from_millis(500);

/// Device and port.
pub(super) async fn prepare(
    host: &Host,
    options: &BackendOptions,
    config: &NetworkConfig,
    inheritance: &mut Option<Inheritance>,
) -> Result<Carriers, BackendError> {
    let udp = UdpOptions::parse(config)?;
    let (family, local) = (Family::V4, local_address(host, Family::V4)?);
    let (public, _) = host.underlay.public.typed();
    let public = public.ok_or_else(|| BackendError::NoAddress {
        iface: host.underlay.name.clone(),
        family,
    })?;
    let mtu = mtu::of_device(&host.underlay, family, None, UdpOptions::OVERHEAD)?;
    let inherited = inheritance.as_ref().and_then(Inheritance::device);
    let device = match inherited.map(str::to_owned) {
        Some(device) => device,
        None => {
            // Once the port is free, so is the device of an agent that had both.
            port::await_free(local, udp.port).await?;
            device(host).await?
        }
    };
    let spec = TunnelSpec {
        device,
        wire: Wire::Ip,
        vni: Vni::default(),
        gbp: false,
        local,
        port: udp.port,
        mtu,
        metric: Some(METRIC),
        pod_mtu: mtu,
    };
    let dataplane = SharedDataplane::new(host, &options.workers, 1)?;
    let shared = (dataplane, inheritance.as_mut());
    let carrier = PreparedCarrier {
        peers: PeerKind {
            family,
            backend: BACKEND,
            has_mac: false,
        },
        tunnel: Some(PreparedTunnel::new(spec, host, options, shared).await?),
        direct: RoutedPeers::None,
    };
    Ok(Carriers {
        attrs: LeaseAttrs::udp(public),
        mtu,
        list: vec![carrier],
    })
}

/// The first of `flannel0`, `flannel1` and so on that is free or was left by an earlier run.
async fn device(host: &Host) -> Result<String, BackendError> {
    for number in 0..DEVICES {
        let name = format!("flannel{number}");
        if is_free(host, &name).await? {
            return Ok(name);
        }
    }
    Err(BackendError::NoDevice(DEVICES))
}

/// Whether there is no such device, or a TUN that nobody holds.
async fn is_free(host: &Host, name: &str) -> Result<bool, BackendError> {
    let is_tun = |link: &Link| link::existing(link) == Ok(Existing::Tun);
    let look = async || host.netlink.link(name).await;
    let is_over = |found: &Result<Option<Link>, NetlinkError>| match found {
        Ok(Some(link)) => !(is_tun(link) && link.carrier),
        Ok(None) | Err(_) => true,
    };
    let found = release::wait(RELEASE_GRACE, look, is_over).await?;
    Ok(found.is_none_or(|link| is_tun(&link) && !link.carrier))
}
