//! One node: takes a lease, sets the host up, carries packets and follows the other nodes'
//! leases until it is told to stop.
//!
//! # Order
//! Signal handlers, `/healthz`, the name that `-remove` looks for, the local socket, network config (waited for),
//! underlay interface, firewall programs, backend (device, port, MAC), lease (waited for),
//! firewall rules, the device's address and route, workers, blackhole route, `subnet.env`, then
//! lease renewal and the watch on the other nodes. The first peers come with the watch; only
//! then the node is ready, for `/readyz` and the service manager.
//!
//! What etcd said to the node's last run stands in for config, lease and list until it says them.
//! The firewall rules are then written beside what follows them, up to `subnet.env`.
//!
//! At the end the workers stop; what is in the kernel, `subnet.env`, the MAC and the lease
//! stay, so that the next start finds the same subnet and peers keep their entries.

mod error;
mod grant;
mod granted;
mod name;
mod node;
mod options;
mod registration;
mod remove;
mod rules;
mod signals;

use crate::host::netlink::Netlink;
use crate::host::{iface, open_files};
use crate::http::{HealthServer, Readiness};
use crate::lease::LeaseEnd;
use crate::notify::{self, State};
use crate::remembered::Remembered;
use crate::socket::{Calls, LocalSocket};
use crate::subnets::SubnetManager;
use crate::subnets::etcd::{EtcdSubnets, Timing};
use crate::subnets::fixed::{FixedSubnets, LocalAddress};
pub use error::AgentError;
use granted::Granted;
use name::AgentName;
use node::Node;
pub use options::AgentOptions;
use registration::Registration;
pub use remove::{RemoveError, remove};
use signals::Signals;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use tokio::runtime::Runtime;
use tracing::{info, warn};

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
        let etcd = EtcdSubnets::new(&options.etcd, Timing::default())?;
        let manager = Remembered::new(etcd, &options.remembered());
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

/// Run `main` to its end, or to a panic, and wait for nothing else: a thread that reads a file or
/// resolves a name may hang for ever with its file system or name server.
fn block_on_alone<T>(runtime: Runtime, main: impl Future<Output = T>) -> T {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(main)));
    runtime.shutdown_background();
    outcome.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

async fn agent(options: &AgentOptions, manager: &impl SubnetManager) -> Result<(), AgentError> {
    let mut signals = Signals::install()?;
    let readiness = Readiness::default();
    let health = match options.healthz.address() {
        Some(address) => Some(HealthServer::start(&address, readiness.clone()).await?),
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
        let name = AgentName::of(options).to_string();
        let registration = Registration::wait(name.clone()).await;
        // After the agent that had the name before has ended, and its socket with it.
        (registration, local_socket(options, &name))
    };
    let Some((mut registration, (_socket, mut calls))) = unless_stopped(signals, begin).await
    else {
        return Ok(());
    };
    loop {
        let begin = Granted::wait(options, manager);
        let Some(granted) = unless_stopped(signals, begin).await else {
            return Ok(());
        };
        let mut node = started(options, manager, granted?).await?;
        let requests = (&mut *signals, &mut calls);
        let result = node.serve(options, manager, requests, readiness, &mut registration);
        let result = result.await;
        if is_outdated(&result) {
            readiness.set(false);
            node.stop().await;
            info!("starting anew with what etcd says");
            continue;
        }
        notify::notify(State::Stopping);
        node.stop().await;
        manager.close().await;
        return result;
    }
}

/// What `begin` comes to; `None` if a signal to stop is there first.
async fn unless_stopped<T>(signals: &mut Signals, begin: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        name = signals.stop() => {
            notify::notify(State::Stopping);
            info!("{name}: stopped before the node was up");
            None
        }
        begun = begin => Some(begun),
    }
}

/// Whether a node ended only because what it went by from memory is no longer so.
fn is_outdated(result: &Result<(), AgentError>) -> bool {
    let Err(AgentError::LeaseOver { end, .. }) = result else {
        return false;
    };
    *end == LeaseEnd::Outdated
}

/// A node that carries packets.
async fn started(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    granted: Granted,
) -> Result<Node, AgentError> {
    // The rest takes seconds at most and is not broken off: a kernel device that has made room
    // must go or come back.
    let (lease, previous) = (granted.lease.clone(), granted.previous.clone());
    let node = granted.start(options).await;
    if node.is_err() {
        grant::give_back(manager, &lease, &previous).await;
    }
    node
}

/// The socket on which root asks, if there can be one.
fn local_socket(options: &AgentOptions, name: &str) -> (Option<LocalSocket>, Calls) {
    let Some(dir) = &options.socket_dir else {
        return (None, Calls::default());
    };
    match LocalSocket::start(dir, name) {
        Ok((socket, calls)) => (Some(socket), calls),
        Err(error) => {
            warn!("no local socket, so that weft fast-path cannot reach this agent: {error}");
            (None, Calls::default())
        }
    }
}

#[cfg(test)]
mod tests;
