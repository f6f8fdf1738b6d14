//! `weft doctor` on nodes that are well, and on nodes where one thing was broken.

use crate::cluster::{CONFIG, Cluster, NEWS, WORKERS, weft};
use crate::ping::ask;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;
use weft_lab::{Agent, AgentOptions, Lab, LabOptions, Namespace, Regime, skips_test, wait_until};

/// Checks that may warn on a machine where all is well: what they look at is the machine's.
const MACHINES: [&str; 5] = ["clock", "conflist", "kernel", "io-uring", "checksums"];

/// The exit status of a doctor on node `number`, and its findings by check.
fn examined(cluster: &Cluster, number: usize) -> (Option<i32>, BTreeMap<String, Value>) {
    read(ask(cluster, number, &["doctor", "--json"]))
}

fn read((code, text): (Option<i32>, String)) -> (Option<i32>, BTreeMap<String, Value>) {
    let finding = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}"));
        (finding["id"].as_str().unwrap().to_owned(), finding)
    };
    (code, text.lines().map(finding).collect())
}

/// What a check says, if it says this of what it looks at.
fn found(cluster: &Cluster, id: &str, verdict: &str, why: &str) -> Value {
    let mut last = Value::Null;
    let said = wait_until(NEWS, || {
        last = examined(cluster, 1).1.remove(id).unwrap();
        last["verdict"] == verdict && last["why"].as_str().unwrap().contains(why)
    });
    assert!(said, "no {verdict} with {why:?}: {last}");
    last
}

/// Do on a node what a finding says, command by command.
fn mend(ns: &Namespace, finding: &Value) {
    let remedies = finding["remedies"].as_array().unwrap();
    let commands: Vec<&str> = remedies.iter().filter_map(|r| r["run"].as_str()).collect();
    assert!(!commands.is_empty(), "{finding}");
    for command in commands {
        ns.run(&["sh", "-c", command]).unwrap();
    }
}

fn is_well(cluster: &Cluster, id: &str) {
    found(cluster, id, "ok", "");
}

#[test]
fn a_healthy_pair_of_nodes_has_nothing_to_mend() {
    if skips_test() {
        return;
    }
    for flags in [&[WORKERS][..], &["-fast-path=auto", "-ip-masq"]] {
        let cluster = Cluster::of_weft_with(2, Regime::R1, flags);
        for number in [1, 2] {
            let (code, findings) = examined(&cluster, number);
            for finding in findings.values() {
                let verdict = finding["verdict"].as_str().unwrap();
                let of_machine = MACHINES.contains(&finding["id"].as_str().unwrap());
                assert!(
                    matches!(verdict, "ok" | "unknown") || of_machine,
                    "{finding}"
                );
            }
            assert_eq!(findings["reach"]["why"], "1 of 1");
            let failed = findings
                .values()
                .any(|finding| finding["verdict"] == "failure");
            assert_eq!(code, Some(i32::from(failed)));
        }
        let (_, text) = ask(&cluster, 1, &["doctor", "--all", "--peer", "10.99.0.2"]);
        assert!(
            text.contains("\nchecks: ") && text.contains("reach            1 of 1"),
            "{text}"
        );
        let (code, text) = ask(&cluster, 1, &["doctor", "--peer", "10.99.0.3"]);
        assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains("did you mean 10.99.0.2?"), "{text}");
    }
}

#[test]
fn what_is_broken_on_the_host_is_found_and_mended_by_what_is_said() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let node = &cluster.lab.node(1).ns;
    let drop = "iptables -A INPUT -p udp --dport 8472 -j DROP";
    for (id, fault, verdict, why) in [
        (
            "forwarding",
            "sysctl -qw net.ipv4.ip_forward=0",
            "failure",
            "ip_forward is 0",
        ),
        (
            "rp-filter",
            "sysctl -qw net/ipv4/conf/flannel.1/rp_filter=1",
            "warning",
            "flannel.1 is strict",
        ),
        (
            "mtu",
            "ip link set dev eth0 mtu 1400",
            "failure",
            "up to 1500 bytes, and eth0 takes 1400",
        ),
        (
            "linkdown",
            "sysctl -qw net.ipv4.conf.all.ignore_routes_with_linkdown=1",
            "warning",
            "is 1",
        ),
        ("firewall", drop, "failure", "a rule drops UDP 8472"),
        (
            "bridge",
            "ip link set dev cni0 mtu 1500",
            "failure",
            "MTU of cni0 is 1500",
        ),
    ] {
        is_well(&cluster, id);
        node.run(&["sh", "-c", fault]).unwrap();
        let finding = found(&cluster, id, verdict, why);
        if verdict == "failure" {
            assert_eq!(examined(&cluster, 1).0, Some(1), "{finding}");
        }
        if id == "firewall" {
            found(
                &cluster,
                "reach",
                "failure",
                "datagrams get there, and what is sent from there does not get here",
            );
        }
        mend(node, &finding);
        is_well(&cluster, id);
    }
    // Whose device that is nobody can tell, so that no command takes it away.
    node.ip("link add vx0 type vxlan id 9 dstport 8472 dev eth0")
        .unwrap();
    let finding = found(&cluster, "port", "warning", "vx0 wants it");
    assert!(finding["remedies"][0]["do"].is_string(), "{finding}");
    node.ip("link delete vx0").unwrap();
    is_well(&cluster, "port");
    is_well(&cluster, "reach");
    cluster.await_path(1, 2);
}

#[test]
fn what_is_broken_on_another_node_is_told_apart() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let peer = cluster.lab.node(2).ns.clone();
    is_well(&cluster, "reach");
    let drop = "iptables -A INPUT -p udp --dport 8472 -j DROP";
    peer.run(&["sh", "-c", drop]).unwrap();
    let why = "what is sent from there gets here, and datagrams do not get there";
    let finding = found(&cluster, "reach", "failure", why);
    let remedy = finding["remedies"][0]["do"].as_str().unwrap();
    let command = remedy.strip_prefix("on 10.99.0.2: ").unwrap();
    let (command, _) = command.split_once(';').unwrap();
    peer.run(&["sh", "-c", command]).unwrap();
    is_well(&cluster, "reach");

    cluster.agents.get_mut(&2).unwrap().stop().unwrap();
    let finding = found(
        &cluster,
        "reach",
        "failure",
        "nobody has the UDP port there",
    );
    let remedy = finding["remedies"][0]["do"].as_str().unwrap();
    assert!(
        remedy.starts_with("on 10.99.0.2: systemctl start weft"),
        "{finding}"
    );
    cluster.agents.get_mut(&2).unwrap().start_again().unwrap();
    is_well(&cluster, "reach");

    peer.ip("link set eth0 down").unwrap();
    found(
        &cluster,
        "reach",
        "failure",
        "no answer on the underlay either",
    );
}

#[test]
fn a_firewall_that_the_fast_path_passes_by_is_found_from_another_node() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    cluster.await_way(1);
    cluster.await_way(2);
    is_well(&cluster, "workers");
    if cluster.counter(2, "fast_receives") == 0 {
        return weft_lab::skip("there is no fast path here");
    }
    let peer = cluster.lab.node(2).ns.clone();
    let rule = "INPUT -p udp --dport 8472 -j DROP";
    peer.run(&["sh", "-c", &format!("iptables -A {rule}")])
        .unwrap();
    is_well(&cluster, "reach");
    found(&cluster, "workers", "warning", "on the fast path alone");
    peer.run(&["sh", "-c", &format!("iptables -D {rule}")])
        .unwrap();
    is_well(&cluster, "workers");
}

#[test]
fn a_path_that_is_narrower_than_it_seems_is_found() {
    if skips_test() {
        return;
    }
    let options = LabOptions {
        nodes: 3,
        ..LabOptions::default()
    };
    let cluster = Cluster::in_lab(Lab::new(options).unwrap(), CONFIG).filled(&[WORKERS]);
    is_well(&cluster, "path-mtu");
    // What is between takes less than both ends, and whoever forbids fragments loses them.
    let via = cluster.lab.node(3).underlay;
    let router = &cluster.lab.node(3).ns;
    router
        .sysctl("net/ipv4/conf/all/send_redirects", "0")
        .unwrap();
    router
        .sysctl("net/ipv4/conf/eth0/send_redirects", "0")
        .unwrap();
    for (own, other) in [(1, 2), (2, 1)] {
        let to = cluster.lab.node(other).underlay;
        router
            .ip(&format!("route add {to}/32 dev eth0 mtu 1400"))
            .unwrap();
        let route = format!("route add {to}/32 via {via} dev eth0");
        cluster.lab.node(own).ns.ip(&route).unwrap();
    }
    found(&cluster, "path-mtu", "warning", "10.99.0.2");
    is_well(&cluster, "fragments");
    // Now fragments are lost as well.
    let drop = "iptables -t raw -A PREROUTING -f -j DROP";
    cluster.lab.node(2).ns.run(&["sh", "-c", drop]).unwrap();
    found(
        &cluster,
        "fragments",
        "failure",
        "small packets reach 10.99.0.2",
    );
}

#[test]
fn without_an_agent_the_host_is_examined_and_what_keeps_one_from_starting_is_found() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &["-fast-path=auto"]);
    let node = cluster.lab.node(1).ns.clone();
    cluster.agents.get_mut(&2).unwrap().stop().unwrap();
    let goes_on = "nobody has the UDP port on 10.99.0.2: the fast path goes on";
    if cluster.lab.bpffs().is_some() && cluster.counter(1, "fast_sends") > 0 {
        found(&cluster, "peer-agents", "warning", goes_on);
    }
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let (code, findings) = examined(&cluster, 1);
    assert_eq!(code, Some(1));
    assert_eq!(findings["agent"]["verdict"], "failure", "{findings:?}");
    assert_eq!(findings["reach"]["verdict"], "unknown");
    assert_eq!(findings["tun"]["verdict"], "ok");
    assert_eq!(findings["forwarding"]["verdict"], "ok");

    node.ip("link add vx0 type vxlan id 9 dstport 8472 dev eth0")
        .unwrap();
    node.ip("link set vx0 up").unwrap();
    found(
        &cluster,
        "port",
        "failure",
        "the kernel VXLAN device vx0 has it",
    );
    node.ip("link delete vx0").unwrap();
    is_well(&cluster, "port");
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    is_well(&cluster, "agent");
    cluster.etcd.stop().unwrap();
    found(&cluster, "store", "failure", "etcd does not answer");
    assert_eq!(examined(&cluster, 1).0, Some(1));
}

#[test]
fn fifty_nodes_that_do_not_answer_are_asked_at_the_same_time() {
    if skips_test() {
        return;
    }
    let lab = Lab::new(LabOptions::default()).unwrap();
    let lease = |number: u8| json!({ "Subnet": format!("10.244.{number}.0/24"), "PublicIP": format!("10.99.0.{number}") });
    let own = std::iter::once(1);
    let config: Value = serde_json::from_str(CONFIG).unwrap();
    let leases: Vec<Value> = own.chain(51..101).map(lease).collect();
    let file = lab.dir().join("fifty.json");
    let text = json!({ "config": config, "leases": leases });
    std::fs::write(&file, text.to_string()).unwrap();
    let mut agent = Agent::start(&lab, 1, AgentOptions::without_etcd(weft(), &file)).unwrap();
    agent.wait_ready().unwrap();
    let mut command = lab.node(1).ns.command(weft());
    command
        .args(["doctor", "--json", "--socket-dir"])
        .arg(agent.socket_dir());
    let begun = Instant::now();
    let output = command.output().unwrap();
    let took = begun.elapsed();
    let text = String::from_utf8(output.stdout).unwrap();
    let (code, findings) = read((output.status.code(), text));
    assert_eq!(code, Some(1));
    let why = findings["reach"]["why"].as_str().unwrap();
    assert!(
        why.contains("50 of 50 do not answer (10.99.0.51, "),
        "{why}"
    );
    eprintln!("50 nodes that do not answer: {took:?}");
}
