//! The other commands, and input that is refused.

use crate::call::{Bench, FLANNEL, V4, call_with, json_in};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

#[test]
fn all_versions_are_told() {
    let bench = Bench::new(&V4);
    let answer = bench.call("VERSION", "", &Value::Null).result();
    let versions = [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ];
    let expected = json!({"cniVersion": "1.1.0", "supportedVersions": versions});
    assert_eq!(answer, expected);
    bench.delegate("bridge", "cat >conf");
    for version in versions {
        let conf = bench.conf(json!({"cniVersion": version}));
        bench.call("ADD", "c1", &conf).result();
        assert_eq!(json_in(&bench.path("conf"))["cniVersion"], version);
    }
    let conf = bench.conf(json!({"cniVersion": "3.0.0"}));
    assert_eq!(bench.call("ADD", "c1", &conf).error().0, 1);
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(FLANNEL).env_remove("CNI_COMMAND").output();
    let output = output.unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("CNI plugin flannel"), "{said}");
}

#[test]
fn check_checks_nothing() {
    let bench = Bench::new(&V4);
    fs::remove_file(bench.path("subnet.env")).unwrap();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let conf = bench.conf(json!({"cniVersion": version}));
        assert_eq!(bench.call("CHECK", "c1", &conf).result(), Value::Null);
    }
}

#[test]
fn status_tells_whether_the_agent_is_there() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "echo $CNI_COMMAND >called");
    let conf = bench.conf(json!({"cniVersion": "1.1.0"}));
    assert_eq!(bench.call("STATUS", "", &conf).result(), Value::Null);
    assert_eq!(
        fs::read_to_string(bench.path("called")).unwrap(),
        "STATUS\n"
    );
    fs::remove_file(bench.path("subnet.env")).unwrap();
    let (code, msg) = bench.call("STATUS", "", &conf).error();
    assert_eq!(code, 50, "{msg}");
    let old = bench.conf(json!({"cniVersion": "1.0.0"}));
    assert_eq!(bench.call("STATUS", "", &old).error().0, 1);
}

#[test]
fn gc_forgets_what_nobody_wants() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "cat >conf.$CNI_COMMAND");
    let version = json!({"cniVersion": "1.1.0"});
    for id in ["wanted", "gone"] {
        bench.call("ADD", id, &bench.conf(version.clone())).result();
    }
    let mut other = bench.conf(version.clone());
    other["name"] = "other-network".into();
    bench.call("ADD", "foreign", &other).result();

    let wanted = json!([{"containerID": "wanted", "ifname": "eth0"}]);
    let mut conf = bench.conf(version);
    assert_eq!(bench.call("GC", "", &conf).error().0, 7, "without a list");
    conf["cni.dev/valid-attachments"] = wanted.clone();
    bench.call("GC", "", &conf).result();
    let told = json_in(&bench.path("conf.GC"));
    assert_eq!(told["cni.dev/valid-attachments"], wanted);
    assert!(bench.state("wanted").exists() && bench.state("foreign").exists());
    assert!(!bench.state("gone").exists());
}

#[test]
fn container_ids_lead_nowhere_else() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "echo >called");
    let conf = bench.conf(json!({}));
    fs::write(bench.path("victim"), "{\"type\":\"bridge\"}").unwrap();
    for command in ["ADD", "DEL", "CHECK"] {
        for id in ["../victim", "/tmp/x", "a/b", "..", ".hidden", ""] {
            assert_eq!(
                bench.call(command, id, &conf).error().0,
                4,
                "{command} {id}"
            );
        }
    }
    assert!(bench.path("victim").exists() && !bench.path("called").exists());
}

#[test]
fn refusals_are_one_line_with_a_code() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "echo >called");
    for (more, code, word) in [
        (json!({"name": ""}), 7, "name"),
        (json!({"name": 1}), 6, "config"),
        (json!({"delegate": {"ipam": {}}}), 7, "ipam"),
        (json!({"delegate": {"name": "x"}}), 7, "name"),
        (json!({"delegate": {"type": 1}}), 7, "type"),
        (json!({"delegate": {"type": "flannel"}}), 7, "flannel"),
        (
            json!({"delegate": {"type": "../bin/bridge"}}),
            7,
            "../bin/bridge",
        ),
        (json!({"delegate": {"type": "absent"}}), 999, "absent"),
        (json!({"ipam": {"routes": "all"}}), 7, "ipam.routes"),
        (
            json!({"subnetFile": "/none/subnet.env"}),
            11,
            "/none/subnet.env",
        ),
        (json!({"dataDir": "/dev/null"}), 5, "/dev/null"),
    ] {
        let (got, msg) = bench.call("ADD", "c1", &bench.conf(more.clone())).error();
        assert_eq!(got, code, "{more}: {msg}");
        assert!(msg.contains(word), "{more}: {msg}");
    }
    fs::write(bench.path("subnet.env"), "foo=bar").unwrap();
    let (_, msg) = bench.call("ADD", "c1", &bench.conf(json!({}))).error();
    assert!(
        msg.contains(
            "is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, \
             FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
        ),
        "{msg}"
    );
    assert!(!bench.path("called").exists());
    let bare = Command::new(FLANNEL);
    let answer = call_with(bare, "ADD", "c1", &Value::Null);
    let (code, msg) = answer.error();
    assert_eq!(
        (code, msg.contains("CNI_NETNS,CNI_PATH")),
        (4, true),
        "{msg}"
    );
}
