//! The packet workers: how they are started and stopped, and what they have counted.

mod status;

use super::error::TunnelError;
use super::options::WorkerOptions;
use super::spec::TunnelSpec;
use super::tap;
use crate::backend::host::Host;
use crate::host::kernel;
use crate::release;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, Once, PoisonError};
use tracing::{info, warn};
use weft_dataplane::caps::{Cap, Grant};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::publish::Publisher;
use weft_dataplane::stats::{self, Count, WorkerStats};
use weft_dataplane::sys::adopt::AdoptError;
use weft_dataplane::sys::port::Frames;
use weft_dataplane::sys::tap::Tap;
use weft_dataplane::sys::tun::{Offloads, OpenError, Tun};
use weft_dataplane::sys::udp::RECEIVE_BUFFER;
use weft_dataplane::worker::tunnel_gso::{PeerState, RedirectState, TunnelGsoState};
use weft_dataplane::worker::{self, Holdings};

/// Send sockets. Each has a source port of its own, which is what spreads flows
/// over the links and receive queues between two nodes.
const TX_SOCKETS: u8 = 8;

/// Bytes of a receive buffer while nobody reads: what 50,000 small datagrams a second come to in two
/// and a half seconds.
const ROOM: usize = 64 << 20;

/// Peers named in the line of counters.
const LOSSES_NAMED: usize = 32;

/// Create the TUN `name` with `queues` queues, or attach to the one left by an earlier run.
async fn open_tun(name: &str, queues: usize, offloads: Offloads) -> Result<Tun, OpenError> {
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
            warn!("{refusal}: using the poll engine");
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
            info!("super-packets are cut before they leave: {refusal}");
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
                && let Some(line) = fall(cap, grant)
            {
                warn!("{line}");
            }
            *before = grant;
        }
    }
}

/// What it means that a capability is not granted, or not as a whole.
fn fall(cap: Cap, grant: Grant) -> Option<&'static str> {
    Some(match (cap, grant) {
        // Logged with the reason, where it is refused.
        (Cap::IoUring, _) => return None,
        (Cap::Tso, _) => {
            "the kernel lets the TUN device have no TCP super-packets: pods send single packets (tso=refused)"
        }
        (Cap::Uso, _) => {
            "the kernel lets the TUN device have no UDP super-packets, which needs Linux 6.2: pods send single packets (uso=refused)"
        }
        (Cap::UdpGso, Grant::Limited) => {
            "the kernel refused a UDP train: where it did, shorter ones or single datagrams are sent for a minute or for good"
        }
        (Cap::UdpGso, _) => {
            "the kernel takes no UDP trains, which needs Linux 4.18: sending single datagrams (udp_gso=refused)"
        }
        (Cap::UdpGro, _) => {
            "the kernel merges no received datagrams into trains, which needs Linux 5.0: receiving them one by one (udp_gro=refused)"
        }
        (Cap::MergedWrites, _) => {
            "the kernel refuses a super-packet on the TUN device: writing single packets, or shorter ones, for a while"
        }
    })
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
    /// A counter, summed over all workers.
    pub(super) fn count(&self, count: Count) -> u64 {
        self.workers.stats().map(|stats| stats.get(count)).sum()
    }

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

    /// All non-zero counters and drop reasons of `device` on one line, the peers that lost
    /// most frames on the way out, and the capabilities that the kernel does not grant in full.
    ///
    /// `fast_path` is what the fast path has counted, of packets that the workers did not see.
    pub(super) fn counters(&self, device: &str, fast_path: &WorkerStats) -> String {
        let unseen = self.workers.unseen();
        let all = self.workers.stats().chain([fast_path, &unseen]);
        let sums = stats::summary(all);
        let mut line = format!("counters: device={device}");
        for (name, sum) in sums {
            line.push_str(&format!(" {name}={sum}"));
        }
        let mut losses = self.losses();
        losses.sort_by_key(|&(peer, frames)| (Reverse(frames), peer));
        for (peer, frames) in losses.iter().take(LOSSES_NAMED) {
            line.push_str(&format!(" lost_to[{peer}]={frames}"));
        }
        match self.workers.losses().of_others() {
            0 => {}
            frames => line.push_str(&format!(" lost_to[others]={frames}")),
        }
        let fallen = |cap: &Cap| self.dataplane.common.grant(*cap).is_fallen();
        for cap in Cap::ALL.into_iter().filter(fallen) {
            line.push_str(&format!(" fallen[{}]=1", cap.name()));
        }
        line
    }

    /// What of this kernel is in use for `device`, on one line.
    pub(super) fn capabilities(&self, device: &str, fast_path: &str) -> String {
        let peers = |wanted| {
            let peers = self.tunnel_gso_peers();
            peers.filter(|&(_, state)| state == wanted).count()
        };
        let common = &self.dataplane.common;
        let grant = |cap| common.grant(cap).name();
        let cpus = self.workers.cpus();
        format!(
            "capabilities: device={device} engine={} cpus={} tso={} uso={} udp_gso={} udp_gro={} merged_writes={} tunnel_gso={} tunnel_gso_open={} tunnel_gso_blocked={} fast_path={fast_path} downgrades={}",
            common.engine().name(),
            cpus.map_or("none".to_owned(), |cpus| cpus.to_string()),
            grant(Cap::Tso),
            grant(Cap::Uso),
            grant(Cap::UdpGso),
            grant(Cap::UdpGro),
            grant(Cap::MergedWrites),
            self.tunnel_gso().name(),
            peers(PeerState::Open),
            peers(PeerState::Blocked),
            self.count(Count::Downgrades),
        )
    }

    /// Log what the workers have found out about the kernel since that was last logged.
    pub(super) fn report_falls(&self) {
        // For the counters of the kernel not to begin anew unnoticed.
        self.workers.unseen();
        self.dataplane.report_falls();
    }

    /// Have room for datagrams that come while nobody reads them, or as much as ever.
    pub(super) fn make_room(&self, more: bool) {
        let bytes = if more { ROOM } else { RECEIVE_BUFFER };
        let holdings = self.workers.holdings();
        let told = holdings.describe();
        let all = holdings.descriptors().into_iter();
        let others = told.queues + usize::from(told.tap.is_some());
        let count = told.descriptors() - others - told.senders;
        for receiver in all.skip(others).take(count) {
            // A smaller one holds what it holds.
            let _ = set_socket_recv_buffer_size_force(receiver, bytes);
        }
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
            let held = Tun::open("flannel.7", 1, NONE).unwrap();
            let link = netlink.link("flannel.7").await.unwrap().unwrap();
            netlink.set_link_up(&link).await.unwrap();
            assert!(matches!(
                Tun::open("flannel.7", 1, NONE),
                Err(OpenError::Held(_))
            ));
            // Nobody would release it if the wait kept this thread for itself.
            let release = async { drop(held) };
            let (opened, ()) = tokio::join!(open_tun("flannel.7", 1, NONE), release);
            opened.unwrap();
        });
    }

    #[test]
    fn every_fall_has_a_line_of_its_own_but_that_of_the_engine_which_has_a_reason() {
        let fallen = [Grant::Limited, Grant::Refused];
        for cap in Cap::ALL.into_iter().filter(|&cap| cap != Cap::IoUring) {
            for grant in fallen {
                let line = fall(cap, grant).unwrap();
                assert!(
                    line.starts_with("the kernel ") && !line.contains('\n'),
                    "{line}"
                );
            }
        }
        assert_eq!(fallen.map(|grant| fall(Cap::IoUring, grant)), [None; 2]);
    }
}
