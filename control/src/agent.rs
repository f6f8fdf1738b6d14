//! One node: takes a lease, sets the host up, carries packets and follows the other nodes'
//! leases until it is told to stop.
//!
//! # Order
//! Signal handlers, `/healthz`, the name that `-remove` looks for, network config (waited for),
//! underlay interface, firewall programs, backend (device, port, MAC), lease (waited for),
//! firewall rules, the device's address and route, workers, blackhole route, `subnet.env`, then
//! lease renewal and the watch on the other nodes. The first peers come with the watch; only
//! then the node is ready, for `/readyz` and the service manager.
//!
//! At the end the workers stop; what is in the kernel, `subnet.env`, the MAC and the lease
//! stay, so that the next start finds the same subnet and peers keep their entries.

mod grant;
mod name;
mod options;
mod remove;
mod rules;
mod seen;
mod signals;

use crate::backend::{Backend, BackendError, Host, Prepared};
use crate::config::{NetworkConfig, NetworkRange};
use crate::family::Family;
use crate::host::blackhole;
use crate::host::bridge;
use crate::host::firewall::{Firewall, FirewallError};
use crate::host::forwarding;
use crate::host::iface::{self, IfaceError};
use crate::host::netlink::{Netlink, NetlinkError};
use crate::host::open_files;
use crate::host::subnet_env::{self, KeptEnv, SubnetEnv};
use crate::http::{Health, HealthError, Readiness};
use crate::lease::{Lease, LeaseEnd, Previous};
use crate::notify::{self, State};
use crate::subnets::etcd::{EtcdSubnets, Timing};
use crate::subnets::fixed::{FixedSubnets, LocalAddress};
use crate::subnets::{self, SubnetError, SubnetManager};
use ipnet::IpNet;
use name::AgentName;
pub use options::AgentOptions;
pub use remove::{RemoveError, remove};
use seen::Seen;
use signals::{Request, Signals};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// Lease events that may wait for the agent, and the most that go into one table build.
const EVENT_QUEUE: usize = 1024;

/// Pause between two looks whether devices and workers are alive.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Pause between two looks whether addresses and routes are as they should be; flannel's.
const MEND_EVERY: Duration = Duration::from_secs(10);

/// Why the agent cannot start or go on. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The runtime or the signal handlers.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The subnet manager refuses.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// `/healthz` cannot be served.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// No underlay interface.
    #[error(transparent)]
    Iface(#[from] IfaceError),
    /// The kernel cannot be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Nothing can be masqueraded on this host.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Packets cannot be carried.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The subnet manager no longer reports leases.
    #[error("the watch on the other nodes' leases ended by itself; start again")]
    WatchEnded,
    /// The lease is over.
    #[error("{end}: {}", after(.end, .subnets))]
    LeaseOver {
        /// How it ended.
        end: LeaseEnd,
        /// The subnets it was for.
        subnets: String,
    },
}

/// What the end of a lease means, and what to do.
fn after(end: &LeaseEnd, subnets: &str) -> String {
    match end {
        LeaseEnd::Changed { .. } => "start again to use it".to_owned(),
        LeaseEnd::Revoked | LeaseEnd::Taken { .. } | LeaseEnd::Overlapped { .. } => {
            format!("{subnets} is no longer this node's; start again to take a new lease")
        }
    }
}

/// Run the agent until SIGINT or SIGTERM.
pub fn run(options: &AgentOptions) -> Result<(), AgentError> {
    open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    block_on_alone(runtime, async {
        if let Some(file) = &options.subnets_file {
            let manager = FixedSubnets::new(file.clone(), own_address)?;
            return agent(options, &manager).await;
        }
        let manager = EtcdSubnets::new(&options.etcd, Timing::default())?;
        agent(options, &manager).await
    })
}

/// The first of these addresses that this host has.
async fn own_address(addrs: Vec<IpAddr>) -> Option<LocalAddress> {
    let netlink = Netlink::connect().ok()?;
    let local = iface::first_local(&netlink, addrs).await.ok()??;
    Some(LocalAddress {
        addr: local.addr,
        name: local.name,
        choice: local.choice,
    })
}

/// Run `main` to its end, and wait for nothing else: a thread that reads a file or resolves a
/// name may hang for ever with its file system or name server.
fn block_on_alone<T>(runtime: Runtime, main: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(main);
    runtime.shutdown_background();
    outcome
}

async fn agent(options: &AgentOptions, manager: &impl SubnetManager) -> Result<(), AgentError> {
    let mut signals = Signals::install()?;
    let readiness = Readiness::default();
    let health = match options.healthz.address() {
        Some(address) => Some(Health::start(&address, readiness.clone()).await?),
        None => None,
    };
    let result = run_node(options, manager, &mut signals, &readiness).await;
    if let Some(health) = health {
        health.stop().await;
    }
    result
}

async fn run_node(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    signals: &mut Signals,
    readiness: &Readiness,
) -> Result<(), AgentError> {
    let begin = async {
        let seen = Seen::wait(AgentName::of(options).to_string()).await;
        (seen, Granted::wait(options, manager).await)
    };
    let (mut seen, granted) = tokio::select! {
        biased;
        name = signals.stop() => {
            notify::notify(State::Stopping);
            info!("{name}: stopped before the node was up");
            return Ok(());
        }
        begun = begin => begun,
    };
    let granted = granted?;
    // The rest takes seconds at most and is not broken off: a kernel device that has made room
    // must go or come back.
    let (lease, previous) = (granted.lease.clone(), granted.previous.clone());
    let mut node = match granted.start(options).await {
        Ok(node) => node,
        Err(error) => {
            grant::give_back(manager, &lease, &previous).await;
            return Err(error);
        }
    };
    let result = node.serve(options, manager, signals, readiness, &mut seen);
    let result = result.await;
    notify::notify(State::Stopping);
    node.stop();
    result
}

/// A node that has a lease, and whose backend has only to be started.
struct Granted {
    config: NetworkConfig,
    prepared: Prepared,
    previous: Previous,
    lease: Lease,
    firewall: Firewall,
}

impl Granted {
    /// Wait for a lease; anew if the network config changes meanwhile.
    async fn wait(
        options: &AgentOptions,
        manager: &impl SubnetManager,
    ) -> Result<Granted, AgentError> {
        loop {
            match Granted::once(options, manager).await {
                Err(AgentError::Subnet(error @ SubnetError::ConfigChanged)) => {
                    info!("{error}: starting with the new one");
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(
        options: &AgentOptions,
        manager: &impl SubnetManager,
    ) -> Result<Granted, AgentError> {
        let config = subnets::wait_for_config(manager).await;
        // All that can fail by itself comes before the lease: a node that cannot run takes none.
        let host = host(options, &config).await?;
        rules::check(&options.firewall, &config).await?;
        let mut prepared = Prepared::new(host, &config).await?;
        let previous = subnet_env::read_previous(&options.subnet_file);
        let lease = grant::take(manager, &config, &mut prepared, &previous).await?;
        subnet_env::remove_stale(&options.subnet_file, &lease);
        let (flavour, spec) = rules::wanted(&options.firewall, &config, &lease, prepared.tap());
        let firewall = Firewall::install(flavour, &spec).await;
        Ok(Granted {
            config,
            prepared,
            previous,
            lease,
            firewall,
        })
    }

    /// Start the backend, and tell container runtimes the subnet.
    async fn start(self, options: &AgentOptions) -> Result<Node, AgentError> {
        let Granted {
            config,
            prepared,
            previous,
            lease,
            firewall,
        } = self;
        let backend = prepared.start(&config, &lease, &previous).await?;
        let env = SubnetEnv {
            networks: lease.networks(&config),
            mtu: backend.mtu(),
            ip_masq: options.firewall.ip_masq,
        };
        let mut node = Node {
            blackholes: match options.blackhole_route {
                true => lease.subnets().map(|net| (net, None)).collect(),
                false => BTreeMap::new(),
            },
            lease,
            backend,
            firewall,
            env: KeptEnv::new(options.subnet_file.clone(), env),
        };
        node.clear_blackholes(&config, &previous).await;
        node.resync().await;
        node.env.ensure();
        Ok(node)
    }
}

/// A node that has a lease and carries packets.
struct Node {
    lease: Lease,
    backend: Backend,
    firewall: Firewall,
    /// Own subnets that a blackhole route is kept for, and what was last wrong with it.
    blackholes: BTreeMap<IpNet, Option<String>>,
    /// What container runtimes learn the subnet from.
    env: KeptEnv,
}

impl Node {
    /// Remove the blackhole routes of earlier leases: others have those subnets, or will.
    async fn clear_blackholes(&self, config: &NetworkConfig, previous: &Previous) {
        let own: Vec<IpNet> = self.lease.subnets().collect();
        for family in Family::BOTH {
            let networks = [config.network(family), previous.network(family)];
            for network in networks.into_iter().flatten() {
                let within = (network, config.subnet_len(family));
                blackhole::remove_stale(&self.backend.host().netlink, within, &own).await;
            }
        }
    }

    /// Put back what others have removed from the host's routes.
    async fn resync(&mut self) {
        let netlink = &self.backend.host().netlink;
        for (&subnet, trouble) in &mut self.blackholes {
            let outcome = blackhole::ensure(netlink, subnet).await;
            if let Ok(true) = outcome {
                info!("{subnet} has a blackhole route");
            }
            let now = outcome.err().map(|error| error.to_string());
            if let Some(reason) = now.as_ref().filter(|_| now != *trouble) {
                warn!("{reason}; trying again");
            }
            *trouble = now;
        }
    }

    /// Follow leases and signals until one of them ends the node.
    async fn serve(
        &mut self,
        options: &AgentOptions,
        manager: &impl SubnetManager,
        signals: &mut Signals,
        readiness: &Readiness,
        seen: &mut Seen,
    ) -> Result<(), AgentError> {
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let own = self.lease.clone();
        let mut watch = pin!(manager.watch(&own, sender));
        let mut keep = pin!(manager.keep(own.clone(), options.renew_margin));
        let firewall = std::mem::take(&mut self.firewall);
        let mut rules = pin!(firewall.keep(options.firewall.resync));
        let periods = [WATCH_EVERY, MEND_EVERY, options.firewall.resync];
        let [mut alive, mut mend, mut resync] = periods.map(ticks);
        let mut batch = Vec::with_capacity(EVENT_QUEUE);
        let mut ready = false;
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Counters => self.backend.report(),
                    Request::Stop(name) => {
                        info!("{name}: stopping");
                        return Ok(());
                    }
                },
                end = &mut keep => {
                    let subnets = self.lease.to_string();
                    return Err(AgentError::LeaseOver { end, subnets });
                }
                () = &mut watch => return Err(AgentError::WatchEnded),
                never = &mut rules => match never {},
                // None come from a watch that has ended, which its own arm tells.
                1.. = events.recv_many(&mut batch, EVENT_QUEUE) => {
                    self.backend.apply(&mut batch).await?;
                    self.tell(&mut ready, readiness);
                }
                _ = alive.tick() => self.backend.watch().await?,
                _ = mend.tick() => {
                    self.backend.mend().await;
                    self.env.ensure();
                    seen.again();
                    self.tell(&mut ready, readiness);
                }
                _ = resync.tick() => self.resync().await,
            }
        }
    }

    /// Tell who wants to know whether the node can be used. It is `ready` from when the peers
    /// are in force and container runtimes can learn the subnet for the first time; only the
    /// loss of an address or of `subnet.env` interrupts that.
    fn tell(&self, ready: &mut bool, readiness: &Readiness) {
        if !*ready && self.backend.is_settled() && self.env.is_right() {
            *ready = true;
            let (ways, peers) = (self.backend.ways(), self.backend.peers());
            info!("ready: {} on {ways}, peers: {peers}", self.lease);
            notify::notify(State::Ready);
        }
        readiness.set(*ready && self.env.is_right() && self.backend.has_underlay());
    }

    fn stop(self) {
        self.backend.stop();
    }
}

/// Ticks that never come in a burst after a delay, each second at most.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period.max(WATCH_EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The kernel and the underlay interface.
async fn host(options: &AgentOptions, config: &NetworkConfig) -> Result<Host, AgentError> {
    let netlink = Netlink::connect()?;
    let families = config.ranges.is_some();
    if !config.enable_nftables {
        bridge::warn_without_netfilter(families);
    }
    forwarding::warn_without(families);
    let underlay = iface::choose(&netlink, &options.interface, families).await?;
    info!("packets leave through {underlay}");
    for NetworkRange { network, .. } in config.ranges.present() {
        for addr in underlay
            .local
            .present()
            .filter(|addr| network.contains(addr))
        {
            warn!(
                "{addr} of {} lies inside Network {network}: packets to other nodes may be routed into the tunnel",
                underlay.name
            );
        }
    }
    Ok(Host {
        netlink,
        underlay,
        options: options.backend.clone(),
        mark: AgentName::of(options).mark(),
    })
}

#[cfg(test)]
mod tests;
