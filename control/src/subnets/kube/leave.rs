//! Leaving the network for good: nobody is to send packets or pods here any more.

use super::annotations::{self, Key};
use super::client::{ApiConnection, ApiFailure, ApiRequest};
use super::condition::{self, Network};
use super::identity;
use super::node::NodeState;
use super::options::KubeOptions;
use super::timing::KubeTiming;
use crate::subnets::SubnetError;
use crate::text::shown;
use std::time::Duration;
use tokio::time::timeout;

/// How long an API server that does not answer may hold that up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Take the node's annotations away and, if that is the agent's business, say by its condition that
/// it has no network. What was done, a line for each; the error is one line.
pub async fn leave(options: &KubeOptions) -> Result<Vec<String>, String> {
    let told = |error: SubnetError| error.to_string();
    identity::check(&options.node).map_err(told)?;
    let connection = ApiConnection::new(options, KubeTiming::default()).map_err(told)?;
    let late = || format!("the API server has not answered within {PATIENCE:?}");
    let left = timeout(PATIENCE, try_leave(&connection, options)).await;
    left.map_err(|_| late())?.map_err(|failure| match failure {
        ApiFailure::Unreachable => "the API server cannot be reached".to_owned(),
        ApiFailure::Refused(refusal) => refusal.line,
        ApiFailure::Broken(reason) => reason,
    })
}

async fn try_leave(
    connection: &ApiConnection,
    options: &KubeOptions,
) -> Result<Vec<String>, ApiFailure> {
    let name = identity::name(connection, &options.node).await;
    let mut done = Vec::new();
    let Some(answer) = identity::object(connection, &name).await? else {
        return Ok(done);
    };
    // One that cannot be read may have any of them.
    let written = match NodeState::read(&answer, &options.prefix) {
        Ok(node) => {
            let is_there = |key: &Key| node.annotations.get(*key).is_some();
            Key::WRITTEN.into_iter().filter(is_there).collect()
        }
        Err(_) => Key::WRITTEN.to_vec(),
    };
    if !written.is_empty() {
        let values = written.into_iter().map(|key| (key, None));
        let patch = annotations::patch(&options.prefix, values);
        connection
            .ask(&ApiRequest::patch_status(&name, patch))
            .await?;
        done.push(format!("the annotations of node {}", shown(&name)));
    }
    if options.set_condition && condition::set(connection, &name, Network::Gone).await? {
        done.push(format!("what node {} said of its network", shown(&name)));
    }
    Ok(done)
}
