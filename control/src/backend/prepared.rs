//! A backend before the lease.

use super::carrier::{Carrier, Carriers};
use super::error::BackendError;
use super::host::Host;
use super::running::Backend;
use super::tunnel::{BackendOptions, Inheritance, PreparedTunnel};
use super::{collision, host_gw, udp, vxlan};
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs, Previous};
use std::path::PathBuf;
use tracing::warn;

/// A backend that needs only a lease.
pub struct Prepared {
    pub(super) host: Host,
    pub(super) carriers: Carriers,
    /// Where programs of an earlier run may be pinned.
    bpffs: PathBuf,
}

impl Prepared {
    /// Prepare the backend that the network config names, with the devices and sockets of
    /// `inheritance` if there is one: then workers will be parked until they may
    /// [go](Backend::go).
    pub async fn new(
        host: Host,
        options: &BackendOptions,
        config: &NetworkConfig,
        inheritance: Option<Inheritance>,
    ) -> Result<Prepared, BackendError> {
        let options = &with_queues(options, inheritance.as_ref());
        let mut inheritance = inheritance;
        if matches!(config.backend.kind.as_str(), "vxlan" | "udp") {
            collision::check(&host, config).await?;
        }
        let carriers = match config.backend.kind.as_str() {
            "vxlan" => vxlan::prepare(&host, options, config, &mut inheritance).await?,
            "udp" => udp::prepare(&host, options, config, &mut inheritance).await?,
            "host-gw" => host_gw::prepare(&host, config),
            "alloc" => alloc(&host),
            _ => return Err(config.unknown_backend().into()),
        };
        if let Some(rest) = inheritance {
            rest.finish().map_err(BackendError::Inherited)?;
        }
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

/// Devices that are inherited have their queues already.
fn with_queues(options: &BackendOptions, inheritance: Option<&Inheritance>) -> BackendOptions {
    let mut options = options.clone();
    if let Some(queues) = inheritance.and_then(Inheritance::queues) {
        if let Some(wanted) = options.workers.queues.filter(|wanted| *wanted != queues) {
            warn!(
                code = "W0508",
                "the device has {queues} queues from the run before, not {wanted} as -queues says: that takes a stop and a start"
            );
        }
        options.workers.queues = Some(queues);
    }
    options
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
