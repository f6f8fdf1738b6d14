//! A lab with an API server on node 1, and agents that take their subnets from it.

use crate::cluster::{NEWS, weft};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;
use weft_lab::kube::{ApiOptions, ApiServer, nodes};
use weft_lab::topology::ping;
use weft_lab::{Agent, AgentOptions, Lab, Pod, Regime, SubnetEnv, wait_until};

pub(crate) const PREFIX: &str = "flannel.alpha.coreos.com/";
pub(crate) const VXLAN: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// How long anything may take on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Fields drop in this order.
pub(crate) struct KubeCluster {
    pub(crate) agents: BTreeMap<usize, Agent>,
    pub(crate) api: ApiServer,
    pub(crate) lab: Lab,
    /// Further flags of agents that start.
    pub(crate) flags: Vec<String>,
}

impl KubeCluster {
    /// So many nodes, which the cluster does not know yet.
    pub(crate) fn empty(nodes: usize, config: &str) -> KubeCluster {
        KubeCluster::in_lab(crate::cluster::new_lab(nodes, Regime::R1), config)
    }

    pub(crate) fn in_lab(lab: Lab, config: &str) -> KubeCluster {
        let node = lab.node(1);
        let api = ApiServer::start(ApiOptions {
            address: (node.underlay, 6443).into(),
            namespace: Some(node.ns.clone()),
            ..ApiOptions::default()
        });
        let cluster = KubeCluster {
            agents: BTreeMap::new(),
            api: api.unwrap(),
            lab,
            flags: Vec::new(),
        };
        cluster.set_config(config);
        let kubeconfig = cluster.lab.dir().join("kubeconfig");
        cluster.api.write_kubeconfig(&kubeconfig).unwrap();
        cluster
    }

    /// Registered nodes with agents and pods that reach each other.
    pub(crate) fn of_weft(nodes: usize, config: &str) -> KubeCluster {
        let mut cluster = KubeCluster::empty(nodes, config);
        for number in 1..=nodes {
            cluster.register(number);
            cluster.join(number);
        }
        cluster.await_all();
        cluster
    }

    pub(crate) fn set_config(&self, config: &str) {
        fs::write(self.lab.dir().join("net-conf.json"), config).unwrap();
    }

    /// What a kubelet and the controller manager do: `10.244.<number>.0/24`.
    pub(crate) fn register(&self, number: usize) {
        self.register_with(number, &[&format!("10.244.{number}.0/24")]);
    }

    pub(crate) fn register_with(&self, number: usize, cidrs: &[&str]) {
        self.api.put_node(nodes::realistic(&name(number), cidrs));
    }

    /// Other nodes that the cluster has, as flanneld has annotated them; nobody is there.
    pub(crate) fn add_foreign(&self, numbers: std::ops::Range<u16>) {
        for number in numbers {
            let [high, low] = number.to_be_bytes();
            let cidr = format!("10.{}.{low}.0/24", 128 + high);
            let mut node = nodes::realistic(&format!("foreign-{number}"), &[&cidr]);
            let mac = format!("0e:00:00:00:{high:02x}:{low:02x}");
            for (key, value) in [
                ("kube-subnet-manager", "true".to_owned()),
                ("backend-type", "vxlan".to_owned()),
                ("backend-data", format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
                ("public-ip", format!("10.99.{}.{low}", 100 + high)),
            ] {
                node["metadata"]["annotations"][format!("{PREFIX}{key}")] = value.into();
            }
            self.api.put_node(node);
        }
    }

    /// Start an agent without waiting for it.
    pub(crate) fn launch(&mut self, number: usize) -> &mut Agent {
        let dir = self.lab.dir();
        let file = |name: &str| dir.join(name).display().to_string();
        let mut options = AgentOptions::new(weft(), "");
        options.flags = vec![
            "--kube-subnet-mgr".to_owned(),
            format!("--kubeconfig-file={}", file("kubeconfig")),
            format!("--net-config-path={}", file("net-conf.json")),
        ];
        options.flags.extend(self.flags.iter().cloned());
        options.env.insert("NODE_NAME".to_owned(), name(number));
        let agent = Agent::start(&self.lab, number, options).unwrap();
        self.agents.entry(number).insert_entry(agent).into_mut()
    }

    /// Start an agent, and put a pod into its subnet.
    pub(crate) fn join(&mut self, number: usize) -> SubnetEnv {
        let env = self.launch(number).wait_ready().unwrap();
        self.lab.attach_pod(number, env.subnet, env.mtu).unwrap();
        env
    }

    pub(crate) fn pod(&self, number: usize) -> &Pod {
        self.lab.node(number).pod().unwrap()
    }

    /// Wait until the pod of `a` reaches that of `b`.
    pub(crate) fn await_path(&self, a: usize, b: usize) {
        self.await_address(a, self.pod(b).address);
    }

    pub(crate) fn await_address(&self, a: usize, to: Ipv4Addr) {
        let from = &self.pod(a).ns;
        let mut last = Ok(());
        let reached = wait_until(NEWS, || {
            last = ping(from, to, 1, 56, false);
            last.is_ok()
        });
        assert!(reached, "node {a} does not reach {to}: {last:?}");
    }

    /// Every pod reaches every other one.
    pub(crate) fn await_all(&self) {
        let with_pods = || self.lab.nodes().iter().filter(|node| !node.pods.is_empty());
        for a in with_pods() {
            for b in with_pods().filter(|b| b.number != a.number) {
                self.await_path(a.number, b.number);
            }
        }
    }

    pub(crate) fn annotation(&self, number: usize, key: &str) -> Option<String> {
        let node = self.api.node(&name(number))?;
        nodes::annotation(&node, &format!("{PREFIX}{key}")).map(str::to_owned)
    }

    pub(crate) fn annotate(&self, number: usize, key: &str, value: Option<&str>) {
        let key = format!("{PREFIX}{key}");
        self.api.annotate_node(&name(number), &key, value);
    }

    /// Status of the condition NetworkUnavailable.
    pub(crate) fn unavailable(&self, number: usize) -> Option<String> {
        let node = self.api.node(&name(number))?;
        let condition = nodes::condition(&node, "NetworkUnavailable")?;
        condition["status"].as_str().map(str::to_owned)
    }

    pub(crate) fn await_up(&self, number: usize) {
        let up = || self.unavailable(number).as_deref() == Some("False");
        assert!(
            wait_until(LIMIT, up),
            "node {number}: {:?}",
            self.unavailable(number)
        );
    }

    pub(crate) fn log(&self, number: usize) -> String {
        fs::read_to_string(self.agents[&number].log_file()).unwrap_or_default()
    }

    /// What `weft status` says of an agent.
    pub(crate) fn status(&self, number: usize, words: &[&str]) -> String {
        let dir = self.agents[&number].socket_dir();
        let output = Command::new(weft())
            .arg("status")
            .args(words)
            .arg(format!("--socket-dir={}", dir.display()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Wait for a line of an agent's log.
    pub(crate) fn expect(&self, number: usize, text: &str) {
        let said = wait_until(LIMIT, || self.log(number).contains(text));
        assert!(
            said,
            "node {number} does not say {text:?}:\n{}",
            self.log(number)
        );
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("node-{number}")
}
