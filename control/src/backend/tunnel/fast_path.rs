//! The fast path of a tunnel: when there is one, and what becomes of it.
//!
//! It is started when all peers are known for the first time, in the place of one that an earlier
//! agent has left, and looked after each second. Whatever goes wrong with it costs one line in the
//! log: the workers then carry everything, and it is tried again after a while.

mod merger;
mod obstacles;
mod options;
mod underlay;

use super::spec::TunnelSpec;
use crate::backend::host::Host;
use merger::MergerName;
pub use options::{FastPathMode, FastPathOptions};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use weft_dataplane::fastpath::{self, Config, Entries, FastPath, FastPathError, Policy};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::route::table::{Overlay, Table};
use weft_dataplane::stats::{Count, WorkerStats};

/// Pause before what was refused is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// What the fast path must know of its tunnel.
#[derive(Clone, Copy)]
pub(super) struct Tunnel<'a> {
    pub(super) spec: &'a TunnelSpec,
    pub(super) overlay: &'a Overlay,
    /// DF is set on outer packets.
    pub(super) outer_df: bool,
    /// What the workers have learned of the paths to peers, and the time to ask it by.
    pub(super) paths: Option<(&'a PathMtus, u64)>,
}

/// The fast path of one tunnel, wanted or not, running or not.
pub(super) struct TunnelFastPath {
    options: FastPathOptions,
    /// What the programs are to know of peers, once all are known.
    entries: Option<Entries>,
    running: Option<Running>,
    /// What programs have counted that run no longer.
    past: WorkerStats,
    /// When to try again.
    retry: Option<Instant>,
    /// The last refusal that was logged.
    said: Option<String>,
    /// Pins and pair of an earlier run are gone, though nothing runs.
    cleared: bool,
}

/// What runs.
struct Running {
    programs: FastPath,
    underlay: u32,
    policy: Policy,
    merger: MergerName,
    /// MTUs of paths that the table has.
    mtus: Vec<(IpAddr, u16)>,
}

impl TunnelFastPath {
    pub(super) fn new(options: &FastPathOptions) -> TunnelFastPath {
        TunnelFastPath {
            options: options.clone(),
            entries: None,
            running: None,
            past: WorkerStats::default(),
            retry: None,
            said: None,
            cleared: false,
        }
    }

    /// Have the programs go by `table`, which has all peers; start them if they do not run.
    pub(super) async fn publish(&mut self, host: &Host, tunnel: Tunnel<'_>, table: &Table) {
        let entries = Entries::of(table);
        if let Some(running) = &mut self.running
            && let Err(error) = running.publish(&entries, tunnel.paths)
        {
            self.give_up(&error.to_string());
        }
        self.entries = Some(entries);
        if self.running.is_none() {
            self.start(host, tunnel).await;
        }
    }

    /// Tell the programs that the agent is there, and of what has changed; start them if it is
    /// time to.
    pub(super) async fn look(&mut self, host: &Host, tunnel: Tunnel<'_>) {
        let Some(running) = &mut self.running else {
            if self.retry.is_none_or(|at| Instant::now() >= at) {
                self.start(host, tunnel).await;
            }
            return;
        };
        let outcome = running.look(host, tunnel, &self.options, self.entries.as_ref());
        if let Err(reason) = outcome.await {
            self.give_up(&reason);
            // What was taken away by somebody is tried at once, and then seldom.
            self.start(host, tunnel).await;
        }
    }

    /// Choose anew, from the next look on.
    pub(super) fn set_mode(&mut self, mode: FastPathMode) {
        self.options.mode = mode;
        self.retry = None;
        self.said = None;
        self.cleared = false;
        if mode == FastPathMode::Off && self.running.is_some() {
            info!("the fast path is switched off: the workers carry all packets");
            self.end();
        }
    }

    /// The devices were made anew: programs are attached to devices that are gone.
    pub(super) fn forget(&mut self) {
        self.end();
        // Those of the workers begin anew, too.
        self.past = WorkerStats::default();
        self.retry = None;
    }

    /// Take the programs away, if they run.
    fn end(&mut self) {
        if let Some(running) = self.running.take() {
            self.past.absorb(&running.programs.stats());
            running.remove();
        }
    }

    async fn start(&mut self, host: &Host, tunnel: Tunnel<'_>) {
        let Some(entries) = &self.entries else { return };
        if self.options.mode == FastPathMode::Off || tunnel.spec.local.is_ipv6() {
            self.clear(host, tunnel).await;
            return;
        }
        match Running::start(host, tunnel, &self.options, entries).await {
            Ok(running) => {
                running.tell(&self.options, tunnel);
                self.running = Some(running);
                (self.said, self.retry) = (None, None);
            }
            Err(reason) => {
                self.clear(host, tunnel).await;
                self.give_up(&reason);
            }
        }
    }

    /// Take away what an earlier run has left: it would go on beside the workers.
    async fn clear(&mut self, host: &Host, tunnel: Tunnel<'_>) {
        if std::mem::replace(&mut self.cleared, true) || tunnel.spec.local.is_ipv6() {
            return;
        }
        let device = &tunnel.spec.device;
        let links = std::iter::once(host.underlay.name.clone());
        match fastpath::remove_left(&self.options.bpffs, device, links) {
            Ok(true) => info!("removed the fast path that an earlier run had left for {device}"),
            Ok(false) => {}
            Err(error) => debug!("what an earlier run may have left for {device}: {error}"),
        }
        MergerName::of(device).remove(&host.netlink).await;
    }

    /// Let the workers carry all, and say why, once for each reason.
    fn give_up(&mut self, reason: &str) {
        self.end();
        if self.said.as_deref() != Some(reason) {
            warn!(
                "no fast path: {reason}; the workers carry all packets, and it is tried again each minute (-fast-path=off says nothing)"
            );
            self.said = Some(reason.to_owned());
        }
        self.retry = Some(Instant::now() + RETRY);
    }

    /// One word for the line of capabilities.
    pub(super) fn name(&self) -> &'static str {
        match (&self.running, self.options.mode) {
            (Some(_), _) => "on",
            (None, FastPathMode::Off) => "off",
            (None, _) if self.said.is_some() => "refused",
            (None, _) => "off",
        }
    }

    /// What the programs have counted.
    pub(super) fn stats(&self) -> WorkerStats {
        let stats = WorkerStats::default();
        stats.absorb(&self.past);
        if let Some(running) = &self.running {
            stats.absorb(&running.programs.stats());
        }
        stats
    }

    /// Let the programs go on without the agent, where they can.
    pub(super) fn leave(self) {
        if let Some(running) = self.running {
            running.programs.leave();
        }
    }
}

impl Running {
    /// Load the programs, give them the table, and put them in place.
    async fn start(
        host: &Host,
        tunnel: Tunnel<'_>,
        options: &FastPathOptions,
        entries: &Entries,
    ) -> Result<Running, String> {
        let IpAddr::V4(local) = tunnel.spec.local else {
            return Err("the underlay is IPv6".to_owned());
        };
        obstacles::look(host, tunnel).await?;
        let name = &host.underlay.name;
        let underlay = underlay::look(host).await?;
        let config = Config {
            device: tunnel.spec.device.clone(),
            underlay: name.clone(),
            local,
            port: tunnel.spec.port,
            lifetime: options.lifetime,
            bpffs: options.bpffs.clone(),
            hook: options.hook,
        };
        let told = |error: FastPathError| error.to_string();
        let programs = FastPath::load(config, tunnel.overlay).map_err(told)?;
        let mut running = Running {
            programs,
            underlay: underlay.index,
            policy: underlay.policy(options.mode),
            merger: MergerName::of(&tunnel.spec.device),
            mtus: Vec::new(),
        };
        let programs = &mut running.programs;
        programs.set_policy(running.policy).map_err(told)?;
        running.publish(entries, tunnel.paths).map_err(told)?;
        running.programs.attach().map_err(told)?;
        // The pair of an earlier run.
        running.use_merger(host, false).await;
        Ok(running)
    }

    fn publish(
        &mut self,
        entries: &Entries,
        paths: Option<(&PathMtus, u64)>,
    ) -> Result<(), FastPathError> {
        let mtu = |addr| paths.and_then(|(paths, now)| paths.get(addr, now));
        self.programs.publish(entries, mtu)?;
        self.mtus = known(entries, paths);
        Ok(())
    }

    async fn look(
        &mut self,
        host: &Host,
        tunnel: Tunnel<'_>,
        options: &FastPathOptions,
        entries: Option<&Entries>,
    ) -> Result<(), String> {
        let told = |error: FastPathError| error.to_string();
        let underlay = underlay::look(host).await?;
        if underlay.index != self.underlay {
            return Err(format!("{} was made anew", host.underlay.name));
        }
        if !self.programs.is_in_place() {
            return Err("somebody has removed the programs or their pins".to_owned());
        }
        let policy = underlay.policy(options.mode);
        match policy == self.policy {
            true => self.programs.beat().map_err(told)?,
            false => self.programs.set_policy(policy).map_err(told)?,
        }
        self.policy = policy;
        if let Some(entries) = entries
            && known(entries, tunnel.paths) != self.mtus
        {
            self.publish(entries, tunnel.paths).map_err(told)?;
        }
        if self.programs.wants_merger() {
            self.use_merger(host, true).await;
        }
        Ok(())
    }

    /// Merge by the pair that is there, or with `make` by one that is made.
    async fn use_merger(&mut self, host: &Host, make: bool) {
        let merger = match make {
            true => self.merger.make(&host.netlink, host.mark.as_deref()).await,
            false => self.merger.find(&host.netlink).await,
        };
        let used = match merger {
            Ok(None) => return,
            Ok(Some(merger)) => self
                .programs
                .set_merger(Some(merger))
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match used {
            Ok(()) => debug!("{} merges segments on their way in", self.merger.near()),
            Err(reason) => debug!("segments are not merged on their way in: {reason}"),
        }
    }

    fn tell(&self, options: &FastPathOptions, tunnel: Tunnel<'_>) {
        let how = self.programs.hook().name();
        let port = tunnel.spec.port;
        info!(
            "fast path on {}: eBPF programs ({how}) carry what is cheaper in the kernel; INPUT and OUTPUT rules for UDP port {port} do not see those packets (-fast-path=off)",
            tunnel.spec.device
        );
        if let Some(before) = self.programs.before() {
            let [sent, received] = [Count::FastSends, Count::FastReceives].map(|c| before.get(c));
            info!(
                "it takes the place of an earlier agent's, which had sent {sent} packets and received {received}, and left {} alone",
                before.get(Count::LeftAlone)
            );
        }
        if let Some(reason) = self.programs.unpinned() {
            info!(
                "the fast path ends with the agent, as it cannot be pinned under {}: {reason}",
                options.bpffs.display()
            );
        }
    }

    fn remove(self) {
        if let Err(error) = self.programs.remove() {
            warn!("the fast path could not be taken away as a whole: {error}");
        }
    }
}

/// Peers the paths to which are known to be narrow.
fn known(entries: &Entries, paths: Option<(&PathMtus, u64)>) -> Vec<(IpAddr, u16)> {
    let Some((paths, now)) = paths.filter(|(paths, _)| !paths.is_empty()) else {
        return Vec::new();
    };
    let mtu = |addr| Some((addr, paths.get(addr, now)?));
    entries.peers().filter_map(mtu).collect()
}
