//! A node at work: it follows leases and signals, and looks after what it has set up.

use super::error::AgentError;
use super::options::AgentOptions;
use super::post::{Post, Waiting};
use super::preparing::{Preparing, decline, milliseconds, monotonic};
use super::report::Reporter;
use super::rules::Rules;
use super::signals::{Request, Signals};
use crate::backend::Backend;
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::host::blackhole;
use crate::host::events::{Change, HostEvents};
use crate::host::subnet_env::{KeptEnv, SubnetEnv};
use crate::http::Readiness;
use crate::lease::{Lease, LeaseEnd, Previous};
use crate::notify::{self, State};
use crate::socket::{Answer, AnswerTo, Call, Verb};
use crate::subnets::SubnetManager;
use crate::text::span;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

/// Lease events that may wait for the agent, and the most that go into one table build.
const EVENT_QUEUE: usize = 1024;

/// Pause between two looks whether devices and workers are alive.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// Pause between two looks whether addresses and routes are as they should be; flannel's.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// How a node ended that could have gone on.
#[derive(Debug)]
pub(super) enum Served {
    /// A signal asked for it.
    Stopped,
    /// Another process carries its packets: a descriptor of it.
    HandedOver(OwnedFd),
}

/// How long workers wait for the peers to be known.
const PARKED: Duration = Duration::from_secs(2);

/// A node that has a lease and carries packets.
pub(super) struct Node {
    pub(super) lease: Lease,
    pub(super) backend: Backend,
    pub(super) firewall: Rules,
    /// Own subnets that a blackhole route is kept for, and what was last wrong with it.
    pub(super) blackholes: BTreeMap<IpNet, Option<String>>,
    /// What container runtimes learn the subnet from.
    pub(super) env: KeptEnv,
    /// Since when workers wait for their turn, and what is to be had until then.
    pub(super) parked: Option<(Instant, Option<Waiting>)>,
}

impl Node {
    /// A node whose backend runs: tell container runtimes the subnet, and set up the rest.
    pub(super) async fn new(
        options: &AgentOptions,
        config: &NetworkConfig,
        previous: &Previous,
        (lease, backend, firewall): (Lease, Backend, Rules),
        env: SubnetEnv,
    ) -> Node {
        let mut node = Node {
            blackholes: match options.blackhole_route {
                true => lease.subnets().map(|net| (net, None)).collect(),
                false => BTreeMap::new(),
            },
            lease,
            backend,
            firewall,
            env: KeptEnv::new(options.subnet_file.clone(), env),
            parked: None,
        };
        node.clear_blackholes(config, previous).await;
        node.resync().await;
        if !node.firewall.are_due() {
            node.env.ensure();
        }
        node
    }

    /// Remove the blackhole routes of earlier leases: others have those subnets, or will.
    async fn clear_blackholes(&self, config: &NetworkConfig, previous: &Previous) {
        let own: Vec<IpNet> = self.lease.subnets().collect();
        for family in Family::BOTH {
            let networks = [config.network(family), previous.network(family)];
            for network in networks.into_iter().flatten() {
                let own_len = self.lease.subnet(family).map(|subnet| subnet.prefix_len());
                let len = own_len.unwrap_or_else(|| config.subnet_len(family));
                let within = (network, len);
                blackhole::remove_stale(&self.backend.host().netlink, within, &own).await;
            }
        }
    }

    /// Put back what others have removed from the host's routes.
    pub(super) async fn resync(&mut self) {
        let netlink = &self.backend.host().netlink;
        for (&subnet, logged) in &mut self.blackholes {
            let outcome = blackhole::ensure(netlink, subnet).await;
            if let Ok(true) = outcome {
                info!("{subnet} has a blackhole route");
            }
            let now = outcome.err().map(|error| error.to_string());
            if let Some(reason) = now.as_ref().filter(|_| now != *logged) {
                warn!(code = "W0708", "{reason}; trying again");
            }
            *logged = now;
        }
    }

    /// Follow leases and signals until one of them ends the node.
    pub(super) async fn serve(
        &mut self,
        options: &AgentOptions,
        manager: &impl SubnetManager,
        signals: &mut Signals,
        post: &mut Post,
    ) -> Result<Served, AgentError> {
        let readiness = &post.readiness.clone();
        let mut preparing = Preparing::default();
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let own = self.lease.clone();
        let mut watch = pin!(manager.watch(&own, sender));
        let mut keep = pin!(manager.keep(own.clone(), options.renew_margin));
        let firewall = std::mem::take(&mut self.firewall);
        let mut guarded = !firewall.are_due();
        let (sender, mut written) = oneshot::channel();
        let mut rules = pin!(firewall.keep(options.firewall.resync, sender));
        let periods = [HEALTH_EVERY, RECONCILE_EVERY, options.firewall.resync];
        let [mut health, mut reconcile, mut resync] = periods.map(ticks);
        let mut changes = HostEvents::of_network();
        let mut batch = Vec::with_capacity(EVENT_QUEUE);
        let mut ready = false;
        let mut reporter = Reporter::new(options.metrics_peers, own.expires, manager);
        readiness.remember(manager.remembered(), manager.store());
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Counters => self.tell(manager),
                    Request::Stop(name) => {
                        info!("{name}: stopping");
                        return Ok(Served::Stopped);
                    }
                },
                call = post.call() => match call {
                    Call::Question(Verb::Status, asker) => {
                        let status = reporter.status(self.known(), manager, readiness, &post.tally);
                        asker.answer(Answer::Status(Box::new(status)));
                    }
                    Call::Question(verb, asker) => self.answer(verb, asker).await,
                    Call::Successor(claim, stream) => {
                        let visitor = (claim, stream);
                        let tally = &mut post.tally;
                        self.offer(visitor, options, manager, &mut preparing, tally).await;
                    }
                },
                prepared = preparing.ready() => match prepared {
                    Ok(successor) => {
                        if let Some(heir) = self.hand_on(successor, options, manager, post).await {
                            return Ok(Served::HandedOver(heir));
                        }
                    }
                    Err((successor, reason)) => {
                        post.tally.refused += 1;
                        decline(successor, &reason).await;
                    }
                },
                question = readiness.asked() => {
                    question.answer(reporter.status(self.known(), manager, readiness, &post.tally));
                }
                end = &mut keep => return Err(self.lease_over(end)),
                () = &mut watch => return Err(AgentError::WatchEnded),
                never = &mut rules => match never {},
                Ok(()) = &mut written, if !guarded => {
                    guarded = true;
                    self.env.ensure();
                    self.report(&mut ready, readiness);
                }
                // None come from a watch that has ended, which its own arm tells.
                1.. = events.recv_many(&mut batch, EVENT_QUEUE) => {
                    self.backend.apply(&mut batch).await?;
                    if self.unpark(post).await {
                        post.keep(&self.backend);
                    }
                    self.report(&mut ready, readiness);
                }
                changed = changes.next() => {
                    self.look(&changed).await?;
                    self.report(&mut ready, readiness);
                }
                _ = health.tick() => {
                    self.look_after_workers(post).await?;
                    readiness.remember(manager.remembered(), manager.store());
                }
                _ = reconcile.tick() => {
                    self.backend.reconcile().await;
                    if guarded {
                        self.env.ensure();
                    }
                    post.retry();
                    self.report(&mut ready, readiness);
                }
                _ = resync.tick() => self.resync().await,
            }
        }
    }

    /// Lease and backend, as who asks is told of them.
    fn known(&self) -> (&Lease, &Backend) {
        (&self.lease, &self.backend)
    }

    fn lease_over(&self, end: LeaseEnd) -> AgentError {
        let subnets = self.lease.to_string();
        AgentError::LeaseOver { end, subnets }
    }

    /// See whether devices and workers are alive, and workers are what is kept for the next run.
    async fn look_after_workers(&mut self, post: &mut Post) -> Result<(), AgentError> {
        self.unpark(post).await;
        self.backend.check_health().await?;
        if self.parked.is_none() {
            post.keep(&self.backend);
        }
        Ok(())
    }

    /// Put right at once what the looks from time to time would.
    async fn look(&mut self, changed: &BTreeSet<Change>) -> Result<(), AgentError> {
        let names: Vec<String> = changed.iter().map(Change::to_string).collect();
        debug!(
            "looking at once, as there are changes: {}",
            names.join(", ")
        );
        self.backend.check_health().await?;
        if changed.iter().any(|change| *change != Change::Queueing) {
            self.backend.reconcile().await;
            self.resync().await;
        }
        Ok(())
    }

    /// Log what of the kernel is in use, the counters, and how old what the node goes by is.
    fn tell(&self, manager: &impl SubnetManager) {
        self.backend.report();
        if let Some(at) = manager.remembered() {
            let age = span(at.elapsed().unwrap_or_default());
            info!(
                code = "W0306",
                "{} has not confirmed the lease and the other nodes, which are of {age} ago",
                manager.store()
            );
        }
    }

    /// Do what root asks for over the local socket.
    async fn answer(&mut self, verb: Verb, asker: AnswerTo) {
        let answer = match verb {
            Verb::FastPath { mode } => Answer::FastPath(self.backend.fast_path(mode).await),
            Verb::Peers => Answer::Peers(self.backend.peer_status()),
            // Status is told above, and a successor comes with its connection.
            Verb::Status | Verb::HandOver(_) => return,
        };
        asker.answer(answer);
    }

    /// Have workers begin that wait for their turn, once the peers are known, or it takes too long:
    /// what waits with them grows old. Whether they have.
    async fn unpark(&mut self, post: &mut Post) -> bool {
        let is_time = |(since, _): &mut (Instant, _)| since.elapsed() >= PARKED;
        let listed = self.backend.is_listed();
        let Some((_, waiting)) = self.parked.take_if(|parked| listed || is_time(parked)) else {
            return false;
        };
        self.backend.go();
        let since = waiting.as_ref().and_then(|waiting| waiting.since);
        let waited = since.map(|since| monotonic().saturating_sub(since));
        post.gone_on(waited);
        let waited = waited.map_or(String::new(), |waited| {
            format!("; packets waited {:.1} ms", milliseconds(waited))
        });
        let ways = self.backend.ways();
        info!("{ways}: going on with what the service manager kept of the last run{waited}");
        self.backend.start_fast_paths().await;
        // Not before: until then programs find the workers by what it holds.
        drop(waiting);
        true
    }

    /// Tell who wants to know whether the node can be used. It is `ready` from when the peers
    /// are in force and container runtimes can learn the subnet for the first time; only the
    /// loss of an address or of `subnet.env` interrupts that.
    pub(super) fn report(&self, ready: &mut bool, readiness: &Readiness) {
        if !*ready && self.backend.is_settled() && self.env.is_right() {
            *ready = true;
            let (ways, peers) = (self.backend.ways(), self.backend.peers());
            info!("ready: {} on {ways}, peers: {peers}", self.lease);
            notify::notify(State::Ready);
        }
        readiness.set(*ready && self.is_usable());
    }

    /// Whether, as long as the peers are in force, nothing is in the way of pods.
    pub(super) fn is_usable(&self) -> bool {
        self.env.is_right() && self.backend.has_underlay()
    }

    pub(super) async fn stop(self) {
        self.backend.stop().await;
    }

    /// Stop the workers, and leave what they work with, and packets that come, to the next process.
    pub(super) fn rest(mut self) {
        self.backend.make_room();
        self.backend.pause();
        let ways = self.backend.ways();
        info!("stopped; the service manager keeps {ways} with its sockets for the next start");
        self.backend.leave();
    }

    /// Leave everything to the process that has taken over.
    pub(super) fn leave(self) {
        self.backend.leave();
    }
}

/// Ticks that never come in a burst after a delay, each second at most.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period.max(HEALTH_EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
