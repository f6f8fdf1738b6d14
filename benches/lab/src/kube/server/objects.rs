//! What is stored, put there and looked at without a client.

use super::ApiServer;
use crate::kube::resource::DEFINITIONS;
use crate::kube::store::{Key, Scope, Write};
use crate::kube::{nodes, strategy};
use crate::wait_until;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl ApiServer {
    /// Store an object of a kind (`nodes`, `daemonsets.apps`), whatever was there; its version.
    /// Unlike clients this may change everything.
    pub fn put(&self, kind: &str, object: Value) -> u64 {
        let mut object = object;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let key = Key::new(
            kind,
            &text(&metadata["namespace"]),
            &text(&metadata["name"]),
        );
        self.write(&key, |there| {
            let metadata = &mut object["metadata"];
            let was = there.map_or(&Value::Null, |there| &there["metadata"]);
            if metadata["uid"].is_null() {
                metadata["uid"] = was["uid"]
                    .as_str()
                    .map_or_else(strategy::uid, str::to_owned)
                    .into();
            }
            if metadata["creationTimestamp"].is_null() {
                let created = was["creationTimestamp"].as_str();
                metadata["creationTimestamp"] =
                    created.map_or_else(strategy::now, str::to_owned).into();
            }
            Write::Put(object)
        })
    }

    fn write(&self, key: &Key, decide: impl FnOnce(Option<&Value>) -> Write) -> u64 {
        let written = self
            .shared
            .store
            .write(key, |there| Ok::<_, Infallible>(decide(there)));
        let Ok(written) = written;
        written.version
    }

    /// An object of a kind; `namespace` is empty for what belongs to the cluster.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let stored = self.shared.store.get(&Key::new(kind, namespace, name));
        stored.map(|stored| stored.value())
    }

    /// Delete an object of a kind; whether it was there.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let mut was_there = false;
        self.write(&Key::new(kind, namespace, name), |there| {
            was_there = there.is_some();
            Write::Delete
        });
        was_there
    }

    /// Store a node (see [`nodes::realistic`]); the resource version that it has.
    pub fn put_node(&self, node: Value) -> u64 {
        self.put("nodes", node)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<Value> {
        self.object("nodes", "", name)
    }

    /// Names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        let scope = Scope {
            kind: "nodes".to_owned(),
            namespace: None,
        };
        let nodes = self
            .shared
            .store
            .list(&scope, None)
            .map(|list| list.objects);
        let nodes = nodes.unwrap_or_default();
        nodes.iter().map(|node| node.key.name.clone()).collect()
    }

    /// Delete a node; whether it was there.
    pub fn delete_node(&self, name: &str) -> bool {
        self.delete("nodes", "", name)
    }

    /// Change a node that is there; the resource version that it has then.
    pub fn change_node(&self, name: &str, change: impl FnOnce(&mut Value)) -> u64 {
        self.write(&Key::new("nodes", "", name), |there| {
            let Some(there) = there else {
                return Write::Keep;
            };
            let mut node = there.clone();
            change(&mut node);
            Write::Put(node)
        })
    }

    /// Change an annotation of a node, or take it away.
    pub fn annotate_node(&self, node: &str, name: &str, value: Option<&str>) -> u64 {
        self.change_node(node, |node| match value {
            Some(value) => node["metadata"]["annotations"][name] = value.into(),
            None => {
                let annotations = node["metadata"]["annotations"].as_object_mut();
                _ = annotations.and_then(|annotations| annotations.remove(name));
            }
        })
    }

    /// Have a node's kubelet say once more that all is well: of the node nothing changes but the
    /// times of its conditions. Each time is later than the last, however soon it comes.
    pub fn heartbeat(&self, name: &str) -> u64 {
        let ahead = self.beats.fetch_add(1, Ordering::Relaxed);
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.change_node(name, |node| nodes::beat(node, &time))
    }

    /// Wait until a node is there and `fits`.
    pub fn wait_for_node(
        &self,
        name: &str,
        limit: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> bool {
        wait_until(limit, || self.node(name).is_some_and(|node| fits(&node)))
    }

    /// Declare a kind of a namespace, such as `monitoring.coreos.com`, `v1`, `podmonitors`,
    /// `PodMonitor`, as a CustomResourceDefinition does.
    pub fn declare(&self, group: &str, version: &str, plural: &str, kind: &str) {
        let name = format!("{plural}.{group}");
        self.put(DEFINITIONS, json!({
            "metadata": {"name": name},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true}],
            },
        }));
    }
}
