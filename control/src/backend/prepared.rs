//! A backend before the lease.

use super::carrier::{Carrier, Carriers};
use super::error::BackendError;
use super::host::Host;
use super::running::Backend;
use super::tunnel::{BackendOptions, PreparedTunnel};
use super::{collision, host_gw, udp, vxlan};
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs, Previous};
use std::path::PathBuf;

/// A backend that needs only a lease.
pub struct Prepared {
    pub(super) host: Host,
    pub(super) carriers: Carriers,
    /// Where programs of an earlier run may be pinned.
    bpffs: PathBuf,
}

impl Prepared {
    /// Prepare the backend that the network config names.
    pub async fn new(
        host: Host,
        options: &BackendOptions,
        config: &NetworkConfig,
    ) -> Result<Prepared, BackendError> {
        if matches!(config.backend.kind.as_str(), "vxlan" | "udp") {
            collision::check(&host, config).await?;
        }
        let carriers = match config.backend.kind.as_str() {
            "vxlan" => vxlan::prepare(&host, options, config).await?,
            "udp" => udp::prepare(&host, options, config).await?,
            "host-gw" => host_gw::prepare(&host, config),
            "alloc" => alloc(&host),
            _ => return Err(config.unknown_backend().into()),
        };
        Ok(Prepared {
            host,
            carriers,
            bpffs: options.fast_path.bpffs.clone(),
        })
    }

    /// What the lease is to tell the peers.
    pub fn attrs(&self) -> &LeaseAttrs {
        &self.carriers.attrs
    }

    /// The device through which encapsulated super-packets will be forwarded, if any.
    pub fn tap(&self) -> Option<String> {
        let mut tunnels = self.carriers.list.iter().filter_map(|c| c.tunnel.as_ref());
        tunnels.find_map(PreparedTunnel::tap)
    }

    /// Set up what the lease's subnets need; no peer is known yet. Dropped, it stops.
    pub async fn start(
        self,
        config: &NetworkConfig,
        lease: &Lease,
        previous: &Previous,
    ) -> Result<Backend, BackendError> {
        let mut carriers: Vec<Carrier> = Vec::new();
        for prepared in self.carriers.list {
            match prepared.start(&self.host, config, lease, previous).await {
                Ok(carrier) => carriers.push(carrier),
                Err(error) => {
                    for tunnel in carriers.into_iter().filter_map(|c| c.tunnel) {
                        tunnel.withdraw(&self.host).await;
                    }
                    return Err(error);
                }
            }
        }
        for tunnel in carriers.iter_mut().filter_map(|c| c.tunnel.as_mut()) {
            tunnel.confirm(&self.host).await;
        }
        let backend = Backend::new(self.host, self.carriers.mtu, carriers, lease);
        backend.clear(config, previous, &self.bpffs).await;
        Ok(backend)
    }
}

/// A subnet and nothing else: somebody else sees to the packets.
fn alloc(host: &Host) -> Carriers {
    let (v4, v6) = host.underlay.public.typed();
    Carriers {
        attrs: LeaseAttrs::alloc(v4, v6),
        mtu: host.underlay.mtu,
        list: Vec::new(),
    }
}
