//! The udp backend: IPv4 packets as they are in UDP datagrams, in the format of flannel's
//! proxy.

use super::dataplane::{self, Dataplane};
use super::direct::RoutedPeers;
use super::peers::PeerKind;
use super::tunnel::{PreparedTunnel, TunnelSpec};
use super::{BackendError, Host, Prepared, PreparedCarrier, mtu};
use crate::config::{NetworkConfig, UdpOptions};
use crate::family::Family;
use crate::host::link::{self, Existing};
use crate::lease::LeaseAttrs;
use std::time::{Duration, Instant};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;

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

/// Pause between two looks whether it is free.
const RELEASE_POLL: Duration = Duration::from_millis(10);

/// Device and port.
pub(super) async fn prepare(host: Host, config: &NetworkConfig) -> Result<Prepared, BackendError> {
    let options = UdpOptions::parse(config)?;
    let (family, local) = (Family::V4, host.local(Family::V4)?);
    let (public, _) = host.underlay.public.typed();
    let public = public.ok_or_else(|| BackendError::NoAddress {
        iface: host.underlay.name.clone(),
        family,
    })?;
    let mtu = mtu::of_device(&host.underlay, family, None, UdpOptions::OVERHEAD)?;
    // Once the port is free, so is the device of an agent that had both.
    dataplane::await_port(local, options.port).await?;
    let spec = TunnelSpec {
        device: device(&host).await?,
        wire: Wire::Ip,
        vni: Vni::default(),
        gbp: false,
        local,
        port: options.port,
        mtu,
        metric: Some(METRIC),
        pod_mtu: mtu,
    };
    let dataplane = Dataplane::new(&host, 1)?;
    let carrier = PreparedCarrier {
        peers: PeerKind {
            family,
            backend: BACKEND,
            has_mac: false,
        },
        tunnel: Some(PreparedTunnel::new(spec, &host, dataplane).await?),
        direct: RoutedPeers::None,
    };
    Ok(Prepared {
        attrs: LeaseAttrs::udp(public),
        mtu,
        carriers: vec![carrier],
        host,
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
    let deadline = Instant::now() + RELEASE_GRACE;
    loop {
        let Some(found) = host.netlink.link(name).await? else {
            return Ok(true);
        };
        if link::existing(&found) != Ok(Existing::Tun) {
            return Ok(false);
        }
        if !found.carrier {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
}
