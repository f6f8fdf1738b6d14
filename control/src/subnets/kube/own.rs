//! The own node, as the watch on all nodes sees it.

use super::node::NodeState;
use tokio::sync::watch;

/// The own node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum OwnNode {
    /// No list has told yet.
    #[default]
    Unknown,
    /// The cluster has none of its name.
    Gone,
    /// As it was last.
    There(Box<NodeState>),
}

impl OwnNode {
    /// Tell whoever wants to know, if anything of it counts: a heartbeat does not.
    pub(super) fn tell(self, sender: &watch::Sender<OwnNode>) {
        sender.send_if_modified(|known| {
            let is_same = match (&*known, &self) {
                (OwnNode::There(before), OwnNode::There(now)) => {
                    before.annotations == now.annotations && before.pod_cidrs == now.pod_cidrs
                }
                (before, now) => before == now,
            };
            *known = self;
            !is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnets::kube::prefix::AnnotationPrefix;
    use crate::subnets::kube::tests::node_json;

    #[test]
    fn only_what_counts_is_told() {
        let node =
            |json: &str| NodeState::read(json.as_bytes(), &AnnotationPrefix::default()).unwrap();
        let sender = watch::Sender::default();
        let mut told = sender.subscribe();
        for (json, is_news) in [
            (node_json(1), true),
            (node_json(1).replace("\"1001\"", "\"1002\""), false),
            (node_json(1).replace("192.0.2.1", "192.0.2.9"), true),
            (node_json(1).replace("10.244.1.0", "10.244.9.0"), true),
        ] {
            OwnNode::There(Box::new(node(&json))).tell(&sender);
            assert_eq!(told.has_changed().unwrap(), is_news, "{json}");
            told.mark_unchanged();
        }
        OwnNode::Gone.tell(&sender);
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        OwnNode::Gone.tell(&sender);
        assert!(!told.has_changed().unwrap());
    }
}
