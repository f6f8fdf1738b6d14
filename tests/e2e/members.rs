//! Nodes whose etcd is a cluster of three members, one on each, with TLS and users.

use crate::cluster::{CONFIG, NEWS, new_lab, weft};
use weft_lab::etcd::Location;
use weft_lab::etcd::cluster::{Demands, TlsCluster, USER};
use weft_lab::topology::ping;
use weft_lab::{Agent, AgentOptions, Lab, Pod, Regime, wait_until};

/// Three nodes and their etcd.
pub(crate) struct Members {
    // Dropped first to last: agents before their etcd, the lab at the end.
    pub(crate) agents: Vec<Agent>,
    pub(crate) etcd: TlsCluster,
    pub(crate) lab: Lab,
}

impl Members {
    /// Three nodes, each with a member of etcd; no agent yet.
    pub(crate) fn new() -> Members {
        let lab = new_lab(3, Regime::R1);
        let locations = lab.nodes().iter().map(Location::on).collect();
        let mut etcd = TlsCluster::start(&lab.memory_dir().unwrap(), locations, Demands::default());
        etcd.enable_auth();
        etcd.put("config", CONFIG);
        Members {
            agents: Vec::new(),
            etcd,
            lab,
        }
    }

    /// With weft on all nodes, whose pods reach each other.
    pub(crate) fn filled() -> Members {
        let mut members = Members::new();
        for _ in 0..3 {
            members.join();
        }
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            members.await_paths(a, b);
        }
        members
    }

    /// Start weft on the next node and put a pod into the subnet it gets.
    pub(crate) fn join(&mut self) {
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

    pub(crate) fn pod(&self, number: usize) -> &Pod {
        self.lab.node(number).pod().unwrap()
    }

    /// Wait until the pods of two nodes reach each other.
    pub(crate) fn await_paths(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let mut last = Ok(());
            let reached = wait_until(NEWS, || {
                last = ping(&self.pod(from).ns, self.pod(to).address, 1, 56, false);
                last.is_ok()
            });
            assert!(reached, "node {from} does not reach node {to}: {last:?}");
        }
    }

    pub(crate) fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.agents[number - 1].log_file()).unwrap()
    }
}
