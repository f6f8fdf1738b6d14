//! `/metrics` and `weft status`: what a real Prometheus reads of two nodes, and that both say the
//! same.

mod prometheus;

use crate::cluster::{Cluster, NEWS, PREFIX, WORKERS, weft};
use crate::traffic::tcp;
use prometheus::{Answer, Prometheus, get, promtool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test, skips_test_without, wait_until};

const HEALTH: &str = "-healthz-port=8471";

/// A node that is in the store and that no route leads to.
const AWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 201, 9);

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/grafana")
        .join(name)
}

fn address(cluster: &Cluster, number: usize) -> SocketAddr {
    (cluster.lab.node(number).underlay, 8471).into()
}

fn scrape(cluster: &Cluster, number: usize, more: &str) -> Answer {
    let at = address(cluster, number);
    get(&cluster.lab.node(number).ns, at, "/metrics", more).unwrap()
}

/// The samples of a text, by name and labels as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(sample).collect()
}

fn status(cluster: &Cluster, number: usize, words: &[&str]) -> String {
    let mut command = Command::new(weft());
    command.arg("status").args(words);
    command
        .arg("--socket-dir")
        .arg(cluster.agents[&number].socket_dir());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let error = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{error}");
    String::from_utf8(stdout).unwrap()
}

fn json(cluster: &Cluster, number: usize) -> Value {
    serde_json::from_str(&status(cluster, number, &["--json"])).unwrap()
}

/// Two nodes, and in the store a third that no route leads to.
fn cluster_of_three(flags: &[&str]) -> Cluster {
    let flags = [&[HEALTH, WORKERS], flags].concat();
    let cluster = Cluster::of_weft_with(2, Regime::R1, &flags);
    let value = r#"{"PublicIP":"203.0.113.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:63"}}"#;
    let key = format!("{PREFIX}/subnets/10.244.201.0-24");
    cluster.etcd.put(&key, value).unwrap();
    cluster
}

/// Two nodes that have sent something, and lost frames of a third.
fn busy_cluster() -> Cluster {
    let cluster = cluster_of_three(&["-metrics-peer-traffic"]);
    for number in [1, 2] {
        let lost = || {
            let _ = ping(&cluster.pod(number).ns, AWAY, 1, 56, false);
            samples(&scrape(&cluster, number, "").body)
                .get(r#"weft_peer_lost_frames_total{device="flannel.1",peer="203.0.113.77"}"#)
                .is_some_and(|frames| *frames > 0.0)
        };
        assert!(wait_until(NEWS, lost), "node {number} loses nothing");
    }
    cluster
}

#[test]
fn prometheus_has_data_of_both_nodes_for_each_alert_and_each_panel() {
    let programs = ["prometheus", "promtool"].map(|program| (program, "prometheus"));
    if skips_test_without(&programs) {
        return;
    }
    let rules = deployed("weft.rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "").unwrap();
    let cluster = busy_cluster();
    for number in [1, 2] {
        let text = scrape(&cluster, number, "").body;
        promtool(&["check", "metrics"], &text).unwrap();
    }
    let targets = [1, 2].map(|number| address(&cluster, number).to_string());
    let prometheus = Prometheus::start(&cluster.lab, 1, &targets, &rules);
    prometheus.await_data("weft_build_info", 2);
    prometheus.await_data(r#"up{job="weft"} == 1"#, 2);
    // Without it there are no quantiles.
    let slowest = r#"weft_store_answer_duration_seconds_bucket{le="+Inf"} > 0"#;
    prometheus.await_data(slowest, 2);

    let mut seen = 0;
    for line in std::fs::read_to_string(&rules).unwrap().lines() {
        let Some(expression) = line.trim().strip_prefix("expr: ") else {
            continue;
        };
        for metric in metrics_of(expression) {
            prometheus.await_data(metric, 2);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
    assert_eq!(prometheus.unhealthy_rules(), Vec::<String>::new());

    let dashboard = std::fs::read_to_string(deployed("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$__rate_interval", "1m");
            prometheus.await_data(&expression.replace("$instance", ".*"), 2);
        }
    }
    assert!(panels.len() >= 10, "{}", panels.len());
}

/// What an alert compares: each side of an `and`, up to its comparison.
fn metrics_of(expression: &str) -> impl Iterator<Item = &str> {
    let sides = expression.split(" and on (instance, job) ");
    sides.map(|side| {
        let ends = [" == ", " > ", " < "].map(|sign| side.find(sign).unwrap_or(side.len()));
        &side[..ends.into_iter().min().unwrap_or(side.len())]
    })
}

#[test]
fn status_says_what_metrics_say() {
    if skips_test() {
        return;
    }
    let cluster = busy_cluster();
    let (before, body, after) = (
        json(&cluster, 1),
        scrape(&cluster, 1, "").body,
        json(&cluster, 1),
    );
    let metrics = samples(&body);
    let of = |name: &str| metrics.get(name).copied().unwrap_or(-1.0);
    assert_eq!(of("weft_ready"), 1.0);
    assert_eq!(before["ready"], true);
    let version = before["version"].as_str().unwrap();
    assert_eq!(
        of(&format!("weft_build_info{{version=\"{version}\"}}")),
        1.0
    );
    assert_eq!(Some(of("weft_peers")), before["peers"].as_f64());
    assert_eq!(of("weft_peers"), 2.0);
    let pid = cluster.agents[&1].pid();
    assert_eq!(before["pid"].as_u64(), pid.map(u64::from));
    let subnet = before["lease"]["subnets"][0].as_str().unwrap();
    assert_eq!(subnet, cluster.lab.node(1).subnet.unwrap().to_string());
    let lease = format!("weft_lease_info{{subnet=\"{subnet}\",kind=\"lease\"}}");
    assert_eq!(of(&lease), 1.0);

    let range = |pointer: &str, name: &str| {
        let [low, high] = [&before, &after].map(|status| {
            let value = status.pointer(pointer).and_then(Value::as_f64);
            value.unwrap_or_else(|| panic!("{pointer} is not there: {status}"))
        });
        let (low, high) = (low.min(high), low.max(high));
        assert!(
            (low..=high).contains(&of(name)),
            "{name}: {low} {high} {}",
            of(name)
        );
    };
    range("/lease/seconds_left", "weft_lease_remaining_seconds");
    range("/store/health/requests", "weft_store_requests_total");
    let tunnel = &before["tunnels"][0];
    assert_eq!(tunnel["device"], "flannel.1");
    for (kind, labels) in [("counters", None), ("drops", Some("reason"))] {
        let counters = tunnel["workers"][kind].as_object().unwrap();
        assert!(counters.len() > 15, "{kind}");
        for name in counters.keys() {
            let metric = match labels {
                None => format!("weft_{name}_total{{device=\"flannel.1\"}}"),
                Some(label) => {
                    format!("weft_drops_total{{device=\"flannel.1\",{label}=\"{name}\"}}")
                }
            };
            range(&format!("/tunnels/0/workers/{kind}/{name}"), &metric);
        }
    }
    for (name, grant) in tunnel["workers"]["capabilities"].as_object().unwrap() {
        let grant = grant.as_str().unwrap();
        let labels = format!("device=\"flannel.1\",capability=\"{name}\",state=\"{grant}\"");
        assert_eq!(of(&format!("weft_capability{{{labels}}}")), 1.0, "{labels}");
    }
    let lost = "weft_peer_lost_frames_total{device=\"flannel.1\",peer=\"203.0.113.77\"}";
    range("/tunnels/0/workers/lost_to/0/frames", lost);
    range(
        "/tunnels/0/table/publications",
        "weft_table_publications_total{device=\"flannel.1\"}",
    );

    let text = status(&cluster, 1, &[]);
    assert!(text.lines().count() <= 20, "{text}");
    assert!(
        text.contains(subnet) && text.contains("203.0.113.77"),
        "{text}"
    );
}

#[test]
fn both_answer_while_the_store_is_away() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[HEALTH, WORKERS]);
    assert_eq!(json(&cluster, 1)["store"]["health"]["reachable"], true);
    cluster.etcd.stop().unwrap();
    let is_away = || json(&cluster, 1)["store"]["health"]["reachable"] == false;
    assert!(wait_until(NEWS, is_away), "{}", json(&cluster, 1));
    let metrics = samples(&scrape(&cluster, 1, "").body);
    assert_eq!(metrics["weft_store_up"], 0.0);
    assert!(metrics["weft_store_failures_total"] >= 1.0);
    assert_eq!(metrics["weft_ready"], 1.0);
    let text = status(&cluster, 1, &[]);
    assert!(text.contains("etcd DOES NOT ANSWER"), "{text}");
    cluster.etcd.start_again().unwrap();
    let is_back = || json(&cluster, 1)["store"]["health"]["reachable"] == true;
    assert!(wait_until(NEWS * 3, is_back), "{}", json(&cluster, 1));
}

#[test]
fn a_node_names_as_many_peers_that_lose_frames_as_it_is_told_to() {
    if skips_test() {
        return;
    }
    let cluster = cluster_of_three(&["-metrics-peers=0"]);
    let mut body = String::new();
    let loses = || {
        let _ = ping(&cluster.pod(1).ns, AWAY, 1, 56, false);
        body = scrape(&cluster, 1, "").body;
        samples(&body)["weft_lost_frames_total{device=\"flannel.1\"}"] > 0.0
    };
    assert!(wait_until(NEWS, loses));
    assert!(!body.contains("203.0.113.77"), "{body}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    let open = scrape(&cluster, 1, accept);
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
}

/// What nodes have counted of each other: packets and bytes from the first to the second, as both
/// say.
fn counted(cluster: &Cluster, from: usize, to: usize) -> [f64; 4] {
    let count = |on: usize, of: usize, what: &str| {
        let peer = cluster.lab.node(of).underlay;
        let name = format!(r#"weft_peer_{what}_total{{device="flannel.1",peer="{peer}"}}"#);
        let samples = samples(&scrape(cluster, on, "").body);
        samples.get(&name).copied().unwrap_or(-1.0)
    };
    [
        count(from, to, "sent_packets"),
        count(to, from, "received_packets"),
        count(from, to, "sent_bytes"),
        count(to, from, "received_bytes"),
    ]
}

#[test]
fn what_peers_send_each_other_is_counted_whatever_way_it_takes() {
    if skips_test() {
        return;
    }
    const BYTES: u64 = 4 << 20;
    for way in [WORKERS, "-fast-path=on"] {
        let flags = [HEALTH, way, "-metrics-peer-traffic"];
        let cluster = Cluster::of_weft_with(2, Regime::R1, &flags);
        let starts = || counted(&cluster, 1, 2)[0] >= 0.0 && counted(&cluster, 2, 1)[0] >= 0.0;
        assert!(wait_until(NEWS, starts), "{way}: nothing is counted");
        let before = counted(&cluster, 1, 2);
        tcp(cluster.pod(1), cluster.pod(2), 1, BYTES as usize);
        // What was on its way when one node was asked has come when it is asked again.
        let mut grown = [0.0; 4];
        let agree = wait_until(NEWS, || {
            let now = counted(&cluster, 1, 2);
            grown = std::array::from_fn(|i| now[i] - before[i]);
            // Who makes a super-packet need not say how many segments it is.
            (grown[0] - grown[1]).abs() <= grown[0] / 30.0 && grown[2] == grown[3]
        });
        assert!(agree, "{way}: {grown:?}");
        let segments = BYTES as f64 / 1_398.0;
        assert!(grown[0] >= segments, "{way}: {grown:?}");
        assert!(grown[0] < 2.0 * segments, "{way}: {grown:?}");
        assert!(grown[2] > BYTES as f64, "{way}: {grown:?}");
        let text = status(&cluster, 1, &[]);
        let peer = cluster.lab.node(2).underlay.to_string();
        assert!(text.contains(&format!(" {peer} out ")), "{text}");
    }
}
