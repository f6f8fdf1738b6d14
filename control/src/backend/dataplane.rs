//! The control plane's only contact with the packet workers: how many of them, how they are
//! started and stopped, what they have counted.

use super::tunnel::{TunnelSpec, tap};
use super::{BackendError, Host, WorkerOptions};
use crate::host::kernel;
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::Once;
use std::time::{Duration, Instant};
use tracing::{info, warn};
use weft_dataplane::publish::Publisher;
use weft_dataplane::stats::{self, Count};
use weft_dataplane::sys::tun::{Offloads, Tun};
use weft_dataplane::sys::udp::{self, SocketError};
use weft_dataplane::worker::tunnel_gso::{PeerState, RedirectState, TunnelGsoState};
use weft_dataplane::worker::{self, EngineKind, StartError};

/// Send sockets. Each has a source port of its own, which is what spreads flows
/// over the links and receive queues between two nodes.
const TX_SOCKETS: u8 = 8;

/// Peers named in the line of counters.
const LOSSES_NAMED: usize = 32;

/// More queues than this only spread the flows of one node too thinly to coalesce.
const QUEUES_MAX: usize = 8;

/// How long the port and devices of an agent that has ended may stay taken: the kernel tears its
/// io_uring instances down in the background.
pub(crate) const RELEASE_GRACE: Duration = Duration::from_secs(2);

/// Pause between two looks whether it is free.
const RELEASE_POLL: Duration = Duration::from_millis(10);

/// TUN queues if the options name no number: one for every two cores, as each has a thread
/// per direction. With 2 cores, two queues carried one stream 10 to 20 % slower than one.
fn default_queues() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (cores / 2).clamp(1, QUEUES_MAX)
}

/// Wait until nobody holds UDP `port` of the family of `local`, for as long as an agent that
/// has just ended may.
pub(super) async fn await_port(local: IpAddr, port: u16) -> Result<(), BackendError> {
    let deadline = Instant::now() + RELEASE_GRACE;
    while udp::is_taken(local, port) {
        if Instant::now() >= deadline {
            return Err(StartError::Socket(SocketError::PortInUse(port)).into());
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
    Ok(())
}

/// See whether packets can leave from `local`, an address of the underlay.
pub(super) fn check_local(local: IpAddr, host: &Host) -> Result<(), BackendError> {
    let source = udp::source(local, host.underlay.index);
    udp::senders(source, 1, false).map_err(StartError::Socket)?;
    Ok(())
}

/// Wait for our own port to come free, at the end of the process: who takes over from here,
/// such as a flanneld with a kernel device, does not try twice.
pub(super) fn release_port(local: IpAddr, port: u16) {
    let deadline = Instant::now() + RELEASE_GRACE;
    while udp::is_taken(local, port) && Instant::now() < deadline {
        std::thread::sleep(RELEASE_POLL);
    }
}

/// Create the tunnel device, or attach to the one left by an earlier run.
pub(super) fn open_device(name: &str, options: &WorkerOptions) -> Result<Tun, BackendError> {
    let queues = options.queues.unwrap_or_else(default_queues);
    let offloads = Offloads {
        tso: options.tso,
        uso: options.uso,
    };
    Ok(Tun::open(name, queues, offloads)?)
}

/// What the workers are told.
fn config(host: &Host, spec: &TunnelSpec) -> worker::Config {
    let options = &host.options.workers;
    worker::Config {
        engine: options.engine,
        local: spec.local,
        port: spec.port,
        mtu: spec.mtu as usize,
        pod_mtu: spec.pod_mtu as usize,
        tx_sockets: options.tx_sockets.map_or(TX_SOCKETS, saturating_u8),
        outer_df: options.outer_df,
        udp_gso: options
            .udp_gso
            .unwrap_or_else(|| kernel::corrupts_udp_gso().is_none()),
        udp_gro: options.udp_gro,
        tunnel_gso: options.tunnel_gso,
        spin: options.spin,
        underlay: host.underlay.index,
    }
}

fn saturating_u8(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// What was asked of the kernel and granted.
#[derive(Clone, Copy)]
struct Capabilities {
    engine: EngineKind,
    offloads: Offloads,
    udp_gso: bool,
    udp_gro: bool,
}

/// The running workers.
pub(super) struct Dataplane {
    workers: worker::Dataplane,
    capabilities: Capabilities,
    /// Tunnel GSO was wanted, and there is no TAP for it.
    tap_refused: bool,
}

impl Dataplane {
    /// Start the workers on `tun`; they take their tables from `publisher`.
    pub(super) async fn start(
        tun: Tun,
        host: &Host,
        spec: &TunnelSpec,
        publisher: &Publisher,
    ) -> Result<Dataplane, BackendError> {
        let options = &host.options.workers;
        let mut config = config(host, spec);
        // A bond or a VLAN that was made anew has another index than at the start.
        if let Some(underlay) = host.netlink.link(&host.underlay.name).await? {
            config.underlay = underlay.index;
        }
        if options.udp_gso.is_none()
            && let Some(release) = kernel::corrupts_udp_gso()
        {
            static SAID: Once = Once::new();
            SAID.call_once(|| warn!(
                "Linux {release} is of a version that corrupts UDP trains (7.0 to 7.1.4): sending single datagrams; -udp-gso=on sends trains all the same"
            ));
        }
        let offloads = tun.offloads();
        let tap = match tap::name(spec, options) {
            Some(name) => Some(tap::make(&host.netlink, &name).await),
            None => None,
        };
        if let Some(Err(refusal)) = &tap {
            info!("super-packets are cut before they leave: {refusal}");
        }
        let tap_refused = matches!(tap, Some(Err(_)));
        let tap = tap.and_then(Result::ok);
        let dataplane = worker::Dataplane::start(tun, tap, config, publisher)?;
        if let Some(refusal) = dataplane.refusal() {
            warn!("{refusal}: using the poll engine");
        }
        if let Some(bytes) = dataplane.short_send_buffer() {
            warn!(
                "send buffers have {bytes} bytes only, so that a node behind a full queue can cost others frames: raise net.core.wmem_max, or give the agent CAP_NET_ADMIN outside of a user namespace"
            );
        }
        let capabilities = Capabilities {
            engine: dataplane.engine(),
            offloads,
            udp_gso: config.udp_gso,
            udp_gro: options.udp_gro,
        };
        Ok(Dataplane {
            workers: dataplane,
            capabilities,
            tap_refused,
        })
    }

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

    /// Frames that could not leave so far, for each peer that lost any.
    pub(super) fn losses(&self) -> Vec<(IpAddr, u64)> {
        self.workers.losses().by_peer()
    }

    /// All non-zero counters and drop reasons of `device` on one line, and the peers that lost
    /// most frames on the way out.
    pub(super) fn counters(&self, device: &str) -> String {
        let sums = stats::summary(self.workers.stats());
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
        line
    }

    /// What of this kernel is in use for `device`, on one line.
    pub(super) fn capabilities(&self, device: &str) -> String {
        let on = |on: bool| if on { "on" } else { "off" };
        let peers = |wanted| {
            let peers = self.tunnel_gso_peers();
            peers.filter(|&(_, state)| state == wanted).count()
        };
        let Capabilities {
            engine,
            offloads,
            udp_gso,
            udp_gro,
        } = self.capabilities;
        format!(
            "capabilities: device={device} engine={} tso={} uso={} udp_gso={} udp_gro={} tunnel_gso={} tunnel_gso_open={} tunnel_gso_blocked={} downgrades={}",
            engine.name(),
            on(offloads.tso),
            on(offloads.uso),
            on(udp_gso),
            on(udp_gro),
            self.tunnel_gso().name(),
            peers(PeerState::Open),
            peers(PeerState::Blocked),
            self.count(Count::Downgrades),
        )
    }

    /// Stop the workers and wait for them. The device stays, with its address and route.
    pub(super) fn stop(self) {
        self.workers.stop();
    }
}
