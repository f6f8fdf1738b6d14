//! What becomes of a node: it waits, is deleted, comes back, and leaves.

use super::lab::*;
use weft_lab::{skips_test, wait_until};

#[test]
fn a_node_waits_for_the_cluster_to_know_it_and_to_give_it_a_subnet() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(2, VXLAN);
    cluster.launch(1);
    cluster.expect(
        1,
        "W1005 node node-1 is not in the cluster yet; waiting for it",
    );
    cluster.register_with(1, &[]);
    cluster.expect(1, "it has no podCIDR yet");
    cluster.register_with(1, &["10.9.1.0/24"]);
    cluster.expect(
        1,
        "its podCIDR 10.9.1.0/24 is not inside Network 10.244.0.0/16",
    );
    cluster.register(1);
    cluster.expect(1, "ready: 10.244.1.0/24");
    cluster.await_up(1);
}

#[test]
fn a_missing_rule_is_named_once_and_waited_for() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(2, VXLAN);
    cluster.register(1);
    cluster.api.forbid("patch", "nodes/status");
    cluster.launch(1);
    let rule = r#"its ClusterRole needs the rule apiGroups [""], resources ["nodes/status"], verbs ["patch"]"#;
    cluster.expect(1, rule);
    let patched = || cluster.api.requests("patch", "nodes/status") > 3;
    assert!(wait_until(LIMIT, patched));
    assert_eq!(
        cluster.log(1).matches("W1002").count(),
        1,
        "{}",
        cluster.log(1)
    );
    cluster.api.permit("patch", "nodes/status");
    cluster.expect(1, "ready: ");
}

#[test]
fn e17_a_node_that_is_made_again_with_another_subnet_is_reached_there() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(2, VXLAN);
    cluster.api.delete_node(&name(2));
    cluster.expect(2, "is no longer in the cluster");
    cluster.register_with(2, &["10.244.9.0/24"]);
    cluster.expect(2, "starting anew with what the API server says");
    cluster.expect(2, "ready: 10.244.9.0/24");
    let env = cluster.agents[&2].subnet_env().unwrap();
    assert_eq!(env.subnet.to_string(), "10.244.9.1/24");
    cluster.lab.detach_pods(2).unwrap();
    cluster.lab.attach_pod(2, env.subnet, env.mtu).unwrap();
    cluster.await_all();
    cluster.await_up(2);
}

#[test]
fn e18_agents_that_start_again_one_by_one_keep_their_subnets() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(3, VXLAN);
    let macs = |cluster: &KubeCluster| -> Vec<_> {
        (1..=3)
            .map(|n| cluster.annotation(n, "backend-data"))
            .collect()
    };
    let before = macs(&cluster);
    for number in 1..=3 {
        let agent = cluster.agents.get_mut(&number).unwrap();
        let env = agent.subnet_env().unwrap();
        agent.stop().unwrap();
        assert_eq!(cluster.unavailable(number).as_deref(), Some("False"));
        let agent = cluster.agents.get_mut(&number).unwrap();
        agent.start_again().unwrap();
        assert_eq!(agent.wait_ready().unwrap(), env);
        cluster.await_all();
    }
    assert_eq!(macs(&cluster), before);
    // And beside the one that runs.
    let agent = cluster.agents.get_mut(&2).unwrap();
    assert!(agent.upgrade().unwrap().success());
    cluster.expect(2, "took over from ");
    cluster.await_all();
}

#[test]
fn a_node_with_a_new_disk_keeps_the_mac_of_its_annotations() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(2, VXLAN);
    let data = cluster.annotation(2, "backend-data");
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.stop().unwrap();
    std::fs::remove_dir_all(agent.state_dir()).unwrap();
    // As in a new container on the same node, where the device is left.
    cluster.lab.node(2).ns.ip("link delete flannel.1").unwrap();
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.await_all();
    assert_eq!(cluster.annotation(2, "backend-data"), data);
}

#[test]
fn a_node_that_leaves_is_no_peer_and_gets_no_pods_any_more() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(2, VXLAN);
    cluster.await_up(2);
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.stop().unwrap();
    let mut removal = agent.beside(&["-remove", "-drain"]).unwrap();
    let status = removal.wait(LIMIT).unwrap();
    assert!(status.success(), "{}", removal.log());
    assert_eq!(cluster.unavailable(2).as_deref(), Some("True"));
    for key in ["kube-subnet-manager", "backend-data", "public-ip"] {
        assert_eq!(cluster.annotation(2, key), None, "{key}");
    }
    // It comes back by itself.
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.await_all();
    cluster.await_up(2);
}
