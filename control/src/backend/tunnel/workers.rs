//! The packet workers: how they are started and stopped, and what they have counted.

mod lines;
mod status;

use super::error::TunnelError;
use super::options::WorkerOptions;
use super::spec::TunnelSpec;
use super::tap;
use crate::backend::host::Host;
use crate::host::kernel;
use crate::release;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, Once, PoisonError};
use tracing::{info, warn};
use weft_dataplane::caps::{Cap, Grant};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::publish::Publisher;
use weft_dataplane::sys::adopt::AdoptError;
use weft_dataplane::sys::port::Frames;
use weft_dataplane::sys::tap::Tap;
use weft_dataplane::sys::tun::{Offloads, OpenError, Queues, Tun};
use weft_dataplane::worker::tunnel_gso::{PeerState, RedirectState, TunnelGsoState};
use weft_dataplane::worker::{self, Holdings};

/// Send sockets. Each has a source port of its own, which is what spreads flows
/// over the links and receive queues between two nodes.
const TX_SOCKETS: u8 = 8;

/// Create the TUN `name` with these queues, or attach to the one left by an earlier run.
async fn open_tun(name: &str, queues: Queues, offloads: Offloads) -> Result<Tun, OpenError> {
    let look = async || Tun::open(name, queues, offloads);
    let is_free = |opened: &Result<Tun, OpenError>| !matches!(opened, Err(OpenError::Held(_)));
    release::wait(release::GRACE, look, is_free).await
}

/// What the workers of a tunnel get.
fn config(options: &WorkerOptions, host: &Host, spec: &TunnelSpec) -> worker::Config {
    worker::Config {
        local: spec.local,
        port: spec.port,
        frames: Frames {
            wire: spec.wire,
            vni: spec.vni,
            gbp: spec.gbp,
        },
        mtu: spec.mtu as usize,
        pod_mtu: spec.pod_mtu as usize,
        tx_sockets: options.tx_sockets.map_or(TX_SOCKETS, saturating_u8),
        outer_df: options.outer_df,
        tunnel_gso: options.tunnel_gso,
        underlay: host.underlay.index,
    }
}

fn saturating_u8(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// What the workers of all tunnels have in common. The agent has one.
pub(crate) struct SharedDataplane {
    common: worker::Dataplane,
    offloads: Offloads,
    options: WorkerOptions,
    /// How far each capability was granted when that was last logged.
    reported: Mutex<[Grant; Cap::ALL.len()]>,
}

impl SharedDataplane {
    /// Ask the kernel for what the options want, for as many `devices`.
    pub(crate) fn new(
        host: &Host,
        options: &WorkerOptions,
        devices: usize,
    ) -> Result<Arc<SharedDataplane>, TunnelError> {
        if options.udp_gso.is_none()
            && let Some(release) = kernel::corrupts_udp_gso()
        {
            static SAID: Once = Once::new();
            SAID.call_once(|| warn!(
                code = "W0512",
                "Linux {release} is of a version that corrupts UDP trains (7.0 to 7.1.4): sending single datagrams; -udp-gso=on sends trains all the same"
            ));
        }
        let common = worker::Dataplane::new(&worker::Options {
            engine: options.engine,
            spin: options.spin,
            udp_gso: options
                .udp_gso
                .unwrap_or_else(|| kernel::corrupts_udp_gso().is_none()),
            udp_gro: options.udp_gro,
            devices,
            queues: options.queues,
            cpus: options.cpus.clone(),
            underlay: Some(host.underlay.name.clone()),
        })?;
        if let Some(refusal) = common.refusal() {
            warn!(code = "W0513", "{refusal}: using the poll engine");
        }
        let mut reported = [Grant::default(); Cap::ALL.len()];
        // Has been logged, with the reason.
        reported[Cap::IoUring as usize] = common.grant(Cap::IoUring);
        Ok(Arc::new(SharedDataplane {
            common,
            offloads: Offloads {
                tso: options.tso,
                uso: options.uso,
            },
            options: options.clone(),
            reported: Mutex::new(reported),
        }))
    }

    /// Name of the TAP beside the device of `spec`; none if tunnel GSO is not wanted or not
    /// possible.
    pub(super) fn tap_name(&self, spec: &TunnelSpec) -> Option<String> {
        tap::name(spec, &self.options)
    }

    /// Create the tunnel device, or attach to the one left by an earlier run.
    pub(super) async fn open_device(&self, name: &str) -> Result<Tun, TunnelError> {
        Ok(open_tun(name, self.common.queues(), self.offloads).await?)
    }

    /// See whether workers for `spec` can go on with `holdings`.
    pub(super) fn check(
        &self,
        holdings: &Holdings,
        host: &Host,
        spec: &TunnelSpec,
    ) -> Result<(), AdoptError> {
        let config = config(&self.options, host, spec);
        self.common.fits(&holdings.describe(), &config)
    }

    /// Prepare the workers for a device; they take their tables from `publisher`, and begin when
    /// they may [go](TunnelWorkers::go).
    pub(super) async fn start(
        self: &Arc<SharedDataplane>,
        device: OpenDevice,
        host: &Host,
        spec: &TunnelSpec,
        publisher: &Publisher,
    ) -> Result<TunnelWorkers, TunnelError> {
        let mut config = config(&self.options, host, spec);
        // A bond or a VLAN that was made anew has another index than at the start.
        if let Some(underlay) = host.netlink.link(&host.underlay.name).await? {
            config.underlay = underlay.index;
        }
        let holdings = match device {
            OpenDevice::New(tun) => {
                let tap = self.make_tap(host, spec).await;
                self.common.open(tun, tap, &config)?
            }
            OpenDevice::Inherited(holdings) => *holdings,
        };
        let workers = self.parked(holdings, config, spec, publisher)?;
        if let Some(bytes) = workers.workers.short_send_buffer() {
            warn!(
                code = "W0514",
                "send buffers have {bytes} bytes only, so that a node behind a full queue can cost others frames: raise net.core.wmem_max, or give the agent CAP_NET_ADMIN outside of a user namespace"
            );
        }
        self.report_falls();
        Ok(workers)
    }

    fn parked(
        self: &Arc<SharedDataplane>,
        holdings: Holdings,
        config: worker::Config,
        spec: &TunnelSpec,
        publisher: &Publisher,
    ) -> Result<TunnelWorkers, TunnelError> {
        let tap_refused = self.tap_name(spec).is_some() && holdings.describe().tap.is_none();
        Ok(TunnelWorkers {
            workers: self.common.start(holdings, config, publisher)?,
            dataplane: self.clone(),
            config,
            tap_refused,
        })
    }

    async fn make_tap(&self, host: &Host, spec: &TunnelSpec) -> Option<Tap> {
        let made = tap::make(&host.netlink, &self.tap_name(spec)?).await;
        if let Err(refusal) = &made {
            info!(
                code = "W0520",
                "super-packets are cut before they leave: {refusal}"
            );
        }
        made.ok()
    }

    /// Log what the kernel refuses that it was not known to.
    pub(super) fn report_falls(&self) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for (cap, before) in Cap::ALL.into_iter().zip(reported.iter_mut()) {
            let grant = self.common.grant(cap);
            if grant.is_fallen()
                && grant != *before
                && let Some((code, line)) = lines::fall(cap, grant)
            {
                warn!(code, "{line}");
            }
            *before = grant;
        }
    }
}

/// What workers are to be started on.
pub(super) enum OpenDevice {
    /// One that nothing is known of yet.
    New(Tun),
    /// One with sockets, which others had or have.
    Inherited(Box<Holdings>),
}

/// The workers of a tunnel.
pub(super) struct TunnelWorkers {
    workers: worker::Workers,
    dataplane: Arc<SharedDataplane>,
    config: worker::Config,
    /// Tunnel GSO was wanted, and there is no TAP for it.
    tap_refused: bool,
}

impl TunnelWorkers {
    /// What is known of tunnel GSO as a whole.
    pub(super) fn tunnel_gso(&self) -> TunnelGsoState {
        match self.tap_refused {
            true => TunnelGsoState::Refused,
            false => self.workers.tunnel_gso(),
        }
    }

    /// The peers that super-packets were for of late, and what is known of tunnel GSO to each.
    pub(super) fn tunnel_gso_peers(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.workers.tunnel_gso_peers()
    }

    /// Whether what the TAP receives is redirected past a strict `rp_filter`.
    pub(super) fn tunnel_gso_redirect(&self) -> RedirectState {
        self.workers.tunnel_gso_redirect()
    }

    /// Name of the TAP for tunnel GSO, if there is one.
    pub(super) fn tap(&self) -> Option<&str> {
        self.workers.tap()
    }

    /// Why a worker ended that nobody stopped.
    pub(super) fn failed(&self) -> Option<String> {
        self.workers.failure()
    }

    /// Whether DF is set on outer packets.
    pub(super) fn outer_df(&self) -> bool {
        self.dataplane.options.outer_df
    }

    /// What is known of the paths to peers, and the time to ask it by.
    pub(super) fn paths(&self) -> (&PathMtus, u64) {
        self.workers.paths()
    }

    /// Frames that could not leave so far, for each peer that lost any.
    pub(super) fn losses(&self) -> Vec<(IpAddr, u64)> {
        self.workers.losses().by_peer()
    }

    /// Log what the workers have found out about the kernel since that was last logged.
    pub(super) fn report_falls(&self) {
        // For the counters of the kernel not to begin anew unnoticed.
        self.workers.note_unseen();
        self.dataplane.report_falls();
    }

    /// Have room for datagrams that come while nobody reads them, or as much as ever.
    pub(super) fn make_room(&self, more: bool) {
        self.workers.make_room(more);
    }

    /// Let the workers carry packets.
    pub(super) fn go(&self) {
        self.workers.go();
    }

    /// What they work with.
    pub(super) fn holdings(&self) -> &Holdings {
        self.workers.holdings()
    }

    /// Stop the workers and wait until what they have read has left.
    pub(super) fn halt(&self) {
        self.workers.halt();
    }

    /// Carry packets again after a halt, or for the first time.
    pub(super) fn resume(
        self,
        spec: &TunnelSpec,
        publisher: &Publisher,
    ) -> Result<TunnelWorkers, TunnelError> {
        let (dataplane, config) = (self.dataplane, self.config);
        let workers = dataplane.parked(self.workers.stop(), config, spec, publisher)?;
        workers.go();
        Ok(workers)
    }

    /// Stop the workers and wait for them. The device stays, with its address and route.
    pub(super) fn stop(self) {
        drop(self.workers.stop());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    const NONE: Offloads = Offloads {
        tso: false,
        uso: false,
    };

    #[test]
    fn others_go_on_while_a_device_is_waited_for() {
        netns::run(async |netlink| {
            let held = Tun::open("flannel.7", Queues::single(1), NONE).unwrap();
            let link = netlink.link("flannel.7").await.unwrap().unwrap();
            netlink.set_link_up(&link).await.unwrap();
            assert!(matches!(
                Tun::open("flannel.7", Queues::single(1), NONE),
                Err(OpenError::Held(_))
            ));
            // Nobody would release it if the wait kept this thread for itself.
            let release = async { drop(held) };
            let (opened, ()) =
                tokio::join!(open_tun("flannel.7", Queues::single(1), NONE), release);
            opened.unwrap();
        });
    }
}
