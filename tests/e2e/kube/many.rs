//! Many agents at once.

use super::lab::*;
use std::time::{Duration, Instant};
use weft_lab::{skips_test, wait_until};

const NODES: usize = 20;

#[test]
fn twenty_agents_start_at_once_and_know_each_other() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(NODES, VXLAN);
    cluster.flags = vec!["-queues=1".to_owned(), crate::cluster::WORKERS.to_owned()];
    (1..=NODES).for_each(|number| cluster.register(number));
    for number in 1..=NODES {
        cluster.launch(number);
    }
    for number in 1..=NODES {
        cluster
            .agents
            .get_mut(&number)
            .unwrap()
            .wait_ready()
            .unwrap();
        cluster.await_up(number);
    }
    // All at once again, as after a change of the DaemonSet.
    for number in 1..=NODES {
        cluster.agents.get_mut(&number).unwrap().stop().unwrap();
    }
    for number in 1..=NODES {
        cluster
            .agents
            .get_mut(&number)
            .unwrap()
            .start_again()
            .unwrap();
    }
    for number in [1, 2, NODES] {
        let env = cluster
            .agents
            .get_mut(&number)
            .unwrap()
            .wait_ready()
            .unwrap();
        assert_eq!(env.subnet.to_string(), format!("10.244.{number}.1/24"));
        cluster.lab.attach_pod(number, env.subnet, env.mtu).unwrap();
    }
    cluster.await_all();
}

/// What a process has in memory, in KB: now, and at most so far.
fn resident(pid: u32) -> [usize; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|key| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    })
}

#[test]
fn thousands_of_nodes_cost_an_agent_little_time_and_memory() {
    if skips_test() {
        return;
    }
    const NODES: u16 = 5000;
    /// What a list may cost, in KB.
    const MEMORY: usize = 40 << 10;
    let config = r#"{"Network":"10.128.0.0/9","Backend":{"Type":"vxlan"}}"#;
    let mut cluster = KubeCluster::empty(2, config);
    cluster.flags = vec!["-queues=1".to_owned(), crate::cluster::WORKERS.to_owned()];
    cluster.register(1);
    cluster.register(2);
    let ready = |cluster: &KubeCluster, number: usize, peers: usize| {
        cluster.expect(number, &format!("peers: {peers}"));
        resident(cluster.agents[&number].pid().unwrap())
    };
    cluster.launch(1);
    let [few, _] = ready(&cluster, 1, 0);
    cluster.add_foreign(0..NODES);
    let begun = Instant::now();
    cluster.launch(2);
    let [many, most] = ready(&cluster, 2, usize::from(NODES) + 1);
    let took = begun.elapsed();
    eprintln!(
        "ready with {NODES} nodes in {took:?}; {few} KB with none, {many} KB with all, {most} KB at most"
    );
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(most.saturating_sub(few) < MEMORY, "{few} KB, {most} KB");
    // A heartbeat builds no table, a change does.
    let published = || -> u64 {
        let text = cluster.status(2, &["--json"]);
        let (_, rest) = text.split_once("\"publications\":").unwrap();
        let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit());
        digits.into_iter().next().unwrap().parse().unwrap()
    };
    let before = published();
    for number in (0..NODES).step_by(10) {
        cluster.api.heartbeat(&format!("foreign-{number}"));
    }
    cluster.api.delete_node("foreign-7");
    assert!(wait_until(LIMIT, || published() > before));
    assert_eq!(published(), before + 1);
}
