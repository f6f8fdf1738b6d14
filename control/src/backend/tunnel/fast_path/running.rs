//! Programs at work: how they are started, looked after and told of.

use super::failures::Failures;
use super::merger::MergerName;
use super::options::FastPathOptions;
use super::routes::Routes;
use super::{TunnelFacts, leftovers, obstacles, underlay};
use crate::backend::host::Host;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tracing::{debug, info, warn};
use weft_dataplane::fastpath::{Config, Entries, FastPath, FastPathError, PeerPath, Policy};
use weft_dataplane::mtu::paths::PathMtus;
use weft_dataplane::route::table::Overlay;
use weft_dataplane::stats::Count;

/// What workers may hold when programs start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: they carry no packets yet.
    Nothing,
    /// What they have just read.
    Workers,
    /// What has waited for them since others stopped.
    Backlog,
}

/// What runs.
pub(super) struct Running {
    pub(super) programs: FastPath,
    underlay: u32,
    policy: Policy,
    failures: Failures,
    merger: MergerName,
    routes: Routes,
    /// What the table has of paths.
    paths: Vec<(IpAddr, PeerPath)>,
    /// A shaper that it has been told of.
    shaper: Option<String>,
}

impl Running {
    /// Load the programs, give them the table, and put them in place.
    pub(super) async fn start(
        host: &Host,
        tunnel: TunnelFacts<'_>,
        options: &FastPathOptions,
        entries: &Entries,
        before: Before,
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
            policy: underlay.policy(options),
            failures: Failures::default(),
            merger: MergerName::of(&tunnel.spec.device),
            routes: Routes::new(local)?,
            paths: Vec::new(),
            shaper: None,
        };
        let programs = &mut running.programs;
        programs.set_policy(running.policy).map_err(told)?;
        running.publish(entries, tunnel.paths).map_err(told)?;
        // Workers have the first packets of all, unless an earlier agent's programs have.
        let follows = before != Before::Nothing || !running.programs.takes_over();
        if follows {
            running.programs.wait_for_workers().map_err(told)?;
        }
        running.programs.attach().map_err(told)?;
        // Until now workers have had more, and on a busy machine for long.
        if follows {
            let backlog = before == Before::Backlog;
            running.programs.follow(backlog).map_err(told)?;
        }
        // If it is not to be needed, still that of an earlier run is used.
        let make = underlay.cuts(running.policy);
        running.use_merger(host, make).await;
        Ok(running)
    }

    /// Have the programs go by `entries`, and by what is known of the paths to peers.
    pub(super) fn publish(
        &mut self,
        entries: &Entries,
        paths: Option<(&PathMtus, u64)>,
    ) -> Result<(), FastPathError> {
        let device = self.policy.mtu;
        self.routes.look(&entries.peers().collect(), device);
        self.paths = self.known(entries, paths);
        let known: BTreeMap<_, _> = self.paths.iter().copied().collect();
        self.programs
            .publish(entries, |addr| known.get(&addr).copied())
    }

    /// Peers the paths to which are known to be narrow, or to lead nowhere.
    fn known(&self, entries: &Entries, paths: Option<(&PathMtus, u64)>) -> Vec<(IpAddr, PeerPath)> {
        let path = |addr| {
            let learned = paths.and_then(|(paths, now)| paths.get(addr, now));
            let path = match (self.routes.get(addr), learned) {
                (Some(PeerPath::Mtu(route)), Some(learned)) => PeerPath::Mtu(route.min(learned)),
                (Some(route), _) => route,
                (None, learned) => PeerPath::Mtu(learned?),
            };
            Some((addr, path))
        };
        entries.peers().filter_map(path).collect()
    }

    /// Tell the programs that the agent is there, and of what has changed; the reason if they
    /// cannot go on.
    pub(super) async fn look(
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
        self.failures.look(&self.programs.stats())?;
        obstacles::look(host, tunnel).await?;
        obstacles::tell_of_shaper(host, tunnel, &mut self.shaper).await;
        let policy = underlay.policy(options);
        match policy == self.policy {
            true => self.programs.beat().map_err(told)?,
            false => self.programs.set_policy(policy).map_err(told)?,
        }
        self.policy = policy;
        if let Some(entries) = entries {
            self.routes.look(&entries.peers().collect(), policy.mtu);
            if self.known(entries, tunnel.paths) != self.paths {
                self.publish(entries, tunnel.paths).map_err(told)?;
            }
        }
        if self.programs.wants_merger() {
            self.use_merger(host, true).await;
        }
        Ok(())
    }

    /// Give packets to no pair that somebody has removed or set down: they would be lost.
    async fn look_after_merger(&mut self, host: &Host) -> Result<(), FastPathError> {
        let Some(near) = self.programs.merger().map(|merger| merger.near) else {
            return Ok(());
        };
        match host.netlink.link_at(near).await {
            Ok(Some(link)) if link.up => Ok(()),
            Ok(_) => self.programs.set_merger(None),
            Err(_) => Ok(()),
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

    /// Log that they run, and what that means.
    pub(super) fn tell(&self, options: &FastPathOptions, tunnel: TunnelFacts<'_>) {
        let (how, what) = (self.programs.hook().name(), options.mode.carried());
        info!(
            "fast path on {}: eBPF programs ({how}) carry {what}; -fast-path=off switches them off",
            tunnel.spec.device
        );
        if let Some(before) = self.programs.before() {
            let [sent, received] = [Count::FastSends, Count::FastReceives].map(|c| before.get(c));
            let left = before.get(Count::LeftAlone) + before.get(Count::LeftExpired);
            info!(
                "it takes the place of an earlier agent's, which had sent {sent} packets and received {received}, and left {left} alone"
            );
        }
        if let Some(reason) = self.programs.unpinned() {
            info!(
                code = "W0602",
                "the fast path ends with the agent, as it cannot be pinned under {}: {reason}",
                options.bpffs.display()
            );
        }
    }

    /// Take away what else an earlier run has left for the tunnel; the reason why some of it may go on.
    pub(super) fn take_off_others(&self, tunnel: TunnelFacts<'_>) -> Option<String> {
        let others = self.programs.take_off_others();
        if others.removed > 0 {
            info!(
                "took {} programs of an earlier agent off, whose pins are not here",
                others.removed
            );
        }
        leftovers::unknown(others, &tunnel.spec.device)
    }

    /// Take the programs away.
    pub(super) fn remove(self) {
        if let Err(error) = self.programs.remove() {
            warn!(
                code = "W0605",
                "the fast path could not be taken away as a whole: {error}"
            );
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
