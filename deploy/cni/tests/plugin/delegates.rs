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
fn check_is_the_delegates_from_the_version_that_has_it() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "cat >conf.$CNI_COMMAND; [ ! -e broken ]");
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut conf = bench.conf(json!({"cniVersion": version}));
        bench.call("ADD", "c1", &conf).result();
        conf["prevResult"] = json!({"cniVersion": version, "ips": []});
        assert_eq!(bench.call("CHECK", "c1", &conf).result(), Value::Null);
        let told = bench.path("conf.CHECK");
        if version == "0.3.1" {
            assert!(!told.exists());
            continue;
        }
        let mut expected = json_in(&bench.path("conf.ADD"));
        expected["prevResult"] = conf["prevResult"].clone();
        assert_eq!(json_in(&told), expected);
        fs::write(bench.path("broken"), "").unwrap();
        assert_eq!(bench.call("CHECK", "c1", &conf).error().0, 999);
        fs::remove_file(bench.path("broken")).unwrap();
        // Where nothing is kept, today's configuration has to do.
        bench.call("DEL", "c1", &conf).result();
        assert_eq!(bench.call("CHECK", "c1", &conf).result(), Value::Null);
        assert_eq!(json_in(&told), expected);
    }
}

#[test]
fn status_tells_whether_the_agent_is_there() {
    let bench = Bench::new(&V4);
    let versions = r#"echo '{"supportedVersions": ["1.0.0", "1.1.0"]}'"#;
    let script = format!("echo $CNI_COMMAND >called; [ $CNI_COMMAND != VERSION ] || {versions}");
    bench.delegate("bridge", &script);
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
fn names_lead_nowhere_else() {
    let bench = Bench::new(&V4);
    bench.delegate("bridge", "echo >called");
    let conf = bench.conf(json!({}));
    fs::write(bench.path("victim"), "{\"type\":\"bridge\"}").unwrap();
    let long = "n".repeat(256);
    for command in ["ADD", "DEL", "CHECK"] {
        for id in [
            "../victim",
            "/tmp/x",
            "a/b",
            "..",
            ".hidden",
            "",
            "a:b",
            &long,
        ] {
            let (code, msg) = bench.call(command, id, &conf).error();
            assert_eq!(code, 4, "{command} {id}: {msg}");
        }
        for ifname in [
            "../victim",
            "a/b",
            "..",
            ".",
            "",
            "a:b",
            "e 0",
            "sixteen-letters-",
        ] {
            let (code, msg) = bench.call_for(command, ("c1", ifname), &conf).error();
            assert_eq!(code, 4, "{command} {ifname}: {msg}");
        }
        for network in ["../victim", "a/b", "..", ".networks", "", "a:b", &long] {
            let conf = bench.conf(json!({"name": network}));
            let (code, msg) = bench.call(command, "c1", &conf).error();
            assert_eq!(code, 7, "{command} {network}: {msg}");
        }
    }
    assert!(bench.path("victim").exists() && !bench.path("called").exists());
    assert!(!bench.path("data").exists());
    // What the limits allow can be kept.
    let conf = bench.conf(json!({"name": &long[1..]}));
    let id = &long[..239];
    bench
        .call_for("ADD", (id, "fifteen-letters"), &conf)
        .result();
    bench
        .call_for("DEL", (id, "fifteen-letters"), &conf)
        .result();
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
    let answer = call_with(bare, "ADD", ("c1", "eth0"), &Value::Null);
    let (code, msg) = answer.error();
    assert_eq!(
        (code, msg.contains("CNI_NETNS,CNI_PATH")),
        (4, true),
        "{msg}"
    );
}
