//! A small flannel cluster: a lab, its etcd or subnets file, an agent on each node, pods in their subnets.

use super::{
    Agent, AgentOptions, Error, Etcd, Lab, LabOptions, PeersFile, Result, SubnetEnv,
    topology::ping, wait_until,
};
use std::path::PathBuf;
use std::time::Duration;

/// Key of the network configuration under flannel's default prefix.
pub const CONFIG_KEY: &str = "/coreos.com/network/config";

/// How long routes to peers may take after `subnet.env`; flannel promises nothing here.
const PEERS_LIMIT: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Nodes and underlay.
    pub lab: LabOptions,
    /// The `weft` binary.
    pub binary: PathBuf,
    /// The network configuration, JSON.
    pub config: String,
    /// Agents run on nodes 1 to this; the other nodes stay bare.
    pub agents: usize,
    /// Further flags for every agent.
    pub flags: Vec<String>,
    /// Whether leases are in etcd; else they are in a subnets file.
    pub etcd: bool,
}

impl ClusterOptions {
    /// Two nodes with agents of this binary, network 10.244.0.0/16, vxlan.
    pub fn new(binary: impl Into<PathBuf>) -> ClusterOptions {
        ClusterOptions {
            lab: LabOptions::default(),
            binary: binary.into(),
            config: r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#.to_owned(),
            agents: 2,
            flags: Vec::new(),
            etcd: true,
        }
    }
}

/// The running cluster. Fields drop in this order: agents first, namespaces last.
#[derive(Debug)]
pub struct Cluster {
    /// Agent of node `i + 1`.
    pub agents: Vec<Agent>,
    /// What each agent wrote.
    pub envs: Vec<SubnetEnv>,
    /// On node 1, if leases are in etcd.
    pub etcd: Option<Etcd>,
    /// Where leases are otherwise.
    pub peers_file: Option<PeersFile>,
    /// Everything else.
    pub lab: Lab,
}

impl Cluster {
    /// Start everything and attach pods. `step` hears what is being done.
    pub fn start(options: &ClusterOptions, mut step: impl FnMut(&str)) -> Result<Cluster> {
        step("nodes and their underlay");
        let lab = Lab::new(options.lab.clone())?;
        let mut cluster = Cluster {
            agents: Vec::new(),
            envs: Vec::new(),
            etcd: None,
            peers_file: None,
            lab,
        };
        let mut agents = cluster.store(options, &mut step)?;
        agents.flags.clone_from(&options.flags);
        step("agents");
        for number in 1..=options.agents {
            let agent = Agent::start(&cluster.lab, number, agents.clone())?;
            cluster.agents.push(agent);
        }
        step("leases and pods");
        for (i, agent) in cluster.agents.iter_mut().enumerate() {
            let node = i + 1;
            let env = agent
                .wait_ready()
                .map_err(|e| Error::because(format!("node {node}"), e))?;
            cluster.lab.attach_pod(node, env.subnet, env.mtu)?;
            cluster.envs.push(env);
        }
        Ok(cluster)
    }

    /// Start etcd or write the subnets file; agents that use it.
    fn store(
        &mut self,
        options: &ClusterOptions,
        step: &mut impl FnMut(&str),
    ) -> Result<AgentOptions> {
        let binary = &options.binary;
        if !options.etcd {
            let file = PeersFile::create(&self.lab, &options.config, 1..=options.agents)?;
            let file = self.peers_file.insert(file);
            return Ok(AgentOptions::without_etcd(binary, file.path()));
        }
        step("etcd");
        let etcd = self.etcd.insert(Etcd::start(&self.lab, 1)?);
        etcd.put(CONFIG_KEY, &options.config)?;
        Ok(AgentOptions::new(binary, etcd.endpoint()))
    }

    /// Overlay MTU, as the first agent wrote it.
    pub fn mtu(&self) -> u32 {
        self.envs.first().map_or(1450, |env| env.mtu)
    }

    /// Process ids of the running agents.
    pub fn agent_pids(&self) -> Vec<u32> {
        self.agents.iter().filter_map(Agent::pid).collect()
    }

    /// Have all agents run with these further flags. They keep subnets, MACs and devices;
    /// those that run with just these flags already go on as they are.
    pub fn set_flags(&mut self, flags: &[&str]) -> Result<()> {
        for agent in &mut self.agents {
            if agent.pid().is_none() || agent.flags() != flags {
                agent.start_with(flags.iter().map(|&f| f.to_owned()).collect())?;
            }
        }
        for (i, agent) in self.agents.iter_mut().enumerate() {
            let failed = |e| Error::because(format!("weft on node {}", i + 1), e);
            let env = agent.wait_ready().map_err(failed)?;
            if env != self.envs[i] {
                return Err(failed(Error::new(
                    "it came back with another subnet or MTU",
                )));
            }
        }
        // What is measured of it is measured of the ways that it has.
        for agent in &self.agents {
            agent.wait_for_way()?;
        }
        Ok(())
    }

    /// Wait until every pod of an agent's node reaches every other, with small packets and
    /// with the largest that fit the overlay's MTU unfragmented.
    pub fn ping_all(&self) -> Result<()> {
        let pods = self.lab.nodes().iter().flat_map(|node| &node.pods);
        let pods: Vec<_> = pods.collect();
        // IPv4 and ICMP headers.
        let largest = self.mtu() - 28;
        for from in &pods {
            for to in pods.iter().filter(|to| to.address != from.address) {
                let mut last = None;
                wait_until(PEERS_LIMIT, || {
                    last = ping(&from.ns, to.address, 1, 56, false).err();
                    last.is_none()
                });
                last.map_or(Ok(()), Err)?;
                ping(&from.ns, to.address, 3, largest, true)?;
            }
        }
        Ok(())
    }

    /// Let everything outlive this process.
    pub fn keep(self) -> Result<()> {
        self.lab.keep()?;
        self.agents.into_iter().for_each(Agent::leave);
        self.etcd.into_iter().for_each(Etcd::leave);
        Ok(())
    }
}
