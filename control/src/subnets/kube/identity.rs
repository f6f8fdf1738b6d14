//! Which node this is, and what the API says of it.

use super::client::{ApiConnection, ApiFailure, ApiRequest, escape};
use super::node::NodeState;
use super::options::NodeRef;
use super::prefix::AnnotationPrefix;
use crate::subnets::SubnetError;
use crate::text::shown;
use serde::Deserialize;
use tokio::time::sleep;
use tracing::warn;

/// What is waited for, said once each.
#[derive(Default)]
pub(super) struct Awaited(String);

impl Awaited {
    /// Say what is missing, unless that was said last.
    pub(super) fn say(&mut self, missing: String) {
        if self.0 != missing {
            warn!(code = "W1005", "{missing}; waiting for it");
            self.0 = missing;
        }
    }
}

/// Whether the environment tells which node this is.
pub(super) fn check(node: &NodeRef) -> Result<(), SubnetError> {
    match (&node.name, &node.pod) {
        (None, None) => Err(SubnetError::Api(
            "-kube-subnet-mgr does not know its node: set NODE_NAME, or both POD_NAME and POD_NAMESPACE".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The name of the own node: as given, or asked for until the pod has one.
pub(super) async fn name(connection: &ApiConnection, node: &NodeRef) -> String {
    let mut retry = connection.timing().retry();
    let mut waiting = Awaited::default();
    loop {
        let pod = match (&node.name, &node.pod) {
            (Some(name), _) => return name.clone(),
            (None, Some(pod)) => pod,
            // That is refused at the start: see `check`.
            (None, None) => return String::new(),
        };
        match node_of(connection, pod).await {
            Ok(Some(name)) => return name,
            Ok(None) => {
                let (pod, namespace) = (shown(&pod.0), shown(&pod.1));
                waiting.say(format!("pod {namespace}/{pod} is on no node yet"));
                sleep(connection.timing().wait).await;
            }
            Err(failure) => retry.pause(failure.into()).await,
        }
    }
}

/// The node that a pod runs on.
async fn node_of(
    connection: &ApiConnection,
    (pod, namespace): &(String, String),
) -> Result<Option<String>, ApiFailure> {
    #[derive(Deserialize)]
    struct Pod {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    struct Spec {
        #[serde(default, rename = "nodeName")]
        node_name: String,
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}",
        escape(namespace),
        escape(pod)
    );
    let request = ApiRequest::get("get", "pods", path);
    let answer = connection.ask(&request).await?;
    let pod: Pod = serde_json::from_slice(&answer)
        .map_err(|error| ApiFailure::unreadable("pod", &error.to_string()))?;
    Ok(Some(pod.spec.node_name).filter(|name| !name.is_empty()))
}

/// The own node's object as it is now; `None` if the cluster has none.
pub(super) async fn object(
    connection: &ApiConnection,
    name: &str,
) -> Result<Option<Vec<u8>>, ApiFailure> {
    let request = ApiRequest::get("get", "nodes", format!("/api/v1/nodes/{}", escape(name)));
    match connection.ask(&request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The own node as it is now: waits until the cluster has it, and until it can be read.
pub(super) async fn node(
    connection: &ApiConnection,
    name: &str,
    prefix: &AnnotationPrefix,
    waiting: &mut Awaited,
) -> NodeState {
    let mut retry = connection.timing().retry();
    let shown_name = shown(name);
    loop {
        match object(connection, name).await {
            Ok(Some(answer)) => match NodeState::read(&answer, prefix) {
                Ok(node) => return node,
                Err(bad) => waiting.say(format!("node {shown_name}: {}", bad.reason)),
            },
            Ok(None) => waiting.say(format!("node {shown_name} is not in the cluster yet")),
            Err(failure) => {
                retry.pause(failure.into()).await;
                continue;
            }
        }
        sleep(connection.timing().wait).await;
    }
}
