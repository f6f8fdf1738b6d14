//! Nodes, pods and the underlay between them.

use super::{Error, Namespace, Regime, Result, guard, run};
use crate::ip::remove_namespace;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The underlay device of every node.
pub const UNDERLAY: &str = "eth0";

/// What to build.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Number of nodes, 2 to 200.
    pub nodes: usize,
    /// MTU of the underlay in bytes.
    pub mtu: u32,
    /// Offloads of the underlay.
    pub regime: Regime,
    /// Pods that [`Lab::attach_pod`] puts on each node. With one, the pod hangs straight on
    /// the node's `cni0`; with more, `cni0` is a bridge.
    pub pods_per_node: usize,
}

impl Default for LabOptions {
    fn default() -> LabOptions {
        LabOptions {
            nodes: 2,
            mtu: 1500,
            regime: Regime::R1,
            pods_per_node: 1,
        }
    }
}

/// A pod: a namespace with `eth0` behind a node's `cni0`.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Where it lives.
    pub ns: Namespace,
    /// Its address inside the node's subnet: `.2` for the first pod.
    pub address: Ipv4Addr,
}

/// A node: a namespace with `eth0` on the underlay.
#[derive(Debug)]
pub struct Node {
    /// 1 for the first.
    pub number: usize,
    /// Where it lives.
    pub ns: Namespace,
    /// Its underlay address, `10.99.0.<number>`.
    pub underlay: Ipv4Addr,
    /// Pods attached so far.
    pub pods: Vec<Pod>,
    /// The pods' subnet, once attached.
    pub subnet: Option<Ipv4Net>,
}

impl Node {
    /// The first pod, or an error saying that there is none.
    pub fn pod(&self) -> Result<&Pod> {
        let none = || Error::new(format!("node {} has no pod", self.number));
        self.pods.first().ok_or_else(none)
    }
}

/// Nodes on one underlay, a directory for their files, and a guard that removes all of it.
#[derive(Debug)]
pub struct Lab {
    id: String,
    dir: PathBuf,
    options: LabOptions,
    nodes: Vec<Node>,
    switch: Option<Namespace>,
    bpffs: Option<PathBuf>,
}

impl Lab {
    /// Build nodes and underlay. Labs whose owner died are removed first.
    pub fn new(options: LabOptions) -> Result<Lab> {
        if !(2..=200).contains(&options.nodes) || options.pods_per_node == 0 {
            return Err(Error::new(
                "a lab has 2 to 200 nodes and at least one pod on each",
            ));
        }
        // Another process may be at the same leftovers; what neither removes is not ours to
        // fail on.
        let _ = guard::remove_orphans(false);
        let (id, dir) = guard::register()?;
        // From here on a failure drops the lab, and that removes what there is of it.
        let mut lab = Lab {
            id,
            dir,
            options,
            nodes: Vec::new(),
            switch: None,
            bpffs: None,
        };
        // Not everybody may; agents then pin nothing.
        lab.bpffs = guard::bpffs(&lab.id).ok();
        for number in 1..=lab.options.nodes {
            let node = lab.make_node(number)?;
            lab.nodes.push(node);
        }
        lab.join_nodes()?;
        lab.set_regime(lab.options.regime)?;
        Ok(lab)
    }

    fn make_node(&self, number: usize) -> Result<Node> {
        let ns = self.namespace(&format!("n{number}"))?;
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
        ] {
            ns.sysctl(key, value)?;
        }
        Ok(Node {
            number,
            ns,
            underlay: Ipv4Addr::new(10, 99, 0, number as u8),
            pods: Vec::new(),
            subnet: None,
        })
    }

    /// A further namespace that goes with the lab, such as a pod that a container runtime's
    /// plugins are to attach. Roles in use are `n<number>`, `p<number>` and `switch`.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        Namespace::create(&format!("weft-{}-{role}", self.id))
    }

    fn join_nodes(&mut self) -> Result<()> {
        let mtu = self.options.mtu;
        if let [a, b] = &self.nodes[..] {
            veth((&a.ns, UNDERLAY), (&b.ns, UNDERLAY), mtu)?;
        } else {
            let switch = self.namespace("switch")?;
            switch.ip(&format!("link add sw0 mtu {mtu} type bridge"))?;
            switch.ip("link set sw0 up")?;
            for node in &self.nodes {
                let port = port_of(node);
                veth((&switch, &port), (&node.ns, UNDERLAY), mtu)?;
                switch.ip(&format!("link set {port} master sw0 up"))?;
            }
            self.switch = Some(switch);
        }
        for node in &self.nodes {
            let address = node.underlay;
            node.ns
                .ip(&format!("addr add {address}/24 dev {UNDERLAY}"))?;
            node.ns.ip(&format!("link set {UNDERLAY} up"))?;
        }
        Ok(())
    }

    /// The id in the names of the lab's namespaces.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A directory for files of the lab's life; removed with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the lab's own BPF file system is, if one could be mounted. It serves all nodes: what
    /// agents pin goes by their network namespace.
    pub fn bpffs(&self) -> Option<&Path> {
        self.bpffs.as_deref()
    }

    /// As [`Lab::dir`], but in memory if there is room.
    pub fn memory_dir(&self) -> Result<PathBuf> {
        guard::memory(&self.id)
    }

    /// All nodes; the first has number 1 and index 0.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this number, counted from 1.
    ///
    /// # Panics
    /// When the lab has no such node.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// The switch that joins three nodes and more; its port to node `number` is `port<number>`.
    pub fn switch(&self) -> Option<&Namespace> {
        self.switch.as_ref()
    }

    /// The regime in force.
    pub fn regime(&self) -> Regime {
        self.options.regime
    }

    /// Change the underlay's offloads on all nodes.
    pub fn set_regime(&mut self, regime: Regime) -> Result<()> {
        for node in &self.nodes {
            regime.apply(&node.ns, UNDERLAY, false)?;
            if let Some(switch) = &self.switch {
                regime.apply(switch, &port_of(node), true)?;
            }
        }
        self.options.regime = regime;
        Ok(())
    }

    /// Put the pods of node `number` (from 1) into `subnet`, written as its gateway
    /// (`10.244.7.1/24`): `.1` goes to `cni0`, `.2` and on to the pods. `mtu` is the
    /// overlay's. Pods attached before are replaced.
    pub fn attach_pod(&mut self, number: usize, subnet: Ipv4Net, mtu: u32) -> Result<Pod> {
        let count = self.options.pods_per_node;
        let base = u32::from(subnet.network());
        let (gateway, prefix) = (Ipv4Addr::from(base + 1), subnet.prefix_len());
        self.detach_pods(number)?;
        let ns = self.node(number).ns.clone();
        if count > 1 {
            ns.ip(&format!("link add cni0 mtu {mtu} type bridge"))?;
        }
        for i in 0..count {
            let role = match i {
                0 => format!("p{number}"),
                _ => format!("p{number}-{}", i + 1),
            };
            let pod = Pod {
                ns: self.namespace(&role)?,
                address: Ipv4Addr::from(base + 2 + i as u32),
            };
            let end = if count > 1 {
                format!("veth{}", i + 1)
            } else {
                "cni0".to_owned()
            };
            veth((&ns, &end), (&pod.ns, "eth0"), mtu)?;
            if count > 1 {
                ns.ip(&format!("link set {end} master cni0 up"))?;
            }
            let address = pod.address;
            pod.ns
                .ip(&format!("addr add {address}/{prefix} dev eth0"))?;
            pod.ns.ip("link set eth0 up")?;
            pod.ns.ip(&format!("route add default via {gateway}"))?;
            self.nodes[number - 1].pods.push(pod);
        }
        ns.ip(&format!("addr add {gateway}/{prefix} dev cni0"))?;
        ns.ip("link set cni0 up")?;
        self.nodes[number - 1].subnet = Some(subnet.trunc());
        self.node(number).pod().cloned()
    }

    /// Remove the pods of node `number` and its `cni0`.
    pub fn detach_pods(&mut self, number: usize) -> Result<()> {
        let bridged = self.options.pods_per_node > 1;
        let node = &mut self.nodes[number - 1];
        node.subnet = None;
        // Deleting one end of a veth takes the other along at once; deleting a namespace
        // does so only some time later.
        for (i, pod) in node.pods.drain(..).enumerate() {
            if bridged {
                node.ns.ip(&format!("link del veth{}", i + 1))?;
            } else {
                node.ns.ip("link del cni0")?;
            }
            remove_namespace(pod.ns.name())?;
        }
        if bridged && node.ns.ip("link show cni0").is_ok() {
            node.ns.ip("link del cni0")?;
        }
        Ok(())
    }

    /// Remove everything, and say what could not be removed.
    pub fn destroy(self) -> Result<()> {
        guard::release(&self.id)
    }

    /// Let everything outlive this process: nodes, pods, files and what runs in them.
    pub fn keep(self) -> Result<()> {
        guard::keep(&self.id)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = guard::release(&self.id) {
            eprintln!("lab {}: {error}", self.id);
        }
    }
}

fn port_of(node: &Node) -> String {
    format!("port{}", node.number)
}

/// A veth pair between two namespaces, both ends down.
fn veth(a: (&Namespace, &str), b: (&Namespace, &str), mtu: u32) -> Result<()> {
    let ((a, a_dev), (b, b_dev)) = ((a.0.name(), a.1), (b.0.name(), b.1));
    super::ip(&format!(
        "link add {a_dev} netns {a} mtu {mtu} type veth peer name {b_dev} netns {b} mtu {mtu}"
    ))
    .map(drop)
}

/// Ping from inside a namespace: `count` echoes of `payload` bytes, 50 ms apart, DF set if
/// asked for. An error unless every one is answered.
pub fn ping(from: &Namespace, to: Ipv4Addr, count: u32, payload: u32, df: bool) -> Result<()> {
    let mut command = from.command("ping");
    // It waits for the last reply no longer than between two of them, and a busy machine is slow.
    command.args(["-q", "-n", "-i", "0.2", "-W", "1"]);
    command.args(["-c", &count.to_string(), "-s", &payload.to_string()]);
    command.args(["-M", if df { "do" } else { "dont" }]);
    let output = run(command.arg(to.to_string()))?;
    if output.contains(" 0% packet loss") {
        return Ok(());
    }
    Err(Error::because(format!("ping {to}"), output))
}
