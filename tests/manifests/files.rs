//! The files in the ConfigMap.

use crate::objects::{agent, containers, of_base, only, pod, texts};
use serde_json::Value;
use weft_control::config::NetworkConfig;

fn file(name: &str) -> String {
    let objects = of_base();
    let text = only(&objects, "ConfigMap")["data"][name].as_str();
    text.unwrap_or_else(|| panic!("there is no {name}"))
        .to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_network_config_is_one_that_the_agent_takes() {
    let config = file("net-conf.json");
    NetworkConfig::parse(&config).unwrap();
}

#[test]
fn the_cni_configuration_is_the_shipped_one() {
    let shipped = include_str!("../../deploy/cni/10-flannel.conflist");
    assert_eq!(json(&file("cni-conf.json")), json(shipped));
}

/// runc looks names up one by one: one that it does not know is left out without a word.
#[test]
fn the_seccomp_profile_is_sorted_and_lets_io_uring_and_bpf_through() {
    let profile = json(&file("seccomp.json"));
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let names = texts(&profile["syscalls"][0]["names"]);
    assert!(names.is_sorted() && names.windows(2).all(|two| two[0] != two[1]));
    for name in [
        "bpf",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    for name in [
        "mount",
        "ptrace",
        "init_module",
        "mknodat",
        "unshare",
        "setns",
    ] {
        assert!(!names.contains(&name), "{name}");
    }
}

#[test]
fn each_is_used_and_the_profile_is_put_where_the_agent_has_it_from() {
    let objects = of_base();
    let pod = pod(&objects);
    let profile = &agent(pod)["securityContext"]["seccompProfile"];
    assert_eq!(profile["type"], "Localhost");
    let target = format!(
        "/var/lib/kubelet/seccomp/{}",
        profile["localhostProfile"].as_str().unwrap()
    );
    let copied: Vec<_> = containers(pod)
        .iter()
        .filter(|container| container["command"][0] == "/opt/bin/install-conf")
        .map(|container| texts(&container["args"]))
        .collect();
    assert_eq!(
        copied,
        [
            ["/flannel", "/opt/cni/bin/flannel"],
            [
                "/etc/kube-flannel/cni-conf.json",
                "/etc/cni/net.d/10-flannel.conflist"
            ],
            ["/etc/kube-flannel/seccomp.json", target.as_str()],
        ]
    );
}
