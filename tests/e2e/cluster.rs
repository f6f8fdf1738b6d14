//! Nodes of an overlay, run by weft or by the kernel.

use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weft_lab::kernel::Peer;
use weft_lab::topology::ping;
use weft_lab::{
    Agent, AgentOptions, Etcd, Lab, LabOptions, Pod, Regime, SubnetEnv, Vtep, VxlanSpec, wait_until,
};

/// The key prefix that all clusters use, flannel's default.
pub(crate) const PREFIX: &str = "/coreos.com/network";

/// The network config that all clusters use. Nodes draw their subnets from its lower half; what
/// tests make up is in the upper one, 10.244.128.0 and up, where it meets none of them.
pub(crate) const CONFIG: &str =
    r#"{"Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","Backend":{"Type":"vxlan"}}"#;

/// The agent's flag for each way to move packets.
pub(crate) const ENGINES: [&str; 2] = ["-engine=ring", "-engine=poll"];

/// For tests of what the workers alone do.
pub(crate) const WORKERS: &str = "-fast-path=off";

/// What agents run as unless a test says otherwise: `make test` runs some tests twice, with the
/// flag's value `on` and with `off`.
pub(crate) fn fast_path() -> String {
    std::env::var("FLANNELD_FAST_PATH").unwrap_or_else(|_| "auto".to_owned())
}

/// How long news may take from one node to the others.
pub(crate) const NEWS: Duration = Duration::from_secs(10);

/// The binary under test: the one that `WEFT_BINARY` names, as `make test` has that test what
/// ships, or else the one that was built with this test.
pub(crate) fn weft() -> PathBuf {
    let named = std::env::var_os("WEFT_BINARY").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_weft")))
}

/// A lab with etcd on node 1 and a node agent or a kernel VTEP on each node that joined.
pub(crate) struct Cluster {
    // Dropped first to last: agents before their etcd, the lab at the end.
    pub(crate) agents: BTreeMap<usize, Agent>,
    pub(crate) vteps: BTreeMap<usize, Vtep>,
    pub(crate) etcd: Etcd,
    pub(crate) lab: Lab,
    /// Flags of agents that join.
    pub(crate) flags: Vec<String>,
}

impl Cluster {
    /// Nodes, etcd and the network config; nobody has joined yet.
    pub(crate) fn empty(nodes: usize, regime: Regime) -> Cluster {
        Cluster::in_lab(new_lab(nodes, regime), CONFIG)
    }

    /// As [`Cluster::empty`], with a network config of its own.
    pub(crate) fn configured(nodes: usize, regime: Regime, config: &str) -> Cluster {
        Cluster::in_lab(new_lab(nodes, regime), config)
    }

    /// etcd and this network config in a lab that is prepared already.
    pub(crate) fn in_lab(lab: Lab, config: &str) -> Cluster {
        let etcd = Etcd::start(&lab, 1).unwrap();
        etcd.put(&format!("{PREFIX}/config"), config).unwrap();
        Cluster {
            agents: BTreeMap::new(),
            vteps: BTreeMap::new(),
            etcd,
            lab,
            flags: Vec::new(),
        }
    }

    /// Nodes that all run weft and reach each other.
    pub(crate) fn of_weft(nodes: usize, regime: Regime) -> Cluster {
        Cluster::of_weft_with(nodes, regime, &[])
    }

    /// As [`Cluster::of_weft`], with further flags for all agents.
    pub(crate) fn of_weft_with(nodes: usize, regime: Regime, flags: &[&str]) -> Cluster {
        Cluster::empty(nodes, regime).filled(flags)
    }

    /// As [`Cluster::of_weft_with`], on an underlay of this MTU and with `configured` as
    /// `Backend.MTU` in the network config.
    pub(crate) fn on_underlay(
        nodes: usize,
        mtu: u32,
        regime: Regime,
        configured: Option<u32>,
        flags: &[&str],
    ) -> Cluster {
        let options = LabOptions {
            nodes,
            mtu,
            regime,
            ..LabOptions::default()
        };
        let config = match configured {
            Some(mtu) => CONFIG.replace(r#""vxlan""#, &format!(r#""vxlan","MTU":{mtu}"#)),
            None => CONFIG.to_owned(),
        };
        Cluster::in_lab(Lab::new(options).unwrap(), &config).filled(flags)
    }

    /// With weft on all nodes, once they reach each other.
    pub(crate) fn filled(mut self, flags: &[&str]) -> Cluster {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let nodes = self.lab.nodes().len();
        for number in 1..=nodes {
            self.join(number);
        }
        for a in 1..=nodes {
            for b in (1..=nodes).filter(|&b| b != a) {
                self.await_path(a, b);
            }
        }
        (1..=nodes).for_each(|number| self.await_way(number));
        self
    }

    /// Node 1 runs weft with these further flags, node 2 kernel VXLAN as flannel configures it.
    pub(crate) fn weft_and_kernel_with(regime: Regime, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::empty(2, regime);
        cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        cluster.join_kernel(2, "10.244.200.1/24");
        cluster.join(1);
        cluster.introduce(1, 2);
        cluster.await_path(1, 2);
        cluster.await_way(1);
        cluster
    }

    /// Start weft on a node and put a pod into the subnet it gets.
    pub(crate) fn join(&mut self, number: usize) -> SubnetEnv {
        let env = self.join_without_pod(number);
        self.lab.attach_pod(number, env.subnet, env.mtu).unwrap();
        env
    }

    /// Start weft on a node whose pods or containers others will attach.
    pub(crate) fn join_without_pod(&mut self, number: usize) -> SubnetEnv {
        self.launch(number).wait_ready().unwrap()
    }

    /// Start weft on a node without waiting for it.
    pub(crate) fn launch(&mut self, number: usize) -> &mut Agent {
        let mut options = AgentOptions::new(weft(), self.etcd.endpoint());
        options.flags.clone_from(&self.flags);
        let agent = Agent::start(&self.lab, number, options).unwrap();
        self.agents.entry(number).insert_entry(agent).into_mut()
    }

    /// Make a node a kernel VTEP with a lease of its own and a pod.
    pub(crate) fn join_kernel(&mut self, number: usize, subnet: &str) {
        self.join_kernel_as(number, subnet, VxlanSpec::flannel(1));
    }

    /// As [`Cluster::join_kernel`], with a device of these settings.
    pub(crate) fn join_kernel_as(&mut self, number: usize, subnet: &str, spec: VxlanSpec) {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        let vtep = Vtep::create(&self.lab, number, spec, subnet).unwrap();
        let key = format!("{PREFIX}/{}", vtep.lease_key());
        self.etcd
            .put_leased(&key, &vtep.lease_value(), 86_400)
            .unwrap();
        self.lab.attach_pod(number, subnet, 1450).unwrap();
        self.vteps.insert(number, vtep);
    }

    /// Tell the kernel's node about weft's, as flannel on it would.
    pub(crate) fn introduce(&self, weft: usize, kernel: usize) {
        let peer = Peer {
            subnet: self.lab.node(weft).subnet.unwrap(),
            underlay: self.lab.node(weft).underlay,
            mac: self.mac(weft),
        };
        let vtep = &self.vteps[&kernel];
        vtep.learn(&peer).unwrap();
        vtep.route(&peer).unwrap();
    }

    /// The first pod of a node.
    pub(crate) fn pod(&self, number: usize) -> &Pod {
        self.lab.node(number).pod().unwrap()
    }

    /// Key of a node's lease.
    pub(crate) fn lease_key(&self, number: usize) -> String {
        let subnet = self.lab.node(number).subnet.unwrap();
        let (base, len) = (subnet.network(), subnet.prefix_len());
        format!("{PREFIX}/subnets/{base}-{len}")
    }

    /// The MAC in a node's lease.
    pub(crate) fn mac(&self, number: usize) -> String {
        let key = self.lease_key(number);
        let value = self.etcd.get(&key).unwrap();
        let value = value.unwrap_or_else(|| panic!("{key} is not there"));
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        value["BackendData"]["VtepMAC"].as_str().unwrap().to_owned()
    }

    /// Wait until the pod of `a` reaches that of `b`.
    pub(crate) fn await_path(&self, a: usize, b: usize) {
        let (from, to) = (&self.pod(a).ns, self.pod(b).address);
        let mut last = Ok(());
        let reached = wait_until(NEWS, || {
            last = ping(from, to, 1, 56, false);
            last.is_ok()
        });
        assert!(reached, "node {a} does not reach node {b}: {last:?}");
    }

    /// Wait until the agent of node `number`, whose workers reach all peers, has said whether it
    /// has a fast path as well, and would have it carry flows that begin.
    pub(crate) fn await_way(&self, number: usize) {
        let Some(agent) = self.agents.get(&number) else {
            return;
        };
        let known = agent.wait_for_way().unwrap();
        assert!(
            known,
            "node {number} does not say whether it has a fast path"
        );
    }

    /// A counter of a node's agent, zero if it has not counted any.
    pub(crate) fn counter(&self, number: usize, name: &str) -> u64 {
        let counters = self.agents[&number].counters().unwrap();
        counters.get(name).copied().unwrap_or(0)
    }

    /// Ping until a node's counter has grown by the packets sent.
    pub(crate) fn assert_drops(&self, number: usize, to: Ipv4Addr, reason: &str) {
        let name = format!("drop_{reason}");
        let from = &self.pod(number).ns;
        let mut seen = (0, 0);
        let dropped = wait_until(NEWS, || {
            let before = self.counter(number, &name);
            let _ = ping(from, to, 3, 56, false);
            seen = (before, self.counter(number, &name));
            seen.1 >= seen.0 + 3
        });
        assert!(dropped, "node {number} does not drop with {name}: {seen:?}");
    }
}

/// A lab without anything on it.
pub(crate) fn new_lab(nodes: usize, regime: Regime) -> Lab {
    let options = LabOptions {
        nodes,
        regime,
        ..LabOptions::default()
    };
    Lab::new(options).unwrap()
}

/// The lines of a log that contain all of `words`.
pub(crate) fn lines_with(log: &Path, words: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}
