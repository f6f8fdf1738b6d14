//! The node's condition NetworkUnavailable, by which the cluster keeps pods away from nodes without
//! a network.

use super::client::{ApiConnection, ApiFailure, ApiRequest};
use super::identity;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

const TYPE: &str = "NetworkUnavailable";

/// What the network of a node is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// As flanneld says it.
    Up,
    /// The agent has left for good.
    Gone,
}

impl Network {
    /// Status, reason and message.
    fn texts(self) -> [&'static str; 3] {
        match self {
            Network::Up => ["False", "FlannelIsUp", "Flannel is running on this node"],
            Network::Gone => ["True", "FlannelIsGone", "Flannel has left this node"],
        }
    }

    /// The patch that says it at this time.
    fn patch(self, now: Timestamp) -> Vec<u8> {
        let [status, reason, message] = self.texts();
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": TYPE,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        });
        let patch = json!({ "status": { "conditions": [condition] } });
        patch.to_string().into_bytes()
    }

    /// Whether a Node says so already.
    fn is_said(self, node: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Node {
            #[serde(default)]
            status: Status,
        }
        #[derive(Default, Deserialize)]
        struct Status {
            #[serde(default)]
            conditions: Option<Vec<Condition>>,
        }
        #[derive(Deserialize)]
        struct Condition {
            #[serde(rename = "type")]
            kind: String,
            status: String,
            #[serde(default)]
            reason: String,
        }
        let node: Option<Node> = serde_json::from_slice(node).ok();
        let conditions = node.and_then(|node| node.status.conditions);
        let [status, reason, _] = self.texts();
        conditions.into_iter().flatten().any(|condition| {
            condition.kind == TYPE && condition.status == status && condition.reason == reason
        })
    }
}

/// Say it, if the node does not; whether that was done. A node that is not there has no condition.
pub(super) async fn set(
    connection: &ApiConnection,
    name: &str,
    network: Network,
) -> Result<bool, ApiFailure> {
    let Some(node) = identity::object(connection, name).await? else {
        return Ok(false);
    };
    if network.is_said(&node) {
        return Ok(false);
    }
    let patch = network.patch(Timestamp::now());
    connection
        .ask(&ApiRequest::patch_status(name, patch))
        .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_is_flannelds() {
        let patch = Network::Up.patch(Timestamp::from_second(1_800_000_000).unwrap());
        let patch = String::from_utf8(patch).unwrap();
        let wanted = r#"{"status":{"conditions":[{"lastHeartbeatTime":"2027-01-15T08:00:00Z","lastTransitionTime":"2027-01-15T08:00:00Z","message":"Flannel is running on this node","reason":"FlannelIsUp","status":"False","type":"NetworkUnavailable"}]}}"#;
        let value = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        assert_eq!(value(&patch), value(wanted));
    }

    #[test]
    fn what_is_said_already_is_seen() {
        let node = |conditions: &str| {
            format!(r#"{{"status":{{"conditions":{conditions}}}}}"#).into_bytes()
        };
        let up = r#"[{"type":"Ready","status":"True"},{"type":"NetworkUnavailable","status":"False","reason":"FlannelIsUp"}]"#;
        assert!(Network::Up.is_said(&node(up)));
        assert!(!Network::Gone.is_said(&node(up)));
        assert!(!Network::Up.is_said(&node(&up.replace("FlannelIsUp", "RouteCreated"))));
        assert!(!Network::Up.is_said(&node(&up.replace("False", "True"))));
        for json in ["[]", "null", "7"] {
            assert!(!Network::Up.is_said(&node(json)), "{json}");
        }
        assert!(!Network::Up.is_said(b"{}"));
    }
}
