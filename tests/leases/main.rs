//! `weft leases` as a process, against a real etcd with TLS and users.
#![allow(clippy::unwrap_used)]

mod lab;
mod release;
mod watch;

use lab::{Lab, WEFT, complaint, value};
use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;
use weft_lab::etcd::cluster::{PREFIX, USER};
use weft_lab::etcd::own_address;

#[test]
fn leases_are_listed_and_shown() {
    let lab = Lab::new();
    assert!(
        lab.good(&["list"])
            .ends_with("0 leases, 0 of them reserved, 0 with conflicts\n")
    );
    lab.lease("10.5.7.0-24", 7);
    lab.cluster.put("subnets/10.5.8.0-24", &value(8));
    lab.cluster.put("subnets/10.5.9.0-24", &value(8));
    lab.cluster.put("subnets/nonsense", "{}");

    let table = lab.good(&["list"]);
    let row = table.lines().nth(1).unwrap();
    for word in [
        "10.5.7.0/24",
        "192.0.2.7",
        "vxlan",
        "0a:00:00:00:00:07",
        "s ago",
        "in 23h59m",
        "leased",
    ] {
        assert!(row.contains(word), "{word}: {table}");
    }
    for line in [
        "CONFLICT 10.5.8.0-24: public address 192.0.2.8 is also that of 10.5.9.0-24",
        "CONFLICT nonsense: the key names no subnet: nodes ignore it",
        "4 leases, 3 of them reserved, 3 with conflicts",
    ] {
        assert!(table.lines().any(|found| found == line), "{line}: {table}");
    }

    let leases = lab.json(&["list", "--json"]);
    assert_eq!(leases.len(), 4);
    assert_eq!(leases[0]["subnet"], "10.5.7.0/24");
    assert_eq!(leases[0]["granted_seconds"], 86_400);
    assert_eq!(leases[0]["reserved"], false);
    assert_eq!(leases[1]["reserved"], true);
    assert_eq!(leases[1]["conflicts"].as_array().unwrap().len(), 2);

    // By key, subnet, node and pod.
    let path = format!("{PREFIX}/subnets/10.5.7.0-24");
    for what in [
        "10.5.7.0-24",
        "10.5.7.0/24",
        &path,
        "192.0.2.7",
        "10.5.7.33",
    ] {
        let text = lab.good(&["show", what]);
        assert!(
            text.starts_with("key           10.5.7.0-24\n"),
            "{what}: {text}"
        );
        assert!(text.contains(&value(7)), "{what}: {text}");
    }
    assert_eq!(lab.json(&["show", "--json", "192.0.2.8"]).len(), 2);
    assert!(lab.bad(&["show", "10.5.77.0-24"]).contains("10.5.77.0-24"));
}

#[test]
fn subnets_are_reserved_and_released() {
    let lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    lab.good(&["reserve", "10.5.9.0/24", "--public-ip", "192.0.2.9"]);
    assert_eq!(
        lab.cluster.get("subnets/10.5.9.0-24"),
        Some(r#"{"PublicIP":"192.0.2.9","PublicIPv6":null}"#.to_owned())
    );
    for same in ["10.5.9.0/24", "10.5.9.0-24"] {
        let again = lab.good(&["reserve", same, "--public-ip", "192.0.2.9"]);
        assert!(again.contains("before"), "{again}");
    }
    // A node's lease keeps all that it says.
    lab.good(&["reserve", "10.5.7.0/24", "--public-ip", "192.0.2.7"]);
    assert_eq!(lab.cluster.get("subnets/10.5.7.0-24"), Some(value(7)));
    let lease = &lab.json(&["show", "--json", "10.5.7.0-24"])[0];
    assert_eq!(
        (&lease["reserved"], &lease["etcd_lease"]),
        (&Value::Bool(true), &Value::Null)
    );
    assert_eq!(lease["conflicts"], Value::Array(Vec::new()));

    for (subnet, node, words) in [
        ("10.5.7.0/24", "192.0.2.8", "belongs to 192.0.2.7"),
        ("10.5.10.0/24", "192.0.2.7", "already has 10.5.7.0-24"),
        (
            "10.6.7.0/24",
            "192.0.2.8",
            "of length 24 from 10.5.1.0 to 10.5.255.0",
        ),
        ("10.5.7.0/25", "192.0.2.8", "of length 24"),
    ] {
        let line = lab.bad(&["reserve", subnet, "--public-ip", node]);
        assert!(line.contains(words), "{line}");
    }
    assert!(
        lab.bad(&["release", "10.5.88.0/24"])
            .contains("10.5.88.0/24")
    );
    lab.good(&["release", "10.5.9.0/24"]);
    assert_eq!(lab.cluster.leases(), ["10.5.7.0-24"]);
}

#[test]
fn what_is_wrong_is_one_line() {
    let lab = Lab::new();
    let output = |words: &[&str], change: &dyn Fn(&mut Command)| {
        let mut command = lab.command(words);
        change(&mut command);
        command.output().unwrap()
    };
    let nowhere = format!("--etcd-endpoints=https://{}:1", own_address());
    let line = lab.bad(&["list", &nowhere]);
    assert!(
        line.contains("etcd cannot be reached: https://127."),
        "{line}"
    );
    let line = lab.bad(&["list", "-etcd-cafile=/nonexistent/ca.pem"]);
    assert!(
        line.contains("/nonexistent/ca.pem (-etcd-cafile)"),
        "{line}"
    );
    let scheme = output(&["list", "-etcd-endpoints=ftp://127.0.0.1"], &|_| {});
    let line = complaint(&scheme, 2);
    assert!(line.contains("ftp:// is none of http://"), "{line}");
    let wrong = output(&["list"], &|command| {
        command.env("FLANNELD_ETCD_PASSWORD", "7-wrong-threads");
    });
    let line = complaint(&wrong, 1);
    assert!(
        line.contains("check -etcd-username") && !line.contains("7-wrong"),
        "{line}"
    );
    for words in [&["list", "--yaml"][..], &[], &["reserve", "10.5.7.0/24"]] {
        complaint(&output(words, &|_| {}), 2);
    }
    let help = output(&["list", "--help"], &|_| {});
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("--etcd-cafile") && !help.contains(USER.1),
        "{help}"
    );
}

#[test]
fn without_a_ca_file_the_systems_authorities_count() {
    let lab = Lab::new();
    let mut command = lab.command(&["list"]);
    command.env_remove("FLANNELD_ETCD_CAFILE");
    let line = complaint(&command.output().unwrap(), 1);
    assert!(line.contains("not signed by any authority"), "{line}");
    // OpenSSL's variable names the system's authorities.
    command.env("SSL_CERT_FILE", lab.cluster.pki.ca());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn s85_real_tls_to_etcd_a_node_with_a_bad_certificate_file_ends_at_once() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("client.pem");
    std::fs::write(&file, "nonsense").unwrap();
    let mut command = Command::new(WEFT);
    command.args(["agent", "-etcd-endpoints=https://127.0.0.1:1"]);
    command.arg(format!("-etcd-certfile={}", file.display()));
    command.arg(format!("-etcd-keyfile={}", file.display()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let line = text.lines().last().unwrap();
    assert!(line.contains("client.pem (-etcd-certfile)"), "{line}");
}
