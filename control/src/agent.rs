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
//! What the store said to the node's last run stands in for config, lease and list until it says them.
//! The firewall rules are then written beside what follows them, up to `subnet.env`.
//!
//! Where an agent of the same name runs already, all of that but what only one can have is made
//! ready beside it, and then it hands over: see [`hand_over`](crate::hand_over).
//!
//! At the end the workers stop; what is in the kernel, `subnet.env`, the MAC and the lease
//! stay, so that the next start finds the same subnet and peers keep their entries.

mod error;
mod grant;
mod granted;
mod hand_on;
mod linger;
mod name;
mod node;
mod options;
mod post;
mod preparing;
mod registration;
mod remove;
mod report;
mod rules;
mod signals;
mod take_over;

use crate::backend::take_passed;
use crate::hand_over::store;
use crate::host::netlink::Netlink;
use crate::host::{iface, open_files};
use crate::lease::LeaseEnd;
use crate::notify::{self, State};
use crate::remembered::Remembered;
use crate::subnets::SubnetManager;
use crate::subnets::etcd::{EtcdSubnets, Timing};
use crate::subnets::fixed::{FixedSubnets, LocalAddress};
use crate::subnets::kube::{KubeSubnets, KubeTiming};
pub use error::AgentError;
use granted::Granted;
use linger::linger;
use name::AgentName;
use node::{Node, Served};
pub use options::{AgentOptions, LogFormat};
use post::Post;
use preparing::monotonic;
pub use remove::{RemoveError, remove};
use signals::Signals;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use tokio::runtime::Runtime;
use tracing::info;

/// Run the agent until SIGINT or SIGTERM.
pub fn run(options: &AgentOptions) -> Result<(), AgentError> {
    // Before anything is opened.
    let names = store::passed(std::process::id(), |name| std::env::var(name).ok());
    let mut passed = take_passed(names);
    passed.retain(|name, _| store::is_ours(name));
    open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    block_on_alone(runtime, async {
        if let Some(file) = &options.subnets_file {
            let manager = FixedSubnets::new(file.clone(), own_address)?;
            return agent(options, &manager, passed).await;
        }
        if options.kube_subnets {
            let api = KubeSubnets::new(&options.kube, KubeTiming::default())?;
            let manager = Remembered::new(api, &options.remembered());
            return agent(options, &manager, passed).await;
        }
        let etcd = EtcdSubnets::new(&options.etcd, Timing::default())?;
        let manager = Remembered::new(etcd, &options.remembered());
        agent(options, &manager, passed).await
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

async fn agent(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    passed: BTreeMap<String, OwnedFd>,
) -> Result<(), AgentError> {
    let mut signals = Signals::install()?;
    let mut post = Post::vacant(AgentName::of(options).to_string(), passed);
    // On the heap: its type is that of all that an agent does.
    let result = Box::pin(run_node(options, manager, &mut signals, &mut post)).await;
    post.leave().await;
    result
}

async fn run_node(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    signals: &mut Signals,
    post: &mut Post,
) -> Result<(), AgentError> {
    let begin = Box::pin(begin(options, manager, post));
    let mut taken_over = match unless_stopped(signals, begin).await {
        Some(begun) => begun?,
        None => return Ok(()),
    };
    loop {
        let mut node = match taken_over.take() {
            Some(node) => node,
            None => match unless_stopped(signals, Granted::wait(options, manager, post)).await {
                Some(granted) => started(options, manager, granted?).await?,
                None => return Ok(()),
            },
        };
        let result = node.serve(options, manager, signals, post).await;
        if is_outdated(&result) {
            post.readiness.set(false);
            post.discard();
            node.stop().await;
            info!("starting anew with what {} says", manager.store());
            continue;
        }
        let result = match result {
            Ok(Served::HandedOver(heir)) => {
                node.leave();
                linger(options, signals, heir).await;
                return Ok(());
            }
            other => other,
        };
        notify::notify(State::Stopping);
        if result.is_ok() && post.is_kept() {
            // What packets do not wait for comes first.
            post.keep(&node.backend);
            manager.close().await;
            post.release().await;
            post.leave_tally(Some(monotonic()));
            node.rest();
            return Ok(());
        }
        post.discard();
        node.stop().await;
        manager.close().await;
        return result.map(drop);
    }
}

/// Have what only one agent can have, and with it the node of the agent that had it, if one runs
/// that hands over.
async fn begin(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    post: &mut Post,
) -> Result<Option<Node>, AgentError> {
    let taken_over = take_over::take_over(options, manager, post).await?;
    match taken_over {
        Some(_) => post.forget_left(),
        None => {
            post.serve_health(options).await?;
            post.wait(options).await;
        }
    }
    Ok(taken_over)
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

/// Whether a node ended only because the store has other things to say of it than it goes by.
fn is_outdated(result: &Result<Served, AgentError>) -> bool {
    let Err(AgentError::LeaseOver { end, .. }) = result else {
        return false;
    };
    matches!(end, LeaseEnd::Outdated | LeaseEnd::Reassigned)
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

#[cfg(test)]
mod tests;
