//! `weft ping` between two nodes.

use crate::cluster::{Cluster, WORKERS, weft};
use serde_json::Value;
use std::process::Output;
use weft_lab::{Regime, skips_test};

/// What `weft <command>` on a node ends with and says, all of it.
pub(crate) fn ask(cluster: &Cluster, number: usize, words: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.lab.node(number).ns.command(weft());
    command.args(words).arg("--socket-dir");
    command.arg(cluster.agents[&number].socket_dir());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

/// What it measures to the subnet of the other node, in few requests.
fn measured(cluster: &Cluster, more: &[&str]) -> Value {
    let subnet = cluster.lab.node(2).subnet.unwrap().trunc().to_string();
    let words = [&["ping", &subnet, "--json", "-i", "0.02"], more].concat();
    let (code, text) = ask(cluster, 1, &words);
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn ways(report: &Value) -> Vec<&str> {
    let ways = report["ways"].as_array().unwrap().iter();
    ways.map(|way| way["way"].as_str().unwrap()).collect()
}

#[test]
fn both_ways_are_measured_and_told_apart() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &["-fast-path=auto"]);
    let report = measured(&cluster, &["-c", "20"]);
    assert_eq!(ways(&report), ["fast path", "userspace"], "{report}");
    for (i, by_fast_path) in [(0, 20), (1, 0)] {
        let way = &report["ways"][i];
        assert_eq!(way["sent"], 20);
        assert_eq!(way["received"], 20, "{way}");
        assert_eq!(way["loss"], 0.0);
        let times = &way["times"];
        let median = times["median_seconds"].as_f64().unwrap();
        let p99 = times["p99_seconds"].as_f64().unwrap();
        assert!(0.0 < median && median <= p99 && p99 < 1.0, "{way}");
        // Nobody else sends here, so that counters tell it to the packet.
        let all = serde_json::json!([by_fast_path, by_fast_path]);
        assert_eq!(way["out_by_fast_path"], all, "{report}");
        assert_eq!(way["in_by_fast_path"], all, "{report}");
    }
    assert_eq!(report["path_mtu"], 1450);
    assert_eq!(report["device_mtu"], 1450);

    // One way that packets cannot take is not measured.
    let (code, said) = ask(&cluster, 1, &["fast-path", "off"]);
    assert_eq!(code, Some(0), "{said}");
    let report = measured(&cluster, &["-c", "2"]);
    assert_eq!(ways(&report), ["userspace"], "{report}");
    ask(&cluster, 1, &["fast-path", "on"]);
    let report = measured(&cluster, &["-c", "2"]);
    assert_eq!(ways(&report), ["fast path"], "{report}");
}

#[test]
fn a_path_that_narrows_is_measured_as_it_is() {
    if skips_test() {
        return;
    }
    for way in ["-fast-path=auto", WORKERS] {
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[way]);
        assert_eq!(measured(&cluster, &["-c", "1"])["path_mtu"], 1450, "{way}");
        for node in cluster.lab.nodes() {
            node.ns.ip("link set eth0 mtu 1400").unwrap();
        }
        let report = measured(&cluster, &["-c", "1"]);
        assert_eq!(report["path_mtu"], 1350, "{way}: {report}");
        assert_eq!(report["in_fragments"], 1450, "{way}: {report}");
        let (_, text) = ask(&cluster, 1, &["ping", "10.99.0.2", "-c", "1"]);
        assert!(
            text.contains("1350: less than the device's, 1450"),
            "{text}"
        );
    }
}

#[test]
fn a_node_with_kernel_vxlan_is_measured_by_both_ways_as_well() {
    if skips_test() {
        return;
    }
    let flags = ["-fast-path=auto"];
    let cluster = Cluster::weft_and_kernel_with(Regime::R1, &flags);
    let report = measured(&cluster, &["-c", "10"]);
    assert_eq!(ways(&report), ["fast path", "userspace"], "{report}");
    for (i, by_fast_path) in [(0, 10), (1, 0)] {
        let way = &report["ways"][i];
        assert_eq!(way["received"], 10, "{way}");
        let out = serde_json::json!([by_fast_path, by_fast_path]);
        assert_eq!(way["out_by_fast_path"], out, "{report}");
        // What comes back has an outer checksum, and is the workers' for that.
        assert_eq!(way["in_by_fast_path"], serde_json::json!([0, 0]), "{way}");
    }
    assert_eq!(report["path_mtu"], 1450);
    let (_, text) = ask(&cluster, 1, &["doctor", "--all"]);
    assert!(text.contains("reach            1 of 1"), "{text}");
}

#[test]
fn a_node_that_does_not_answer_and_one_that_is_none_end_as_ping_does() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let pod = cluster.pod(2).address.to_string();
    for node in ["10.99.0.2", &pod] {
        let (code, text) = ask(&cluster, 1, &["ping", node, "-c", "2", "-i", "0.01"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("sent 2, lost 0 (0%)"), "{text}");
    }
    let (code, text) = ask(&cluster, 1, &["ping", "10.99.0.22"]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    for part in ["did you mean 10.99.0.2?", "peers: 10.244."] {
        assert!(text.contains(part), "{text}");
    }
    cluster.agents.get_mut(&2).unwrap().kill().unwrap();
    let (code, text) = ask(&cluster, 1, &["ping", "10.99.0.2", "-c", "2"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("lost 2 (100%)"), "{text}");
    let (code, text) = ask(&cluster, 1, &["ping", "10.99.0.2", "--interval", "0"]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let (code, text) = ask(&cluster, 1, &["ping", "10.99.0.2"]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("no agent"), "{text}");
}
