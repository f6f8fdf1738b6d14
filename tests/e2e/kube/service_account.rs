//! An agent in a pod: it knows the API server, its node and itself by what a kubelet gives pods.

use super::lab::*;
use std::fs;
use weft_lab::skips_test;
use weft_lab::{Process, wait_until};

/// Where kubelets put what a pod is known by.
const FOLDER: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// Node 1's agent as the DaemonSet starts it: with a `/run` of its own, and no kubeconfig.
fn start_in_pod(cluster: &mut KubeCluster, log: &str) -> Process {
    let dir = cluster.lab.dir().join("secrets");
    fs::create_dir_all(&dir).unwrap();
    cluster.api.write_service_account(&dir).unwrap();
    let agent = cluster.launch(1);
    agent.stop().unwrap();
    let command = agent.command();
    let mut inside = cluster.lab.node(1).ns.command("unshare");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p {FOLDER} && mount --bind {} {FOLDER} && exec \"$@\"",
        dir.display()
    );
    inside.args([
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    // Without `ip netns exec NAME`, which the outer command has.
    let words = command.get_args().skip(3).filter(|word| {
        let word = word.to_string_lossy();
        !word.contains("kubeconfig-file")
    });
    inside.args(words);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) if name != "NODE_NAME" => inside.env(name, value),
            _ => inside.env_remove(name),
        };
    }
    let address = cluster.api.address();
    inside.env("KUBERNETES_SERVICE_HOST", address.ip().to_string());
    inside.env("KUBERNETES_SERVICE_PORT", address.port().to_string());
    inside.env("POD_NAME", "kube-flannel-ds-x");
    inside.env("POD_NAMESPACE", "kube-flannel");
    let log = cluster.lab.dir().join(log);
    cluster.lab.node(1).ns.spawn(inside, &log).unwrap()
}

#[test]
fn a_pod_finds_its_node_and_follows_its_token() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(2, VXLAN);
    cluster.register(1);
    let pod = serde_json::json!({
        "metadata": {"name": "kube-flannel-ds-x", "namespace": "kube-flannel"},
        "spec": {"nodeName": name(1)},
    });
    cluster.api.put("pods", pod);
    let agent = start_in_pod(&mut cluster, "pod.log");
    let ready = || agent.log().contains("ready: 10.244.1.0/24");
    assert!(wait_until(LIMIT, ready), "{}", agent.log());
    cluster.await_up(1);
    let asked = cluster.api.asked();
    let user = |verb: &str| {
        let found = asked.iter().rev().find(|asked| asked.verb == verb);
        found.map(|asked| asked.user.clone())
    };
    assert_eq!(user("watch").as_deref(), Some(weft_lab::kube::USER));
    // A token that lives for an hour is another one by then; the old one is worth nothing.
    cluster.api.rotate_token();
    cluster
        .api
        .write_service_account(&cluster.lab.dir().join("secrets"))
        .unwrap();
    cluster.api.break_watches();
    cluster.add_foreign(1..2);
    let known = || cluster.api.requests("watch", "nodes") > 1;
    assert!(wait_until(LIMIT, known));
    let watches = || {
        let asked = cluster.api.asked();
        let last = asked.iter().rev().find(|asked| asked.verb == "watch");
        last.is_some_and(|asked| asked.code == 200)
    };
    assert!(wait_until(LIMIT, watches), "{}", agent.log());
}
