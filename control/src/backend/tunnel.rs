//! A TUN device with its workers: what carries the packets of one address family.

mod device;
mod error;
mod fast_path;
mod gso_log;
mod hand_over;
mod health;
mod inheritance;
mod losses;
mod options;
mod overlay;
mod passed;
mod peer_traffic;
pub(super) mod port;
mod prepare;
mod spec;
mod status;
mod takeover;
mod tap;
mod workers;

use super::host::Host;
use super::peers::Peer;
use super::recursion::Recursion;
use crate::host::link::{self, Existing};
use crate::host::mac_store::VtepMac;
pub use error::TunnelError;
use fast_path::TunnelFastPath;
pub(crate) use fast_path::leftovers::remove as remove_fast_paths;
use gso_log::TunnelGsoLog;
use health::Health;
pub use inheritance::Inheritance;
use losses::LossReporter;
pub use options::{
    Admit, BackendOptions, Cpus, EngineKind, FastPathMode, FastPathOptions, FastPathReport, Hook,
    TunnelGso, WorkerOptions,
};
pub use passed::take_passed;
use peer_traffic::PeerTrafficCount;
pub(super) use prepare::PreparedTunnel;
pub(super) use spec::{DeviceNetworks, TunnelSpec, Wire};
use status::Published;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use takeover::Takeover;
use tracing::{debug, info, warn};
use weft_dataplane::fastpath::Entries;
use weft_dataplane::publish::Publisher;
use weft_dataplane::route::table::{self, EXITS, NewPeer, Overlay, Table};
use weft_dataplane::sys::{ethtool, redirect};
pub(super) use workers::SharedDataplane;
use workers::{OpenDevice, TunnelWorkers};

/// A running tunnel.
pub(super) struct Tunnel {
    spec: TunnelSpec,
    mac: VtepMac,
    overlay: Overlay,
    networks: DeviceNetworks,
    /// Interface index of the device.
    index: u32,
    publisher: Publisher,
    published: Published,
    /// Times that the device was made anew.
    remakes: u64,
    /// Shared by all tunnels.
    dataplane: Arc<SharedDataplane>,
    /// Missing only while the device is made anew, or others carry its packets.
    workers: Option<TunnelWorkers>,
    /// Those that have stopped for others.
    halted: Option<TunnelWorkers>,
    /// When workers last began.
    began: Instant,
    /// Receive buffers may have more room than usual.
    roomy: bool,
    health: Health,
    losses: LossReporter,
    /// It has been said that somebody turned off checksum offload.
    offload_restored: bool,
    tunnel_gso: TunnelGsoLog,
    fast_path: TunnelFastPath,
    peer_traffic: PeerTrafficCount,
    /// From a kernel device, until all tunnels have started.
    takeover: Option<Takeover>,
}

impl Tunnel {
    async fn start(
        (dataplane, fast_path, peer_traffic): (Arc<SharedDataplane>, &FastPathOptions, bool),
        device: OpenDevice,
        host: &Host,
        spec: TunnelSpec,
        mac: VtepMac,
        overlay: Overlay,
        networks: DeviceNetworks,
    ) -> Result<Tunnel, TunnelError> {
        let index = device::configure(host, &spec, &networks).await?;
        let publisher = Publisher::new(Table::build(overlay.clone(), &[])?);
        let inherited = matches!(device, OpenDevice::Inherited(_));
        let workers = dataplane.start(device, host, &spec, &publisher).await?;
        if !inherited {
            workers.go();
        }
        let fast_path = TunnelFastPath::new(fast_path, inherited);
        info!("{}", workers.capabilities(&spec.device, fast_path.name()));
        Ok(Tunnel {
            fast_path,
            peer_traffic: PeerTrafficCount::new(peer_traffic),
            tunnel_gso: TunnelGsoLog::new(workers.tunnel_gso()),
            spec,
            mac,
            overlay,
            networks,
            index,
            publisher,
            published: Published::default(),
            remakes: 0,
            dataplane,
            workers: Some(workers),
            halted: None,
            began: Instant::now(),
            roomy: inherited,
            health: Health::default(),
            losses: LossReporter::default(),
            offload_restored: false,
            takeover: None,
        })
    }

    /// All tunnels have started: a kernel device that this one has the place of can go.
    pub(super) async fn confirm(&mut self, host: &Host) {
        if let Some(takeover) = self.takeover.take() {
            takeover.complete(host).await;
        }
    }

    /// Another tunnel did not start: a kernel device that this one has the place of comes back.
    pub(super) async fn withdraw(self, host: &Host) {
        drop(self.workers);
        if let Some(takeover) = self.takeover {
            takeover.undo(host).await;
        }
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        &self.spec.device
    }

    /// Address that packets to peers leave from.
    pub(super) fn local(&self) -> IpAddr {
        self.spec.local
    }

    /// Send to `peers` from the workers' next batch on, but for those to whom the way leads
    /// back, says `ways`.
    ///
    /// With `all` these are all peers that there are, and not those of a start.
    pub(super) async fn publish<'a>(
        &mut self,
        host: &Host,
        peers: impl Iterator<Item = &'a Peer>,
        ways: &Recursion,
        all: bool,
    ) -> Result<(), TunnelError> {
        let route = |peer: &Peer| {
            let port = match ways.leads_back(peer.addr) {
                true => table::CUT_OFF,
                false => self.spec.port,
            };
            table::Route {
                prefix: peer.subnet,
                peer: NewPeer {
                    addr: SocketAddr::new(peer.addr, port),
                    mac: peer.mac,
                },
            }
        };
        let begun = Instant::now();
        let routes: Vec<table::Route> = peers.map(route).collect();
        let table = Table::build(self.overlay.clone(), &routes)?;
        // One device's queue may be full and the other's not.
        let exit = |addr| match ways.leaves_elsewhere(addr) {
            true => EXITS - 1,
            false => 0,
        };
        let table = table.with_exits(exit);
        let entries = all.then(|| Entries::of(&table));
        // First of all: to load programs takes hundreds of milliseconds.
        self.publisher.publish(table);
        self.published.note(routes.len(), begun);
        self.peer_traffic
            .publish(routes.iter().map(|route| route.peer.addr.ip()));
        if let Some(entries) = entries {
            let tunnel = fast_path_of(&self.spec, &self.overlay, self.workers.as_ref());
            self.fast_path.publish(host, tunnel, entries).await;
        }
        Ok(())
    }

    /// Look whether device and workers are alive. A device that somebody removed is made anew,
    /// one that was renamed gets its name back, and one that was set down is brought up, with address,
    /// route and the same MAC. What fails is tried again at the next look; an error is one that does
    /// not pass by itself.
    pub(super) async fn check_health(&mut self, host: &Host) -> Result<(), TunnelError> {
        self.publisher.reclaim();
        let outcome = self.look_after(host).await;
        let device = &self.spec.device;
        self.health.take(device, outcome, Instant::now())
    }

    async fn look_after(&mut self, host: &Host) -> Result<(), TunnelError> {
        if self.workers.is_none() {
            return self.make_anew(host).await;
        }
        // Before the look-up: the workers of a device that is removed fail, too.
        let failed = self.workers.as_ref().and_then(TunnelWorkers::failed);
        let mut link = host.netlink.link(self.device()).await?;
        if link.is_none() && failed.is_none() {
            link = device::restore_name(host, self.index, self.device()).await?;
        }
        match (link, failed) {
            (Some(link), None) if link.index == self.index => {
                if !link.up {
                    warn!(
                        code = "W0502",
                        "{} was set down: bringing it up again", link.name
                    );
                    device::configure(host, &self.spec, &self.networks).await?;
                }
                self.look_after_room();
                self.look_after_offloads();
                self.look_after_tap(host).await?;
                let tunnel = fast_path_of(&self.spec, &self.overlay, self.workers.as_ref());
                self.fast_path.look(host, tunnel).await;
                self.peer_traffic.look(&host.underlay.name, self.spec.port);
                self.note_changes();
                Ok(())
            }
            (Some(link), Some(reason)) if link.index == self.index => {
                Err(TunnelError::Worker(reason))
            }
            _ => {
                warn!(
                    code = "W0501",
                    "{} was removed: making it anew",
                    self.device()
                );
                self.make_anew(host).await
            }
        }
    }

    /// Turn checksum offload on again where a rule for kernel VXLAN turned it off: this device
    /// has none of that one's faults, and gives no super-packets without it.
    fn look_after_offloads(&mut self) {
        let device = &self.spec.device;
        match ethtool::restore_checksum_offload(device) {
            Ok(true) if !std::mem::replace(&mut self.offload_restored, true) => warn!(
                code = "W0504",
                "checksum offload of {device} was turned off, and super-packets with it (tx-checksum-ip-generic, as by a udev rule for kernel VXLAN): turning it on, now and whenever it is turned off again; -tso=false -uso=false keeps super-packets off"
            ),
            Ok(_) => {}
            Err(error) => debug!("cannot look at the offloads of {device}: {error}"),
        }
    }

    /// Look after the TAP of tunnel GSO. One that was removed is made anew with the workers, which
    /// hold it.
    async fn look_after_tap(&mut self, host: &Host) -> Result<(), TunnelError> {
        let Some(name) = self.workers.as_ref().and_then(TunnelWorkers::tap) else {
            return Ok(());
        };
        match tap::look_after(&host.netlink, name).await? {
            true => Ok(()),
            false => self.make_anew(host).await,
        }
    }

    /// Keep the MAC for the next start, as far as that could not be done yet.
    pub(super) fn keep_mac(&mut self) {
        self.mac.ensure();
    }

    /// Put address and route of the device right.
    pub(super) async fn reconcile(&self, host: &Host) -> Result<(), TunnelError> {
        if self.workers.is_none() {
            return Ok(());
        }
        device::configure(host, &self.spec, &self.networks)
            .await
            .map(drop)
    }

    async fn make_anew(&mut self, host: &Host) -> Result<(), TunnelError> {
        let TunnelSpec {
            device,
            local,
            port,
            ..
        } = &self.spec;
        let fast_path = self.fast_path.stats();
        self.fast_path.forget();
        // The old workers hold the port, and the new ones must not share it with them.
        if let Some(old) = self.workers.take() {
            info!("{}", old.counters(device, &fast_path));
            old.stop();
        }
        if let Some(found) = host.netlink.link(device).await?
            && let Existing::KernelVxlan(_) = link::existing(&found)?
        {
            return Err(TunnelError::Displaced(device.clone()));
        }
        port::await_free(*local, *port).await?;
        let tun = self.dataplane.open_device(device).await?;
        self.index = device::configure(host, &self.spec, &self.networks).await?;
        let (device, publisher) = (OpenDevice::New(tun), &self.publisher);
        let workers = self.dataplane.start(device, host, &self.spec, publisher);
        let workers = workers.await?;
        workers.go();
        self.workers = Some(workers);
        self.remakes += 1;
        // Counts begin anew.
        self.losses = LossReporter::default();
        Ok(())
    }

    /// Log what the workers have found out about the kernel since the last look.
    fn note_changes(&mut self) {
        let Some(workers) = &self.workers else {
            return;
        };
        workers.report_falls();
        if let Some(peers) = self.losses.take(workers.losses(), Instant::now()) {
            warn!(
                code = "W0515",
                "frames to these nodes (number lost so far) could not leave, as the queue of the device towards them is full (see `tc -s qdisc`) or the kernel refuses them: {peers}"
            );
        }
        let peers = workers.tunnel_gso_peers();
        let strictness = || {
            let rp_filter = workers.tap().and_then(redirect::rp_filter);
            (rp_filter, workers.tunnel_gso_redirect())
        };
        self.tunnel_gso
            .note(workers.tunnel_gso(), peers, strictness);
    }

    /// Log what of the kernel is in use, and the counters.
    pub(super) fn report(&self) {
        if let Some(workers) = &self.workers {
            let fast_path = self.fast_path.stats();
            info!(
                "{}",
                workers.capabilities(self.device(), self.fast_path.name())
            );
            info!("{}", workers.counters(self.device(), &fast_path));
        }
    }

    /// Have the fast path in this mode from now on.
    pub(super) async fn set_fast_path(&mut self, host: &Host, mode: FastPathMode) {
        let tunnel = fast_path_of(&self.spec, &self.overlay, self.workers.as_ref());
        self.fast_path.set_mode(host, tunnel, mode).await;
    }

    /// How the fast path is.
    pub(super) fn fast_path(&self) -> FastPathReport {
        self.fast_path.report(&self.spec)
    }

    /// Stop the workers. The device stays, with its address and route.
    pub(super) async fn stop(self) {
        let device = &self.spec.device;
        let fast_path = self.fast_path.stats();
        self.fast_path.leave();
        if let Some(workers) = self.workers {
            info!("{}", workers.counters(device, &fast_path));
            workers.stop();
            // Who takes over from here, such as a flanneld with a kernel device, does not try twice.
            let _ = port::await_free(self.spec.local, self.spec.port).await;
        }
        info!("stopped; {device} keeps its address and route");
    }
}

/// What the fast path of a tunnel must know of it.
fn fast_path_of<'a>(
    spec: &'a TunnelSpec,
    overlay: &'a Overlay,
    workers: Option<&'a TunnelWorkers>,
) -> fast_path::TunnelFacts<'a> {
    fast_path::TunnelFacts {
        spec,
        overlay,
        outer_df: workers.is_some_and(TunnelWorkers::outer_df),
        paths: workers.map(TunnelWorkers::paths),
    }
}
