//! Nodes that know each other from a file, without etcd.

use crate::cluster::{CONFIG, NEWS, lines_with, weft};
use crate::dual_stack::{self, BOTH, add_underlay, exchange4, exchange6, field};
use crate::probe::Probe;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{Agent, AgentOptions, Lab, LabOptions, PeersFile, skips_test, wait_until};

/// A lab whose nodes share a subnets file.
struct Nodes {
    // Dropped first to last: the lab at the end.
    agents: BTreeMap<usize, Agent>,
    file: PeersFile,
    lab: Lab,
}

impl Nodes {
    /// Nodes of which these are in the file; no agent runs yet.
    fn new(nodes: usize, numbers: impl IntoIterator<Item = usize>) -> Nodes {
        Nodes::configured(CONFIG, nodes, numbers)
    }

    /// As [`Nodes::new`], with a network config of its own.
    fn configured(config: &str, nodes: usize, numbers: impl IntoIterator<Item = usize>) -> Nodes {
        let options = LabOptions {
            nodes,
            ..LabOptions::default()
        };
        let lab = Lab::new(options).unwrap();
        let file = PeersFile::create(&lab, config, numbers).unwrap();
        Nodes {
            agents: BTreeMap::new(),
            file,
            lab,
        }
    }

    fn start(&mut self, number: usize) {
        let options = AgentOptions::without_etcd(weft(), self.file.path());
        let agent = Agent::start(&self.lab, number, options).unwrap();
        self.agents.insert(number, agent);
    }

    /// Wait until a node has its lease, and put a pod into its subnet.
    fn attach(&mut self, number: usize) {
        let env = self.agents.get_mut(&number).unwrap().wait_ready().unwrap();
        assert_eq!(env.subnet.addr().octets()[2], number as u8);
        self.lab.attach_pod(number, env.subnet, env.mtu).unwrap();
    }

    fn write(&self, numbers: impl IntoIterator<Item = usize>) {
        self.file.write(&self.lab, numbers).unwrap();
    }

    fn ping(&self, a: usize, b: usize) -> weft_lab::Result<()> {
        let to = self.lab.node(b).pod().unwrap().address;
        ping(&self.lab.node(a).pod().unwrap().ns, to, 1, 56, false)
    }

    fn await_path(&self, a: usize, b: usize) {
        let reached = wait_until(NEWS, || self.ping(a, b).is_ok());
        assert!(reached, "node {a} does not reach node {b}");
    }

    fn await_line(&self, number: usize, words: &[&str]) {
        let log = self.agents[&number].log_file();
        let said = wait_until(NEWS, || !lines_with(&log, words).is_empty());
        assert!(said, "node {number} does not say {words:?}");
    }
}

#[test]
fn nodes_join_and_leave_by_a_file_while_traffic_runs() {
    if skips_test() {
        return;
    }
    let mut nodes = Nodes::new(3, [1, 2]);
    for number in [1, 2] {
        nodes.start(number);
        nodes.attach(number);
    }
    nodes.await_path(1, 2);
    let pod = |nodes: &Nodes, number| nodes.lab.node(number).pod().unwrap().clone();
    let probe = Probe::start(&pod(&nodes, 1), &pod(&nodes, 2));

    // A node that is not in the file says what to add and waits.
    nodes.start(3);
    nodes.await_line(
        3,
        &["no lease for 10.99.0.3", r#""Subnet":"10.244.3.0/24""#],
    );
    nodes.write([1, 2, 3]);
    nodes.attach(3);
    for number in [1, 2] {
        nodes.await_path(number, 3);
        nodes.await_path(3, number);
    }

    // A broken file changes nothing, nor does a vanished one.
    let whole = std::fs::read(nodes.file.path()).unwrap();
    std::fs::write(nodes.file.path(), &whole[..whole.len() / 2]).unwrap();
    nodes.await_line(
        1,
        &[
            "WARN",
            "peers.json: ",
            "line",
            "keeping what it held before",
        ],
    );
    std::fs::remove_file(nodes.file.path()).unwrap();
    nodes.await_line(1, &["WARN", "peers.json: cannot be read", "keeping"]);
    nodes.ping(1, 3).unwrap();

    nodes.write([1, 2]);
    nodes.await_line(1, &["peers.json can be read again"]);
    let agent = nodes.agents.get_mut(&3).unwrap();
    let status = agent.wait(NEWS).unwrap();
    assert_eq!(status.code(), Some(1), "so that a service manager notices");
    nodes.await_line(3, &["ERROR", "revoked", "10.244.3.0"]);
    let gone = wait_until(NEWS, || {
        let before = drops(&nodes.agents[&1]);
        nodes.ping(1, 3).is_err() && drops(&nodes.agents[&1]) > before
    });
    assert!(gone, "node 1 still sends to node 3");
    probe.finish();
}

fn drops(agent: &Agent) -> u64 {
    let counters = agent.counters().unwrap();
    counters.get("drop_no_peer").copied().unwrap_or(0)
}

#[test]
fn a_bare_node_without_a_usable_file_waits_for_one() {
    if skips_test() {
        return;
    }
    let mut nodes = Nodes::new(2, [1]);
    let whole = std::fs::read_to_string(nodes.file.path()).unwrap();
    std::fs::remove_file(nodes.file.path()).unwrap();
    nodes.start(1);
    nodes.await_line(1, &["WARN", "peers.json: cannot be read", "looking again"]);
    let foreign = whole.replace("10.244.1.0/24", "10.245.1.0/24");
    std::fs::write(nodes.file.path(), foreign).unwrap();
    let words = [
        "WARN",
        "peers.json: line ",
        "Subnet 10.245.1.0/24",
        "10.244.0.0/16",
    ];
    nodes.await_line(1, &words);
    std::fs::write(nodes.file.path(), whole).unwrap();
    nodes.attach(1);
    nodes.await_line(1, &["ready: 10.244.1.0/24", "peers: 0"]);
    let log = std::fs::read_to_string(nodes.agents[&1].log_file()).unwrap();
    assert!(!log.contains("etcd unreachable"), "{log}");
}

#[test]
fn a_file_and_etcd_at_once_are_refused_in_one_line() {
    for (flags, words) in [
        (
            &["-subnets-file=peers.toml", "-etcd-endpoints=http://h:1"][..],
            &["-subnets-file", "-etcd-endpoints"][..],
        ),
        (
            &["-subnets-file=peers.yaml"],
            &["peers.yaml", ".toml or .json"],
        ),
    ] {
        let output = std::process::Command::new(weft())
            .arg("agent")
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

/// Weft's own frames need the MAC that the entry states or all nodes derive.
#[test]
fn a_stated_mac_is_the_one_that_a_node_has() {
    if skips_test() {
        return;
    }
    let mut nodes = Nodes::new(2, [1, 2]);
    let text = std::fs::read_to_string(nodes.file.path()).unwrap();
    let mac = r#""BackendData": {"VtepMAC": "0e:aa:bb:cc:dd:ee"}, "Subnet": "10.244.2.0/24""#;
    let stated = text.replace(r#""Subnet": "10.244.2.0/24""#, mac);
    assert_ne!(stated, text);
    std::fs::write(nodes.file.path(), stated).unwrap();
    for number in [1, 2] {
        nodes.start(number);
        nodes.attach(number);
    }
    nodes.await_path(1, 2);
    nodes.await_path(2, 1);
    // Kept by the peers: the same file after a restart of one of them.
    let agent = nodes.agents.get_mut(&2).unwrap();
    agent.stop().unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    nodes.await_path(1, 2);
}

#[test]
fn a_file_gives_nodes_a_subnet_of_either_family() {
    if skips_test() {
        return;
    }
    let config = dual_stack::config(BOTH, "vxlan");
    let mut nodes = Nodes::configured(&config, 2, [1, 2]);
    add_underlay(&nodes.lab);
    let mut text = std::fs::read_to_string(nodes.file.path()).unwrap();
    for number in [1, 2] {
        let v4 = format!(r#""Subnet": "10.244.{number}.0/24""#);
        let v6 = format!(
            r#"{v4}, "IPv6Subnet": "fd00:244:0:{number}::/64", "PublicIPv6": "fd99::{number}""#
        );
        assert!(text.contains(&v4), "{text}");
        text = text.replace(&v4, &v6);
    }
    std::fs::write(nodes.file.path(), text).unwrap();
    let [one, two] = [1, 2].map(|number| {
        nodes.start(number);
        let agent = nodes.agents.get_mut(&number).unwrap();
        agent.wait_written().unwrap();
        let v4: Ipv4Net = field(agent, "FLANNEL_SUBNET").unwrap();
        let v6: Ipv6Net = field(agent, "FLANNEL_IPV6_SUBNET").unwrap();
        assert_eq!(v4.to_string(), format!("10.244.{number}.1/24"));
        assert_eq!(v6.to_string(), format!("fd00:244:0:{number}::1/64"));
        let mtu = field(agent, "FLANNEL_MTU").unwrap();
        dual_stack::attach(&mut nodes.lab, number, v4, v6, mtu)
    });
    exchange4(&one, &two);
    exchange6(&one, &two);
}
