//! A whole cluster that boots at once.

use crate::cluster::{new_lab, weft};
use rustix::process::Signal;
use std::collections::BTreeSet;
use weft_lab::{Agent, AgentOptions, Etcd, Lab, Regime, skips_test};

const NODES: usize = 30;

/// Start an agent on every node, held at its start until all are there, and let them go. The
/// subnets they get, as they are in their files and in etcd.
fn boot(lab: &Lab, etcd: &Etcd, name: &str, config: &str) -> [BTreeSet<String>; 2] {
    let prefix = format!("/{name}/network");
    etcd.put(&format!("{prefix}/config"), config).unwrap();
    let start = |number| {
        let mut options = AgentOptions::new(weft(), etcd.endpoint());
        options.prefix.clone_from(&prefix);
        options.name = name.to_owned();
        let agent = Agent::start(lab, number, options).unwrap();
        agent.signal(Signal::STOP).unwrap();
        agent
    };
    let mut agents: Vec<Agent> = (1..=NODES).map(start).collect();
    for agent in &agents {
        agent.signal(Signal::CONT).unwrap();
    }
    let written = agents.iter_mut().map(|agent| {
        let env = agent.wait_ready().unwrap();
        format!("{}-{}", env.subnet.network(), env.subnet.prefix_len())
    });
    let written = written.collect();
    let subnets = format!("{prefix}/subnets/");
    let keys = etcd.keys(&subnets).unwrap();
    let keys = keys.iter().map(|key| key.replace(&subnets, ""));
    [written, keys.collect()]
}

#[test]
fn s85_race_thirty_agents_that_boot_at_once_get_thirty_subnets() {
    if skips_test() {
        return;
    }
    let lab = new_lab(NODES, Regime::R1);
    let etcd = Etcd::start(&lab, 1).unwrap();
    let wide = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
    let [written, leases] = boot(&lab, &etcd, "wide", wide);
    assert_eq!(written.len(), NODES, "{written:?}");
    assert_eq!(leases, written);

    // As many subnets as nodes: no choice is left to the last ones.
    let full = r#"{"Network":"10.245.0.0/16","SubnetMin":"10.245.1.0","SubnetMax":"10.245.30.0",
        "Backend":{"Type":"alloc"}}"#;
    let [written, leases] = boot(&lab, &etcd, "full", full);
    let all = (1..=NODES).map(|number| format!("10.245.{number}.0-24"));
    assert_eq!(written, all.collect());
    assert_eq!(leases, written);
}
