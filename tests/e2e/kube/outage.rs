//! An API server that is away.

use super::lab::*;
use weft_lab::skips_test;

#[test]
fn an_outage_changes_nothing_and_a_node_that_starts_meanwhile_forwards() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(2, VXLAN);
    cluster.await_up(1);
    cluster.await_up(2);
    cluster.api.stop();
    cluster.expect(2, "the API server unreachable: https://10.99.0.1:6443: ");
    cluster.await_all();
    // Stopped in order, and killed.
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.stop().unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.expect(2, "with 1 other nodes, until the API server says more");
    cluster.await_all();
    let agent = cluster.agents.get_mut(&2).unwrap();
    agent.kill().unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.await_all();
    let status = cluster.status(2, &[]);
    assert!(
        status.contains("the API server DOES NOT ANSWER"),
        "{status}"
    );
    assert!(status.contains("GOING BY WHAT IT SAID"), "{status}");
    cluster.api.start_again().unwrap();
    cluster.expect(2, "the API server has confirmed the lease 10.244.2.0-24");
    cluster.await_all();
}

#[test]
fn a_forgotten_version_takes_a_list_and_nobody_is_cut_off() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::of_weft(2, VXLAN);
    cluster.api.stop();
    cluster.api.delete_node(&name(2));
    cluster.api.forget_history();
    cluster.register(2);
    cluster.api.start_again().unwrap();
    cluster.expect(1, "listing all nodes again");
    // Node 2 has written its annotations again by then.
    cluster.await_all();
}
