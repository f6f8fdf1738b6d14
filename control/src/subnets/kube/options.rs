//! How to reach the Kubernetes API, and what this node is there.

use super::prefix::AnnotationPrefix;
use std::path::PathBuf;

/// How to reach the Kubernetes API, and what this node is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeOptions {
    /// URL of the API server, in place of what the kubeconfig or the pod says.
    pub api_url: Option<String>,
    /// A kubeconfig; without it and a URL, the pod's service account counts.
    pub kubeconfig: Option<PathBuf>,
    /// What the names of all annotations begin with.
    pub prefix: AnnotationPrefix,
    /// The file with the network config.
    pub net_config: PathBuf,
    /// Tell the cluster that the node's network is there, by the condition NetworkUnavailable.
    pub set_condition: bool,
    /// Which node this is.
    pub node: NodeRef,
}

/// Which node of the cluster this is, as the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRef {
    /// Its name.
    pub name: Option<String>,
    /// The pod that the agent runs in, which knows its node, and the pod's namespace.
    pub pod: Option<(String, String)>,
}

impl NodeRef {
    /// By the variables `NODE_NAME` or, without it, `POD_NAME` and `POD_NAMESPACE`.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> NodeRef {
        let get = |name| env(name).filter(|value| !value.is_empty());
        NodeRef {
            name: get("NODE_NAME"),
            pod: get("POD_NAME").zip(get("POD_NAMESPACE")),
        }
    }
}

impl KubeOptions {
    /// Path of the network among all that a node may remember, with a slash at its end. No path of
    /// etcd is spelt so.
    pub fn network_path(&self) -> String {
        format!("kubernetes:{}/", self.prefix.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_name_or_by_a_whole_pod() {
        let node = |given: &[(&str, &str)]| {
            let given: Vec<(String, String)> = given
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect();
            NodeRef::from_env(move |name| {
                let found = given.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.clone())
            })
        };
        assert_eq!(node(&[]), NodeRef::default());
        assert_eq!(node(&[("NODE_NAME", "n1")]).name.as_deref(), Some("n1"));
        assert_eq!(
            node(&[("NODE_NAME", ""), ("POD_NAME", "p")]),
            NodeRef::default()
        );
        let pod = node(&[("POD_NAME", "p"), ("POD_NAMESPACE", "kube-flannel")]);
        assert_eq!(pod.pod, Some(("p".into(), "kube-flannel".into())));
    }
}
