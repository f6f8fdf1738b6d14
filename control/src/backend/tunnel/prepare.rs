//! A tunnel before the lease.

use super::error::TunnelError;
use super::fast_path::FastPathOptions;
use super::inheritance::Inheritance;
use super::options::{Admit, BackendOptions};
use super::overlay::overlay;
use super::spec::{DeviceNetworks, TunnelSpec};
use super::takeover::{self, Takeover};
use super::workers::{self, SharedDataplane};
use super::{Tunnel, device, port};
use crate::backend::host::Host;
use crate::backend::leftovers;
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::host::link::{self, Existing};
use crate::host::mac_store::{self, VtepMac};
use crate::host::netlink::Link;
use crate::lease::{Lease, VxlanData};
use crate::wire::MacAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weft_dataplane::sys::tun;
use weft_dataplane::wire::frame::Wire;

/// A tunnel that needs only a lease.
pub(crate) struct PreparedTunnel {
    spec: TunnelSpec,
    admit: Admit,
    state_dir: PathBuf,
    mac: VtepMac,
    device: Device,
    dataplane: Arc<SharedDataplane>,
    fast_path: FastPathOptions,
    peer_traffic: bool,
}

enum Device {
    Ours(workers::OpenDevice),
    /// flanneld's, which carries traffic up to the last moment.
    Kernel(Link),
}

impl PreparedTunnel {
    /// See to device, port and MAC. A kernel VXLAN device of this name gives its MAC, by which
    /// peers know the node, and stays until the tunnel starts. Where there is an `inheritance`,
    /// device and port are in it.
    pub(crate) async fn new(
        spec: TunnelSpec,
        host: &Host,
        options: &BackendOptions,
        (dataplane, inheritance): (Arc<SharedDataplane>, Option<&mut Inheritance>),
    ) -> Result<PreparedTunnel, TunnelError> {
        let state_dir = &options.state_dir;
        port::check_local(spec.local, host)?;
        let (mac, device) = match inheritance {
            Some(inheritance) => {
                let holdings = inheritance.take(&spec).map_err(TunnelError::Inherited)?;
                let fits = dataplane.check(&holdings, host, &spec);
                fits.map_err(|error| TunnelError::Inherited(error.to_string()))?;
                let device = workers::OpenDevice::Inherited(Box::new(holdings));
                (own_mac(&spec, state_dir), Device::Ours(device))
            }
            None => find(&spec, host, state_dir, &dataplane).await?,
        };
        Ok(PreparedTunnel {
            spec,
            admit: options.admit,
            state_dir: state_dir.clone(),
            mac,
            device,
            dataplane,
            fast_path: options.fast_path.clone(),
            peer_traffic: options.peer_traffic,
        })
    }

    /// The VtepMAC of this node; zero without VXLAN.
    pub(crate) fn mac(&self) -> MacAddr {
        self.mac.mac
    }

    /// VNI and VtepMAC, for the lease; none without VXLAN.
    pub(crate) fn vxlan_data(&self) -> Option<VxlanData> {
        (self.spec.wire == Wire::Vxlan).then_some(VxlanData {
            vni: self.spec.vni,
            vtep_mac: self.mac.mac,
        })
    }

    /// The device's name.
    pub(crate) fn device(&self) -> &str {
        &self.spec.device
    }

    /// The MAC and whether it is kept.
    pub(crate) fn kept_mac(&self) -> &VtepMac {
        &self.mac
    }

    /// Have the MAC that peers know this node by, in place of one that could not be kept.
    pub(crate) fn take_mac(&mut self, known: MacAddr) {
        self.mac.take(known);
    }

    /// Have a new MAC; the device's name.
    pub(crate) fn renew_mac(&mut self) -> String {
        let device = &self.spec.device;
        self.mac = mac_store::renew(&self.state_dir, device);
        device.clone()
    }

    /// The device beside it through which encapsulated super-packets will be forwarded, if any.
    pub(crate) fn tap(&self) -> Option<String> {
        self.dataplane.tap_name(&self.spec)
    }

    /// Give the device its address and route, and start the workers; no peer is known yet.
    pub(crate) async fn start(
        self,
        host: &Host,
        (config, lease): (&NetworkConfig, &Lease),
        family: Family,
        networks: DeviceNetworks,
    ) -> Result<Tunnel, TunnelError> {
        let spec = self.spec;
        // A subnets file may state another MAC, and then peers send to that.
        let stated = lease.attrs.vxlan_data(family);
        let mac = stated.map_or(self.mac.mac, |data| data.vtep_mac);
        let overlay = overlay(&spec, mac, config, lease, self.admit);
        let (takeover, opened) = match self.device {
            Device::Ours(device) => (None, Ok(device)),
            Device::Kernel(kernel) => {
                let kernel = as_it_is_now(host, &kernel).await?;
                let takeover = Takeover::begin(host, &kernel, &spec).await?;
                let opened = async {
                    port::await_free(spec.local, spec.port).await?;
                    let tun = self.dataplane.open_device(&spec.device).await?;
                    Ok(workers::OpenDevice::New(tun))
                };
                (Some(takeover), opened.await)
            }
        };
        let started = match opened {
            Ok(device) => {
                let shared = (self.dataplane, &self.fast_path, self.peer_traffic);
                Tunnel::start(shared, device, host, spec, self.mac, overlay, networks).await
            }
            Err(error) => Err(error),
        };
        match (started, takeover) {
            (Ok(tunnel), takeover) => Ok(Tunnel { takeover, ..tunnel }),
            (Err(error), takeover) => {
                if let Some(takeover) = takeover {
                    takeover.undo(host).await;
                }
                Err(error)
            }
        }
    }
}

/// Device, port and MAC for a tunnel that begins from nothing, or where an earlier run or flanneld
/// ended.
async fn find(
    spec: &TunnelSpec,
    host: &Host,
    state_dir: &Path,
    dataplane: &SharedDataplane,
) -> Result<(VtepMac, Device), TunnelError> {
    let found = host.netlink.link(&spec.device).await?;
    let existing = found.as_ref().map(link::existing).transpose()?;
    if let (Some(Existing::KernelVxlan(mac)), Some(kernel)) = (existing, found) {
        tun::check(&spec.device)?;
        takeover::check(host, &kernel, spec).await?;
        let mac = mac_store::adopt(state_dir, &spec.device, mac);
        return Ok((mac, Device::Kernel(kernel)));
    }
    if spec.wire == Wire::Vxlan {
        takeover::clear(host, spec).await;
        check_vni(host, spec).await?;
    }
    port::await_free(spec.local, spec.port).await?;
    let tun = dataplane.open_device(&spec.device).await?;
    // At once: if the config changes before the lease, nobody uses the device.
    device::claim(host, &spec.device).await?;
    let device = Device::Ours(workers::OpenDevice::New(tun));
    Ok((own_mac(spec, state_dir), device))
}

/// The MAC that is kept, or a new one.
fn own_mac(spec: &TunnelSpec, state_dir: &Path) -> VtepMac {
    match spec.wire {
        Wire::Vxlan => mac_store::load_or_create(state_dir, &spec.device),
        Wire::Ip => VtepMac::none(),
    }
}

/// The kernel device as it is after the wait for the lease. If it is another one, or has
/// another MAC, the lease tells peers the wrong one.
async fn as_it_is_now(host: &Host, kernel: &Link) -> Result<Link, TunnelError> {
    let now = host.netlink.link(&kernel.name).await?;
    now.filter(|now| (now.index, now.mac) == (kernel.index, kernel.mac))
        .ok_or_else(|| TunnelError::Changed(kernel.name.clone()))
}

/// See whether another agent of this host has the device of `spec`, and so its VNI.
async fn check_vni(host: &Host, spec: &TunnelSpec) -> Result<(), TunnelError> {
    match leftovers::other_holder(&host.netlink, &spec.device, host.mark.as_deref()).await? {
        None => Ok(()),
        Some(alias) => Err(TunnelError::VniTaken {
            device: spec.device.clone(),
            alias,
            vni: spec.vni,
            port: port::is_taken(spec.local, spec.port).then_some(spec.port),
        }),
    }
}
