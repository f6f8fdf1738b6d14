//! Taking over from an agent that runs.

use super::error::AgentError;
use super::granted::Granted;
use super::node::Node;
use super::options::AgentOptions;
use super::post::Post;
use super::preparing::{claim, milliseconds, monotonic};
use crate::backend::Inheritance;
use crate::hand_over::{Offer, Predecessor, Tally, knowledge};
use crate::lease::Lease;
use crate::socket::{self, Verb};
use crate::subnets::{LeaseEvent, SubnetManager};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the preparation may take: less than the other side waits.
const PREPARATION: Duration = Duration::from_secs(9);

/// The node of the agent that runs as this one, carried on; `None` if there is none, or it does
/// not hand over. An error is one after it has stopped, and then it goes on when this process has
/// ended.
pub(super) async fn take_over(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    post: &mut Post,
) -> Result<Option<Node>, AgentError> {
    let begun = Instant::now();
    let Some((mut predecessor, offer, descriptors)) = ask(options, &post.name).await else {
        return Ok(None);
    };
    let (name, tally) = (predecessor.name(), offer.tally.clone());
    info!("taking over from {name}");
    let prepared = timeout(PREPARATION, prepare(options, manager, offer, descriptors)).await;
    let late = || format!("it took longer than {} s", PREPARATION.as_secs());
    let mut node = match prepared.unwrap_or_else(|_| Err(late())) {
        Ok(node) => node,
        Err(reason) => {
            warn!(code = "W0903", "cannot take over from {name}: {reason}");
            predecessor.decline(&reason).await;
            return Ok(None);
        }
    };
    let since = match predecessor.stop().await {
        Ok(since) => since,
        Err(reason) => {
            warn!(code = "W0904", "{name} does not hand over: {reason}");
            return Ok(None);
        }
    };
    node.backend.go();
    node.parked = None;
    let waited = monotonic().saturating_sub(since);
    // Pods have the subnet, and the firewall's rules stand.
    node.env.ensure();
    post.readiness.set(node.is_usable());
    post.take(options).await?;
    if let Err(reason) = predecessor.running().await {
        return Err(AgentError::NotHandedOver { name, reason });
    }
    post.tally = Tally {
        from_agents: tally.from_agents + 1,
        waited: Some(waited),
        ..tally
    };
    let (took, waited) = (begun.elapsed().as_millis(), milliseconds(waited));
    info!("took over from {name}, in {took} ms; packets waited {waited:.1} ms");
    // Its programs find its workers gone when its process ends.
    node.backend.start_fast_paths().await;
    drop(predecessor);
    Ok(Some(node))
}

/// Ask the agent that runs, if one does.
async fn ask(options: &AgentOptions, name: &str) -> Option<(Predecessor, Offer, Vec<OwnedFd>)> {
    let dir = options.socket_dir.as_ref()?;
    let request = Verb::HandOver(claim(options));
    let stream = match socket::begin(dir, name, &request) {
        Ok(None) => return None,
        Ok(Some(stream)) => UnixStream::from_std(stream).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let offered = match stream {
        Ok(stream) => Predecessor::meet(stream).await.map_err(|e| e.to_string()),
        Err(error) => Err(error),
    };
    match offered {
        Ok(offered) => Some(offered),
        Err(reason) => {
            warn!(
                code = "W0904",
                "the agent that runs as {name} does not hand over: {reason}"
            );
            None
        }
    }
}

/// Make everything ready by what the other process gives, and without the store.
async fn prepare(
    options: &AgentOptions,
    manager: &impl SubnetManager,
    offer: Offer,
    descriptors: Vec<OwnedFd>,
) -> Result<Node, String> {
    let mut descriptors = descriptors.into_iter();
    if offer.knowledge {
        let file = descriptors.next().ok_or("what it knows is missing")?;
        let content = knowledge::read(file);
        let content = content.map_err(|error| format!("what it knows cannot be read: {error}"))?;
        manager.inherit(&content)?;
    }
    let inheritance = Inheritance::of(offer.tunnels, descriptors)?;
    let told = |error: AgentError| error.to_string();
    let granted = Granted::inherit(options, manager, inheritance)
        .await
        .map_err(told)?;
    let mut node = granted.start(options).await.map_err(told)?;
    let peers = peers(manager, &node.lease).await;
    let mut batch = vec![peers.ok_or("the other nodes are not known")?];
    let applied = node.backend.apply(&mut batch).await;
    applied.map_err(|error| error.to_string())?;
    Ok(node)
}

/// All other nodes, as they are known at once.
async fn peers(manager: &impl SubnetManager, own: &Lease) -> Option<LeaseEvent> {
    let (sender, mut events) = mpsc::channel(1);
    let mut watch = std::pin::pin!(manager.watch(own, sender));
    std::future::poll_fn(|context| {
        let ended = watch.as_mut().poll(context).is_ready();
        match events.poll_recv(context) {
            std::task::Poll::Pending if ended => std::task::Poll::Ready(None),
            event => event,
        }
    })
    .await
}
