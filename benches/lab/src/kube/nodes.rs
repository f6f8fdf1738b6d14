//! Nodes as kubelets make them.

use serde_json::{Value, json};

/// Images that a node says it has. With them its JSON has some 12 KB.
const IMAGES: usize = 40;

/// A node with what a kubelet says of itself: addresses, capacity, conditions, images. It has
/// these pod networks, the first of which is `podCIDR`, and no annotations of flannel.
pub fn realistic(name: &str, pod_cidrs: &[&str]) -> Value {
    let mut node = json!({
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": name,
                "node.kubernetes.io/instance-type": "lab", "topology.kubernetes.io/zone": "lab-a",
            },
            "annotations": {
                "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {"taints": [
            {"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"},
        ]},
        "status": status(name),
    });
    if let Some(first) = pod_cidrs.first() {
        node["spec"]["podCIDR"] = (*first).into();
        node["spec"]["podCIDRs"] = pod_cidrs.iter().copied().collect();
    }
    node
}

fn status(name: &str) -> Value {
    let resources = json!({
        "cpu": "8", "ephemeral-storage": "102624184Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
        "memory": "32778408Ki", "pods": "110",
    });
    let images: Vec<Value> = (0..IMAGES).map(image).collect();
    json!({
        "addresses": [
            {"type": "InternalIP", "address": "192.0.2.10"},
            {"type": "Hostname", "address": name},
        ],
        "allocatable": resources, "capacity": resources,
        "conditions": [
            pressure("MemoryPressure", "KubeletHasSufficientMemory", "has sufficient memory available"),
            pressure("DiskPressure", "KubeletHasNoDiskPressure", "has no disk pressure"),
            pressure("PIDPressure", "KubeletHasSufficientPID", "has sufficient PID available"),
            {
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
            },
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "images": images,
        "nodeInfo": {
            "architecture": "amd64", "bootID": "5a3a3b4e-5a9e-4f0c-8d43-2f1f2a3b4c5d",
            "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.12.0-amd64",
            "kubeProxyVersion": "", "kubeletVersion": super::discovery::RELEASE,
            "machineID": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "operatingSystem": "linux",
            "osImage": "Debian GNU/Linux 13 (trixie)", "systemUUID": "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        },
    })
}

fn pressure(kind: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": "False", "reason": reason, "message": format!("kubelet {message}"),
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn image(number: usize) -> Value {
    let digest = format!(
        "{:016x}",
        (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let digest = digest.repeat(4);
    json!({
        "names": [
            format!("registry.example.org/team-{}/service-{number}@sha256:{digest}", number % 7),
            format!("registry.example.org/team-{}/service-{number}:v1.{number}.0", number % 7),
        ],
        "sizeBytes": 20_000_000 + number * 1_234_567,
    })
}

/// A condition of a node, by its type.
pub fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// An annotation of an object.
pub fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// Have all conditions of a node say that they were looked at at this time, as kubelets do every
/// few minutes.
pub(super) fn beat(node: &mut Value, time: &str) {
    let conditions = node.pointer_mut("/status/conditions");
    let conditions = conditions
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for condition in conditions.filter(|condition| condition.is_object()) {
        condition["lastHeartbeatTime"] = time.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_as_large_as_real_ones() {
        let node = realistic("n1", &["10.244.0.0/24", "fd00::/64"]);
        let size = node.to_string().len();
        assert!((10_000..14_000).contains(&size), "{size}");
        assert_eq!(node["spec"]["podCIDR"], "10.244.0.0/24");
        assert_eq!(condition(&node, "Ready").unwrap()["status"], "True");
        assert_eq!(condition(&node, "NetworkUnavailable"), None);
        let mut later = node.clone();
        beat(&mut later, "2026-01-01T00:05:00Z");
        assert_ne!(node, later);
        later["status"]["conditions"] = node["status"]["conditions"].clone();
        assert_eq!(node, later, "only conditions");
        assert!(realistic("n2", &[])["spec"].get("podCIDR").is_none());
    }
}
