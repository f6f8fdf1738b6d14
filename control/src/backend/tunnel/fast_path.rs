//! The fast path of a tunnel: when there is one, and what becomes of it.
//!
//! It is started when all peers are known for the first time, in the place of one that an earlier
//! agent has left, and looked after each second. Whatever goes wrong with it costs one line in the
//! log: the workers then carry everything, and it is tried again after a while.

mod failures;
pub(super) mod leftovers;
mod merger;
mod obstacles;
mod options;
mod report;
mod routes;
mod running;
mod underlay;

use super::spec::TunnelSpec;
use crate::backend::host::Host;
pub use options::{FastPathMode, FastPathOptions};
pub use report::FastPathReport;
use running::{Before, Running};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use weft_dataplane::fastpath::{Entries, FastPath};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::route::table::Overlay;
use weft_dataplane::stats::WorkerStats;

/// Pause before what was refused is tried again, and between two starts at once.
const RETRY: Duration = Duration::from_secs(60);

/// For longer no packet is on its way through what was switched off.
const DRAINED: Duration = Duration::from_millis(500);

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
    /// What was switched off and is to be taken away, and since when it is so.
    closed: Option<(Running, Instant)>,
    /// What workers may hold when programs start the next time.
    before: Before,
    /// Nothing is to be started yet: the programs of the process that was before are in their
    /// places, and find its workers.
    held: bool,
    /// What programs have counted that run no longer.
    past: WorkerStats,
    /// When to try again.
    retry: Option<Instant>,
    /// When it was last started again at once.
    restarted: Option<Instant>,
    /// The last refusal that was logged.
    said: Option<String>,
    /// What was last said of programs of an earlier run that go on.
    others: Option<String>,
    /// Rules that do not see its packets have been told.
    rules_told: bool,
    /// Pins and pair of an earlier run are gone, though nothing runs.
    cleared: bool,
    /// How often programs were started.
    starts: u64,
}

impl TunnelFastPath {
    /// That of a tunnel that goes on where that of another process stops, or of a new one.
    pub(super) fn new(options: &FastPathOptions, inherited: bool) -> TunnelFastPath {
        TunnelFastPath {
            options: options.clone(),
            entries: None,
            running: None,
            closed: None,
            before: match inherited {
                true => Before::Backlog,
                false => Before::Nothing,
            },
            held: inherited,
            past: WorkerStats::default(),
            retry: None,
            restarted: None,
            said: None,
            others: None,
            rules_told: false,
            cleared: false,
            starts: 0,
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
        if self.running.is_none() && self.is_due() {
            self.start(host, tunnel).await;
        }
    }

    /// Whether it may be started, as far as earlier refusals go.
    fn is_due(&self) -> bool {
        !self.held && self.retry.is_none_or(|at| Instant::now() >= at)
    }

    /// Start what was held back, once workers carry the packets.
    pub(super) async fn start_held(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        if std::mem::take(&mut self.held) {
            self.start(host, tunnel).await;
        }
    }

    /// Tell the programs that the agent is there, and of what has changed; start them if it is
    /// time to.
    pub(super) async fn look(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        let closed = self.closed.as_ref();
        let drains = closed.is_some_and(|(_, since)| since.elapsed() < DRAINED);
        if drains && self.options.mode == FastPathMode::Off {
            return;
        }
        self.take_away_closed();
        let Some(running) = &mut self.running else {
            if self.is_due() {
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
                Ok(()) => self.closed = Some((running, Instant::now())),
                Err(_) => self.retire(running),
            }
        }
    }

    /// Take away what was switched off.
    pub(super) fn take_away_closed(&mut self) {
        if let Some((closed, _)) = self.closed.take() {
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

    /// Let packets overtake nothing that waits while workers stop, or that had waited before they
    /// began.
    pub(super) fn wait_for_backlog(&mut self) {
        if let Some(running) = &mut self.running
            && let Err(error) = running.programs.wait_for_backlog()
        {
            debug!("flows of the workers may be reordered once: {error}");
        }
    }

    /// Take the programs away, if they run.
    fn end(&mut self) {
        self.take_away_closed();
        if let Some(running) = self.running.take() {
            self.retire(running);
        }
    }

    fn retire(&self, mut running: Running) {
        // What passes from here on is the workers' count. If it cannot be closed, removal tells.
        let _ = running.programs.close();
        self.past.absorb(&running.programs.stats());
        running.remove();
    }

    async fn start(&mut self, host: &Host, tunnel: TunnelFacts<'_>) {
        let Some(entries) = &self.entries else { return };
        if self.options.mode == FastPathMode::Off || tunnel.spec.local.is_ipv6() {
            self.clear(host, tunnel).await;
            return;
        }
        let before = std::mem::replace(&mut self.before, Before::Workers);
        match Running::start(host, tunnel, &self.options, entries, before).await {
            Ok(running) => {
                running.tell(&self.options, tunnel);
                self.tell_of_others(running.take_off_others(tunnel));
                if !std::mem::replace(&mut self.rules_told, true) {
                    tokio::spawn(obstacles::tell_of_rules(tunnel.spec.port));
                }
                self.running = Some(running);
                (self.retry, self.said) = (None, None);
                self.starts += 1;
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
        let (any, stays) = leftovers::remove_of(&host.netlink, &self.options.bpffs, device).await;
        if any {
            info!("removed the fast path that an earlier run had left for {device}");
        }
        self.tell_of_others(stays);
    }

    /// Warn of an earlier run's programs that go on, once for each reason.
    fn tell_of_others(&mut self, stays: Option<String>) {
        if let Some(reason) = stays.as_ref().filter(|_| self.others != stays) {
            warn!(code = "W0607", "{reason}");
        }
        self.others = stays;
    }

    /// Let the workers carry all, and say why, once for each reason.
    fn give_up(&mut self, reason: &str) {
        self.end();
        if self.said.as_deref() != Some(reason) {
            warn!(
                code = "W0601",
                "no fast path: {reason}; the workers carry all packets, and it is tried again each minute (-fast-path=off silences this)"
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
        let closed = self.closed.iter().map(|(closed, _)| closed);
        for programs in self.running.iter().chain(closed) {
            stats.absorb(&programs.programs.stats());
        }
        stats
    }

    /// How often programs were started.
    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    /// What the programs find the workers by.
    pub(super) fn hold(&self) -> Option<OwnedFd> {
        self.running.as_ref()?.programs.hold()
    }

    /// Let the programs go on without the agent, where they can.
    pub(super) fn leave(mut self) {
        self.take_away_closed();
        if let Some(running) = self.running {
            running.programs.leave();
        }
    }
}
