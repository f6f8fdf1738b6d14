//! The fast path of a tunnel: when there is one, and what becomes of it.
//!
//! It is started when all peers are known for the first time, in the place of one that an earlier
//! agent has left, and looked after each second. Whatever goes wrong with it costs one line in the
//! log: the workers then carry everything, and it is tried again after a while.

pub(super) mod leftovers;
mod merger;
mod obstacles;
mod options;
mod report;
mod routes;
mod underlay;

use super::spec::TunnelSpec;
use crate::backend::host::Host;
use merger::MergerName;
pub use options::{FastPathMode, FastPathOptions};
pub use report::FastPathReport;
use routes::RouteMtus;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use weft_dataplane::fastpath::{Config, Entries, FastPath, FastPathError, Policy};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::route::table::Overlay;
use weft_dataplane::stats::{Count, WorkerStats};

/// Pause before what was refused is tried again, and between two starts at once.
const RETRY: Duration = Duration::from_secs(60);

/// What the fast path must know of its tunnel.
#[derive(Clone, Copy)]
pub(super) struct TunnelFacts<'a> {
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
    /// What was switched off and is to be taken away.
    closed: Option<Running>,
    /// Workers carry packets, or have done so.
    late: bool,
    /// What programs have counted that run no longer.
    past: WorkerStats,
    /// When to try again.
    retry: Option<Instant>,
    /// When it was last started again at once.
    restarted: Option<Instant>,
    /// The last refusal that was logged.
    said: Option<String>,
    /// Rules that do not see its packets have been told.
    rules_told: bool,
    /// Pins and pair of an earlier run are gone, though nothing runs.
    cleared: bool,
}

/// What runs.
struct Running {
    programs: FastPath,
    underlay: u32,
    policy: Policy,
    merger: MergerName,
    routes: RouteMtus,
    /// MTUs of paths that the table has.
    mtus: Vec<(IpAddr, u16)>,
    /// A shaper that it has been told of.
    shaper: Option<String>,
}

impl TunnelFastPath {
    pub(super) fn new(options: &FastPathOptions) -> TunnelFastPath {
        TunnelFastPath {
            options: options.clone(),
            entries: None,
            running: None,
            closed: None,
            late: false,
            past: WorkerStats::default(),
            retry: None,
            restarted: None,
            said: None,
            rules_told: false,
            cleared: false,
        }
    }

    /// Have the programs go by `entries`, which are of all peers; start them if they do not run.
    pub(super) async fn publish(&mut self, host: &Host, tunnel: TunnelFacts<'_>, entries: Entries) {
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
    pub(super) async fn look(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        self.take_away_closed();
        let Some(running) = &mut self.running else {
            if self.retry.is_none_or(|at| Instant::now() >= at) {
                self.start(host, tunnel).await;
            }
            return;
        };
        let outcome = running.look(host, tunnel, &self.options, self.entries.as_ref());
        if let Err(reason) = outcome.await {
            // What somebody takes away again and again is tried seldom.
            let again = self.restarted.is_none_or(|at| at.elapsed() >= RETRY);
            if again {
                self.said = None;
            }
            self.give_up(&reason);
            if again {
                self.restarted = Some(Instant::now());
                self.start(host, tunnel).await;
            }
        }
    }

    /// Have another mode from now on. Nothing is lost by that, and no packet overtakes another:
    /// what is switched off lets go of no packet that it has, and flows that workers have stay with
    /// them until they pause.
    pub(super) async fn set_mode(
        &mut self,
        host: &Host,
        tunnel: TunnelFacts<'_>,
        mode: FastPathMode,
    ) {
        if mode != self.options.mode {
            let was = self.options.mode.name();
            info!(
                "switching the fast path of {} from {was} to {}",
                tunnel.spec.device,
                mode.name()
            );
        }
        self.options.mode = mode;
        (self.retry, self.said, self.cleared) = (None, None, false);
        if mode != FastPathMode::Off {
            self.look(host, tunnel).await;
        } else if let Some(mut running) = self.running.take() {
            match running.programs.close() {
                // Packets may be on their way through the merging pair.
                Ok(()) => self.closed = Some(running),
                Err(_) => self.retire(running),
            }
        }
    }

    fn take_away_closed(&mut self) {
        if let Some(closed) = self.closed.take() {
            self.retire(closed);
        }
    }

    /// How it is, for who asks.
    pub(super) fn report(&self, spec: &TunnelSpec) -> FastPathReport {
        let programs = self.running.as_ref().map(|running| &running.programs);
        let unpinned = programs.and_then(FastPath::unpinned);
        let unpinned = unpinned.map(|why| format!("they end with the agent: {why}"));
        let refused = match spec.local.is_ipv6() {
            true => Some("IPv6 is theirs".to_owned()),
            false => self.said.clone(),
        };
        let refused =
            refused.filter(|_| programs.is_none() && self.options.mode != FastPathMode::Off);
        FastPathReport {
            device: spec.device.clone(),
            mode: self.options.mode,
            hook: programs.map(|programs| programs.hook().name().to_owned()),
            reason: unpinned.or(refused),
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
        self.take_away_closed();
        if let Some(running) = self.running.take() {
            self.retire(running);
        }
    }

    fn retire(&self, running: Running) {
        self.past.absorb(&running.programs.stats());
        running.remove();
    }

    async fn start(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        let Some(entries) = &self.entries else { return };
        if self.options.mode == FastPathMode::Off || tunnel.spec.local.is_ipv6() {
            self.clear(host, tunnel).await;
            return;
        }
        let late = std::mem::replace(&mut self.late, true);
        match Running::start(host, tunnel, &self.options, entries, late).await {
            Ok(running) => {
                running.tell(&self.options, tunnel);
                if !std::mem::replace(&mut self.rules_told, true) {
                    tokio::spawn(obstacles::tell_of_rules(tunnel.spec.port));
                }
                self.running = Some(running);
                self.retry = None;
            }
            Err(reason) => {
                // Some of it may be in place.
                self.cleared = false;
                self.clear(host, tunnel).await;
                self.give_up(&reason);
            }
        }
    }

    /// Take away what an earlier run has left: it would go on beside the workers.
    async fn clear(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        if std::mem::replace(&mut self.cleared, true) || tunnel.spec.local.is_ipv6() {
            return;
        }
        let device = &tunnel.spec.device;
        match leftovers::remove_of(&host.netlink, &self.options.bpffs, device).await {
            Ok(true) => info!("removed the fast path that an earlier run had left for {device}"),
            Ok(false) => {}
            Err(error) => debug!("what an earlier run may have left for {device}: {error}"),
        }
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
        for programs in self.running.iter().chain(&self.closed) {
            stats.absorb(&programs.programs.stats());
        }
        stats
    }

    /// Let the programs go on without the agent, where they can.
    pub(super) fn leave(mut self) {
        self.take_away_closed();
        if let Some(running) = self.running {
            running.programs.leave();
        }
    }
}

impl Running {
    /// Load the programs, give them the table, and put them in place.
    async fn start(
        host: &Host,
        tunnel: TunnelFacts<'_>,
        options: &FastPathOptions,
        entries: &Entries,
        late: bool,
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
        let programs = load(config, tunnel.overlay.clone()).await?;
        let mut running = Running {
            programs,
            underlay: underlay.index,
            policy: underlay.policy(options.mode),
            merger: MergerName::of(&tunnel.spec.device),
            routes: RouteMtus::new(local)?,
            mtus: Vec::new(),
            shaper: None,
        };
        let programs = &mut running.programs;
        programs.set_policy(running.policy).map_err(told)?;
        running.publish(entries, tunnel.paths).map_err(told)?;
        if late {
            running.programs.follow_workers().map_err(told)?;
        }
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
        let device = self.policy.mtu;
        self.routes.look(&entries.peers().collect(), device);
        self.mtus = self.known(entries, paths);
        let known: BTreeMap<_, _> = self.mtus.iter().copied().collect();
        self.programs
            .publish(entries, |addr| known.get(&addr).copied())
    }

    /// Peers the paths to which are known to be narrow.
    fn known(&self, entries: &Entries, paths: Option<(&PathMtus, u64)>) -> Vec<(IpAddr, u16)> {
        let mtu = |addr| {
            let learned = paths.and_then(|(paths, now)| paths.get(addr, now));
            let mtu = learned.into_iter().chain(self.routes.get(addr)).min()?;
            Some((addr, mtu))
        };
        entries.peers().filter_map(mtu).collect()
    }

    async fn look(
        &mut self,
        host: &Host,
        tunnel: TunnelFacts<'_>,
        options: &FastPathOptions,
        entries: Option<&Entries>,
    ) -> Result<(), String> {
        let told = |error: FastPathError| error.to_string();
        let underlay = underlay::look(host).await?;
        if underlay.index != self.underlay {
            return Err(format!("{} was made anew", host.underlay.name));
        }
        self.look_after_merger(host).await.map_err(told)?;
        if !self.programs.is_in_place() {
            return Err("somebody has removed the programs or their pins".to_owned());
        }
        obstacles::look(host, tunnel).await?;
        obstacles::tell_of_shaper(host, tunnel, &mut self.shaper).await;
        let policy = underlay.policy(options.mode);
        match policy == self.policy {
            true => self.programs.beat().map_err(told)?,
            false => self.programs.set_policy(policy).map_err(told)?,
        }
        self.policy = policy;
        if let Some(entries) = entries {
            self.routes.look(&entries.peers().collect(), policy.mtu);
            if self.known(entries, tunnel.paths) != self.mtus {
                self.publish(entries, tunnel.paths).map_err(told)?;
            }
        }
        if self.programs.wants_merger() {
            self.use_merger(host, true).await;
        }
        Ok(())
    }

    /// Give packets to no pair that somebody has removed: they would be lost.
    async fn look_after_merger(&mut self, host: &Host) -> Result<(), FastPathError> {
        let Some(near) = self.programs.merger().map(|merger| merger.near) else {
            return Ok(());
        };
        match host.netlink.link_at(near).await {
            Ok(None) => self.programs.set_merger(None),
            _ => Ok(()),
        }
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

    fn tell(&self, options: &FastPathOptions, tunnel: TunnelFacts<'_>) {
        let how = self.programs.hook().name();
        info!(
            "fast path on {}: eBPF programs ({how}) carry what is cheaper in the kernel (-fast-path=off)",
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

/// Load the programs on a thread of its own: with the kernel's types, which aya reads each time, it
/// takes about 100 ms.
async fn load(config: Config, overlay: Overlay) -> Result<FastPath, String> {
    let loading = tokio::task::spawn_blocking(move || FastPath::load(config, &overlay));
    let loaded = loading.await.map_err(|error| error.to_string())?;
    loaded.map_err(|error| error.to_string())
}
