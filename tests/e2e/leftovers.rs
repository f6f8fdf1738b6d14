//! Devices that a former network config had and the present one has not.

use crate::cluster::{Cluster, NEWS, PREFIX, lines_with, weft};
use crate::dual_stack::{BOTH, add_underlay, config};
use std::os::unix::fs::MetadataExt;
use weft_lab::{Agent, AgentOptions, Lab, Namespace, Regime, skips_test, wait_until};

/// Names of the TUN and TAP devices of a node, sorted.
fn tuns(ns: &Namespace) -> Vec<String> {
    let shown = ns.ip("-o link show type tun").unwrap();
    let names = shown.lines().filter_map(|line| line.split(": ").nth(1));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

fn add_tun(ns: &Namespace, name: &str) {
    ns.ip(&format!("tuntap add {name} mode tun multi_queue"))
        .unwrap();
}

/// Have the agent of node 1 end, by a signal or by force, and start with another config.
fn start_with(cluster: &mut Cluster, config: &str, kill: bool) {
    let key = format!("{PREFIX}/config");
    cluster.etcd.put(&key, config).unwrap();
    let agent = cluster.agents.get_mut(&1).unwrap();
    match kill {
        true => agent.kill().unwrap(),
        false => drop(agent.stop().unwrap()),
    }
    agent.start_again().unwrap();
    agent.wait_written().unwrap();
}

/// Devices of node 1 that programs are pinned for, as the BPF file system spells them.
fn pinned(lab: &Lab) -> impl Fn() -> Vec<String> + use<> {
    let namespace = || std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    let namespace = lab.node(1).ns.enter(namespace).unwrap();
    let folder = lab.bpffs().map(|dir| dir.join(format!("weft/{namespace}")));
    move || {
        let entries = folder.iter().flat_map(std::fs::read_dir);
        let names = entries.flatten().flatten();
        names
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

fn with_vni(vni: u32) -> String {
    format!(r#"{{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan","VNI":{vni}}}}}"#)
}

fn of_type(kind: &str) -> String {
    format!(r#"{{"Network":"10.244.0.0/16","Backend":{{"Type":"{kind}"}}}}"#)
}

#[test]
fn devices_of_a_former_config_go_and_foreign_ones_stay() {
    if skips_test() {
        return;
    }
    for kill in [false, true] {
        changes_of_config(kill);
    }
}

fn changes_of_config(kill: bool) {
    let both = config(BOTH, "vxlan").replace(r#""vxlan""#, r#""vxlan","VNI":7"#);
    let mut cluster = Cluster::configured(2, Regime::R1, &both);
    add_underlay(&cluster.lab);
    let ns = cluster.lab.node(1).ns.clone();
    for foreign in ["flannel.9", "flannel5"] {
        add_tun(&ns, foreign);
    }
    cluster.launch(1).wait_written().unwrap();
    let log = cluster.agents[&1].log_file();
    let expect = |own: &[&str], removed: &[&str]| {
        let foreign = ["flannel.9", "flannel5"];
        let mut expected: Vec<&str> = own.iter().chain(&foreign).copied().collect();
        expected.sort();
        // The TAP goes with what is left of a killed process.
        let there = wait_until(NEWS, || tuns(&ns) == expected);
        assert!(there, "{:?} instead of {expected:?}", tuns(&ns));
        for device in removed {
            let words = [&format!("removed {device},"), "earlier run"];
            let lines = lines_with(&log, &words.map(|word| word as &str));
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
    };
    expect(&["flannel.7", "flannel-v6.7", "weft.7"], &[]);
    let alias = ns.ip("link show flannel-v6.7").unwrap();
    assert!(alias.contains(&format!("alias weft {PREFIX} /")), "{alias}");

    let pinned = pinned(&cluster.lab);
    let pins_of = |device: &[&str]| {
        let there = wait_until(NEWS, || pinned() == device);
        assert!(there, "{:?} instead of {device:?}", pinned());
    };
    let has_pins = wait_until(NEWS, || !lines_with(&log, &["fast path"]).is_empty())
        && lines_with(&log, &["fast path on "]).len() == 1
        && cluster.lab.bpffs().is_some();
    if has_pins {
        pins_of(&["flannel+7"]);
    }

    start_with(&mut cluster, &with_vni(1), kill);
    expect(&["flannel.1", "weft.1"], &["flannel.7", "flannel-v6.7"]);
    if has_pins {
        pins_of(&["flannel+1"]);
    }
    let routes = ns.ip("-6 route show").unwrap();
    assert!(!routes.contains("fd00:244:"), "{routes}");

    start_with(&mut cluster, &of_type("udp"), kill);
    expect(&["flannel0"], &["flannel.1"]);
    start_with(&mut cluster, &of_type("host-gw"), kill);
    expect(&[], &["flannel0"]);
    assert_eq!(ns.ip("route show 10.244.0.0/16").unwrap(), "");
    pins_of(&[]);
    start_with(&mut cluster, &with_vni(1), kill);
    expect(&["flannel.1", "weft.1"], &[]);
    start_with(&mut cluster, &of_type("alloc"), kill);
    expect(&[], &[]);
}

#[test]
fn routes_of_a_family_that_the_network_lost_go() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(2, Regime::R1, &config(BOTH, "host-gw"));
    add_underlay(&cluster.lab);
    for number in [1, 2] {
        cluster.launch(number).wait_written().unwrap();
    }
    let ns = cluster.lab.node(1).ns.clone();
    let ours = || ns.ip("-6 route show proto 119").unwrap();
    let there = wait_until(NEWS, || ours().contains("via fd99::2"));
    assert!(there, "{}", ours());
    start_with(&mut cluster, &of_type("host-gw"), false);
    assert_eq!(ours(), "");
}

/// An agent of node 1 for a network of its own.
fn agent_of(lab: &Lab, etcd: &str, name: &str) -> Agent {
    let mut options = AgentOptions::new(weft(), etcd);
    options.prefix = format!("/{name}/network");
    options.name = name.to_owned();
    let mut agent = Agent::start(lab, 1, options).unwrap();
    agent.wait_ready().unwrap();
    agent
}

#[test]
fn devices_of_another_agent_stay_whether_it_runs_or_not() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    let put = |name: &str, network: u8, vni: u32, port: u16| {
        let config = format!(
            r#"{{"Network":"10.{network}.0.0/16","Backend":{{"Type":"vxlan","VNI":{vni},"Port":{port}}}}}"#
        );
        let key = format!("/{name}/network/config");
        cluster.etcd.put(&key, &config).unwrap();
    };
    put("one", 11, 1, 8472);
    put("two", 12, 2, 8473);
    let [mut one, mut two] = ["one", "two"].map(|name| {
        let endpoint = cluster.etcd.endpoint();
        agent_of(&cluster.lab, endpoint, name)
    });
    let ns = &cluster.lab.node(1).ns;
    let devices = || {
        let mut devices = tuns(ns);
        devices.retain(|name| name.starts_with("flannel."));
        devices
    };
    assert_eq!(devices(), ["flannel.1", "flannel.2"]);
    let mut change = |vni: u32| {
        put("one", 11, vni, 8472);
        one.stop().unwrap();
        one.start_again().unwrap();
        one.wait_ready().unwrap();
    };
    change(3);
    assert_eq!(devices(), ["flannel.2", "flannel.3"]);
    two.stop().unwrap();
    change(4);
    assert_eq!(devices(), ["flannel.2", "flannel.4"]);
    let route = ns.ip("route show 10.12.0.0/16").unwrap();
    assert!(route.contains("dev flannel.2"), "{route}");
}
