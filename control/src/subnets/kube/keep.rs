//! Keeping what the cluster says of this node true: its annotations, which people and programs may
//! change, and its condition. There is nothing to renew.

use super::KubeSubnets;
use super::acquire;
use super::condition::{self, Network};
use super::identity;
use super::node::NodeState;
use super::own::OwnNode;
use super::pod_cidrs;
use crate::lease::{Lease, LeaseEnd};
use crate::subnets::remote::{Failure, until};
use crate::text::shown;
use std::convert::Infallible;
use std::time::Instant;
use tracing::{info, warn};

/// Look after the own node until it has another subnet.
pub(super) async fn keep(store: &KubeSubnets, lease: &Lease) -> LeaseEnd {
    let name = store.node_name().await;
    tokio::select! {
        end = follow(store, name, lease) => end,
        never = keep_condition(store, name) => match never {},
    }
}

/// Say that the network is there, and again of a node that was made anew.
async fn keep_condition(store: &KubeSubnets, name: &str) -> Infallible {
    let mut own = store.own.subscribe();
    if !store.options.set_condition {
        return std::future::pending().await;
    }
    let mut retry = store.connection.timing().retry();
    loop {
        store.wait_until_there(&mut own).await;
        match condition::set(&store.connection, name, Network::Up).await {
            Ok(done) => {
                if done {
                    info!(
                        "the condition NetworkUnavailable of node {} is False",
                        shown(name)
                    );
                }
                retry.reset();
                // The sender lives as long as the store.
                let _ = own.wait_for(|node| *node == OwnNode::Gone).await;
            }
            Err(failure) => retry.pause(failure.into()).await,
        }
    }
}

async fn follow(store: &KubeSubnets, name: &str, lease: &Lease) -> LeaseEnd {
    let mut own = store.own.subscribe();
    let mut retry = store.connection.timing().retry();
    let mut is_gone = false;
    let mut written: Option<Instant> = None;
    loop {
        let node = own.borrow_and_update().clone();
        let mut due = None;
        match node {
            OwnNode::Unknown => {}
            OwnNode::Gone => {
                if !std::mem::replace(&mut is_gone, true) {
                    warn!(
                        code = "W1010",
                        "node {} is no longer in the cluster: other nodes send it nothing; going on until it is back",
                        shown(name)
                    );
                }
            }
            OwnNode::There(node) => {
                if std::mem::take(&mut is_gone) {
                    info!("node {} is in the cluster again", shown(name));
                }
                if let Some(now) = moved(&node, lease) {
                    info!(
                        "node {} has the podCIDR {now} in place of {lease}",
                        shown(name)
                    );
                    return LeaseEnd::Reassigned;
                }
                if differs(&node, lease) {
                    let pause = store.connection.timing().rewrite;
                    let now = Instant::now();
                    let at = written.map_or(now, |written| written + pause);
                    due = Some(at);
                    if at <= now {
                        due = None;
                        match write(store, name, lease).await {
                            Ok(()) => written = Some(now),
                            Err(failure) => {
                                retry.pause(failure).await;
                                continue;
                            }
                        }
                    }
                }
            }
        }
        tokio::select! {
            // The sender lives as long as the store.
            _ = own.changed() => {}
            () = until(due) => {}
        }
    }
}

/// The node's subnets, if the cluster has given it others of a family that it has one of.
fn moved(node: &NodeState, lease: &Lease) -> Option<String> {
    let own = pod_cidrs::of_key(&lease.key());
    let now = node.cidrs().ok()?;
    let mut pairs = own.iter().zip(now.iter());
    let differs = pairs.any(|((_, own), (_, now))| match (own, now) {
        (Some(own), Some(now)) => own != now,
        _ => false,
    });
    differs.then(|| pod_cidrs::named(&now))
}

fn differs(node: &NodeState, lease: &Lease) -> bool {
    let (wanted, _) = node.annotations.wanted(&lease.attrs);
    !node.annotations.missing(wanted).is_empty()
}

/// Write what somebody else has changed, if it still differs: what the watch tells may be older
/// than what this node wrote.
async fn write(store: &KubeSubnets, name: &str, lease: &Lease) -> Result<(), Failure> {
    let Some(answer) = identity::object(&store.connection, name).await? else {
        return Ok(());
    };
    let Ok(node) = NodeState::read(&answer, &store.options.prefix) else {
        return Ok(());
    };
    if acquire::write(store, &node, &lease.attrs).await? {
        info!(
            "the annotations of node {} were not this node's: they are again",
            shown(name)
        );
    }
    Ok(())
}
