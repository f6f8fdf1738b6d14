//! `weft connectivity` over three nodes.

use crate::cluster::{Cluster, WORKERS, weft};
use crate::ping::ask;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use weft_lab::{Regime, script, skips_test};

/// A program that runs a command on the node that its first word numbers, as ssh would.
fn shell(cluster: &Cluster) -> PathBuf {
    let path = cluster.lab.dir().join("on-node");
    let places = cluster.lab.nodes().iter().map(|node| {
        let (number, namespace) = (node.number, node.ns.name());
        let sockets = cluster.agents[&number].socket_dir();
        let sockets = sockets.display();
        format!("n{number}) export FLANNELD_SOCKET_DIR={sockets}; exec ip netns exec {namespace} \"$@\";;")
    });
    let places: Vec<String> = places.collect();
    let text = format!(
        "node=$1; shift\ncase $node in\n{}\n*) echo \"no such host: $node\" >&2; exit 255;;\nesac",
        places.join("\n")
    );
    script(&path, &text).unwrap();
    path
}

fn connectivity(cluster: &Cluster, words: &[&str]) -> (Option<i32>, String) {
    let run = format!("{} {{node}}", shell(cluster).display());
    let mut command = Command::new(weft());
    command
        .args(["connectivity", "--run", &run, "--weft"])
        .arg(weft());
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(words).output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

/// The cells of the matrix, line by line, without numbers and names.
fn cells(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip(2).take(3);
    let words = lines.map(|line| line.split_whitespace().skip(2).map(str::to_owned).collect());
    words.collect()
}

#[test]
fn every_pair_of_three_nodes_is_in_the_matrix() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(3, Regime::R1, &[WORKERS]);
    let nodes = ["n1", "n2", "n3"];
    let (code, text) = connectivity(&cluster, &nodes);
    assert_eq!(code, Some(0), "{text}");
    for (i, line) in cells(&text).iter().enumerate() {
        for (j, cell) in line.iter().enumerate() {
            let is_time = cell.parse::<f64>().is_ok_and(|ms| ms > 0.0 && ms < 1000.0);
            assert!(if i == j { cell == "-" } else { is_time }, "{text}");
        }
    }

    // One way between two nodes, while both reach the third.
    let drop = "-A INPUT -p udp --dport 8472 -s 10.99.0.1 -j DROP";
    let drop: Vec<&str> = ["iptables"].into_iter().chain(drop.split(' ')).collect();
    cluster.lab.node(2).ns.run(&drop).unwrap();
    let (code, text) = connectivity(&cluster, &nodes);
    assert_eq!(code, Some(1), "{text}");
    let found = cells(&text);
    for (i, j, lost) in [(0, 1, true), (1, 0, true), (0, 2, false), (2, 1, false)] {
        assert_eq!(found[i][j] == "LOST", lost, "{text}");
    }
    assert!(text.contains("\nn1 -> n2: 3 of 3 lost"), "{text}");
    let (_, text) = connectivity(&cluster, &["--json", "n1", "n2", "nobody"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["pairs"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["pairs"][0]["measured"]["received"], 0, "{json}");
    assert_eq!(json["missing"][0]["reason"], "no such host: nobody");

    // A node whose agent does not run has nothing to say, and the others lose it.
    cluster.agents.get_mut(&3).unwrap().stop().unwrap();
    let (code, text) = connectivity(&cluster, &nodes);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(cells(&text)[0][2], "?", "{text}");
    assert!(text.contains("\nn3: weft connectivity: no agent"), "{text}");
    let (code, _) = connectivity(&cluster, &["nobody"]);
    assert_eq!(code, Some(2));
}

#[test]
fn rows_that_nodes_have_written_make_the_same_matrix() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let mut files = Vec::new();
    for number in [1, 2] {
        let (code, row) = ask(&cluster, number, &["connectivity", "--json"]);
        assert_eq!(code, Some(0), "{row}");
        let path = cluster.lab.dir().join(format!("row{number}.json"));
        std::fs::write(&path, row).unwrap();
        files.push(path.display().to_string());
    }
    let mut command = Command::new(weft());
    let output = command.arg("connectivity").args(&files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("\n  1 row1       - "), "{text}");
    let (code, text) = ask(&cluster, 1, &["connectivity"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(" 10.99.0.2 "), "{text}");
}
