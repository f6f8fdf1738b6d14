//! GC: with delegates that fail, with one that has no GC, and without the agent.

use crate::call::{Bench, V4, json_in};
use crate::host::{Host, skips};
use serde_json::{Value, json};
use std::fs;

/// What a runtime calls GC with to keep these.
fn list(valid: &[(&str, &str)]) -> Value {
    let listed = valid
        .iter()
        .map(|(id, ifname)| json!({"containerID": id, "ifname": ifname}));
    listed.collect()
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
fn gc_cleans_what_it_can_then_fails() {
    let bench = Bench::new(&V4);
    bench.delegate(
        "bridge",
        r#"echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS" >>calls
        case $CNI_COMMAND-$CNI_CONTAINERID in
        DEL-stuck) echo '{"code": 11, "msg": "stuck"}'; exit 1;;
        GC-*) echo '{"code": 100, "msg": "no GC today"}'; exit 1;;
        esac"#,
    );
    let mut conf = bench.conf(json!({"cniVersion": "1.1.0"}));
    for id in ["gone", "stuck", "wanted"] {
        bench.call("ADD", id, &conf).result();
    }
    bench.call_for("ADD", ("wanted", "net1"), &conf).result();
    fs::remove_file(bench.path("calls")).unwrap();

    conf["cni.dev/valid-attachments"] = list(&[("wanted", "eth0")]);
    let answer = bench.call("GC", "", &conf);
    assert_eq!(answer.error(), (11, "stuck".into()), "the first");
    assert!(
        answer.stdout().contains("no GC today"),
        "{}",
        answer.stdout()
    );
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    for call in [
        "DEL gone eth0 \n",
        "DEL wanted net1 \n",
        "DEL stuck eth0 \n",
        "GC  ",
    ] {
        assert!(calls.contains(call), "{call}: {calls}");
    }
    assert!(!calls.contains("DEL wanted eth0"), "{calls}");
    assert!(bench.state("wanted").exists() && bench.state("stuck").exists());
    assert!(!bench.state("gone").exists());

    fs::remove_file(bench.path("subnet.env")).unwrap();
    fs::remove_file(bench.path("calls")).unwrap();
    conf["cni.dev/valid-attachments"] = list(&[("stuck", "eth0")]);
    let answer = bench.call("GC", "", &conf);
    let (code, msg) = answer.error();
    assert!(code == 11 && msg.contains("subnet.env"), "{code} {msg}");
    assert!(
        answer.stdout().contains("no GC today"),
        "{}",
        answer.stdout()
    );
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert!(calls.contains("GC  "), "without subnet.env, too: {calls}");
    assert!(!bench.state("wanted").exists() && bench.state("stuck").exists());
}

/// Debian's plugins have no GC: what this one kept tells what to give back.
#[test]
fn gc_gives_back_addresses_of_debians_bridge() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let add = |network: &str, id: &str, ifname: &str| {
        let conf = host.conf(network, json!({}));
        host.call("ADD", (id, ifname), &conf).result();
    };
    add("a", "c1", "eth0");
    add("a", "c1", "net1");
    add("b", "c2", "net2");
    add("a", "c3", "net3");
    let a = host.leases("a");
    // As flannel's plugin keeps it. It does not say which interface; eth0 is assumed.
    host.as_flannels_plugin_keeps("a", "c3", "net3");

    let mut conf = host.conf("a", json!({"cniVersion": "1.1.0"}));
    conf["cni.dev/valid-attachments"] = list(&[("c1", "eth0"), ("c3", "net3")]);
    host.call("GC", ("", ""), &conf).result();
    assert_eq!(host.leases("a"), [a[0], a[2]]);
    assert_eq!(host.leases("b").len(), 1, "not its network");
    assert_eq!(host.kept(), ["a/c1:eth0", "b/c2:net2", "c1", "c2", "c3"]);

    fs::remove_file(host.bench.path("subnet.env")).unwrap();
    conf["cni.dev/valid-attachments"] = list(&[]);
    let (code, msg) = host.call("GC", ("", ""), &conf).error();
    assert!(code == 11 && msg.contains("subnet.env"), "{code} {msg}");
    assert_eq!(host.kept(), ["b/c2:net2", "c2"]);
    assert_eq!(host.leases("a"), [a[2]], "of net3");
}
