//! Taking the subnet that the cluster gives, and telling the other nodes how to reach it.

use super::KubeSubnets;
use super::annotations::{self, Key};
use super::client::{ApiFailure, ApiRequest};
use super::identity::{self, Awaited};
use super::node::NodeState;
use super::pod_cidrs::{self, PodCidrs};
use super::prefix::AnnotationPrefix;
use crate::config::NetworkConfig;
use crate::lease::{Lease, LeaseAttrs};
use crate::subnets::SubnetError;
use crate::text::shown;
use tokio::time::sleep;
use tracing::{info, warn};

/// Wait for the own node and its subnets, and write its annotations where they differ.
pub(super) async fn acquire(
    store: &KubeSubnets,
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
) -> Result<Lease, SubnetError> {
    let name = store.node_name().await;
    let (connection, prefix) = (&store.connection, &store.options.prefix);
    let mut retry = connection.timing().retry();
    let mut waiting = Awaited::default();
    loop {
        if store.is_outdated(config).await {
            return Err(SubnetError::ConfigChanged);
        }
        let node = identity::node(connection, name, prefix, &mut waiting).await;
        check_address(&node, config, attrs, prefix)?;
        let cidrs = match subnets(&node, config) {
            Ok(cidrs) => cidrs,
            Err(missing) => {
                waiting.say(format!("node {}: {missing}", shown(name)));
                sleep(connection.timing().wait).await;
                continue;
            }
        };
        match write(store, &node, attrs).await {
            Ok(_) => return Ok(node.lease(&cidrs, attrs.clone())),
            Err(failure) => retry.pause(failure.into()).await,
        }
    }
}

/// The node's subnets of the families that the network has; the error says what is missing.
pub(super) fn subnets(node: &NodeState, config: &NetworkConfig) -> Result<PodCidrs, String> {
    if node.pod_cidrs.is_empty() {
        let giver = "the kube-controller-manager gives one with --allocate-node-cidrs";
        return Err(format!("it has no podCIDR yet, {giver}"));
    }
    let cidrs = pod_cidrs::of_network(&node.cidrs()?, config);
    match pod_cidrs::misfit(&cidrs, config) {
        Some(reason) => Err(reason),
        None => Ok(cidrs),
    }
}

/// That people want no other address told than the one in hand.
fn check_address(
    node: &NodeState,
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
    prefix: &AnnotationPrefix,
) -> Result<(), SubnetError> {
    let (told, _) = node.annotations.node_public();
    for family in config.families() {
        let own = attrs.public(family).filter(|own| !own.is_unspecified());
        if let (Some(wanted), Some(own)) = (told.of(family), own)
            && *wanted != own
        {
            let by = format!(
                "the annotation {}node-public-ip of {}",
                prefix.as_str(),
                shown(&node.name)
            );
            let wanted = *wanted;
            return Err(SubnetError::AddressChanged { by, wanted });
        }
    }
    Ok(())
}

/// Write the annotations that differ; whether any did.
pub(super) async fn write(
    store: &KubeSubnets,
    node: &NodeState,
    attrs: &LeaseAttrs,
) -> Result<bool, ApiFailure> {
    let (wanted, wrong) = node.annotations.wanted(attrs);
    for reason in wrong {
        let (name, prefix) = (shown(&node.name), store.options.prefix.as_str());
        warn!(
            code = "W1006",
            "node {name}: {prefix}{reason}; it is told its own address"
        );
    }
    let missing = node.annotations.missing(wanted);
    if missing.is_empty() {
        return Ok(false);
    }
    for (key, value) in &missing {
        if matches!(key, Key::PublicIp | Key::PublicIpv6) && is_overwritten(node, value) {
            info!("other nodes are told {value}, as {} has it", node.name);
        }
    }
    let values = missing
        .iter()
        .map(|(key, value)| (*key, Some(value.as_str())));
    let patch = annotations::patch(&store.options.prefix, values);
    store
        .connection
        .ask(&ApiRequest::patch_status(&node.name, patch))
        .await?;
    Ok(true)
}

fn is_overwritten(node: &NodeState, value: &str) -> bool {
    let by = [Key::PublicIpOverwrite, Key::PublicIpv6Overwrite];
    by.into_iter()
        .any(|key| node.annotations.get(key) == Some(value))
}
