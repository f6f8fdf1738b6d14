//! Nodes whose etcd is a cluster of three members with TLS and users.

use crate::cluster::{CONFIG, NEWS, new_lab, weft};
use crate::probe::Probe;
use std::time::Duration;
use weft_lab::etcd::Location;
use weft_lab::etcd::cluster::{Demands, TlsCluster, USER};
use weft_lab::topology::ping;
use weft_lab::{Agent, AgentOptions, Lab, Pod, Regime, skips_test, wait_until};

/// How long each member is away.
const ABSENCE: Duration = Duration::from_secs(4);

struct Nodes {
    // Dropped first to last: agents before their etcd, the lab at the end.
    agents: Vec<Agent>,
    etcd: TlsCluster,
    lab: Lab,
}

impl Nodes {
    /// Three nodes, each with a member of etcd; no agent yet.
    fn new() -> Nodes {
        let lab = new_lab(3, Regime::R1);
        let locations = lab.nodes().iter().map(Location::on).collect();
        let mut etcd = TlsCluster::start(&lab.memory_dir().unwrap(), locations, Demands::default());
        etcd.enable_auth();
        etcd.put("config", CONFIG);
        Nodes {
            agents: Vec::new(),
            etcd,
            lab,
        }
    }

    /// Start weft on the next node and put a pod into the subnet it gets.
    fn join(&mut self) {
        let number = self.agents.len() + 1;
        let mut options = AgentOptions::new(weft(), &self.etcd.endpoints().join(","));
        options.flags = vec![
            format!("-etcd-cafile={}", self.etcd.pki.ca().display()),
            format!("-etcd-username={}", USER.0),
            format!("-etcd-password={}", USER.1),
        ];
        let mut agent = Agent::start(&self.lab, number, options).unwrap();
        let env = agent.wait_ready().unwrap();
        self.lab.attach_pod(number, env.subnet, env.mtu).unwrap();
        self.agents.push(agent);
    }

    fn pod(&self, number: usize) -> &Pod {
        self.lab.node(number).pod().unwrap()
    }

    /// Wait until the pods of two nodes reach each other.
    fn await_paths(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let mut last = Ok(());
            let reached = wait_until(NEWS, || {
                last = ping(&self.pod(from).ns, self.pod(to).address, 1, 56, false);
                last.is_ok()
            });
            assert!(reached, "node {from} does not reach node {to}: {last:?}");
        }
    }

    fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.agents[number - 1].log_file()).unwrap()
    }
}

#[test]
fn s85_etcd_outage_members_with_tls_and_users_come_and_go_and_traffic_does_not_notice() {
    if skips_test() {
        return;
    }
    let mut nodes = Nodes::new();
    nodes.join();
    nodes.join();
    nodes.await_paths(1, 2);
    let leases = nodes.etcd.leases();
    assert_eq!(leases.len(), 2);
    let probe = Probe::start(nodes.pod(1), nodes.pod(2));
    for member in 0..3 {
        nodes.etcd.stop(member);
        std::thread::sleep(ABSENCE);
        nodes.etcd.resume(member);
    }
    assert_eq!(nodes.etcd.leases(), leases);
    nodes.join();
    for number in [1, 2] {
        nodes.await_paths(number, 3);
    }
    probe.finish();
    assert_eq!(nodes.etcd.leases().len(), 3);
    for number in 1..=3 {
        let log = nodes.log(number);
        assert!(
            !log.contains(USER.1),
            "the password is in the log of node {number}"
        );
        assert!(!log.contains("etcd refused to"), "{log}");
    }
}
