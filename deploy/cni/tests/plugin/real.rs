//! Life of a container in network namespaces, with Debian's `bridge` and `host-local`.

use crate::call::{Answer, Bench, DUAL, FLANNEL, Stack, V4, V4_TWICE, V6, call_with, json_in};
use serde_json::{Value, json};
use std::fs;
use weft_benches::lab::{Lab, LabOptions, Namespace, netns, skips_test_without};

/// Where Debian puts plugins.
const PLUGINS: &str = "/usr/lib/cni";

fn skips() -> bool {
    skips_test_without(&[("/usr/lib/cni/bridge", "containernetworking-plugins")])
}

/// A container runtime on the first node of a lab.
struct Runtime {
    bench: Bench,
    node: Namespace,
    pod: Namespace,
    _lab: Lab,
}

impl Runtime {
    fn new(stack: &Stack) -> Runtime {
        let lab = Lab::new(LabOptions::default()).unwrap();
        Runtime {
            bench: Bench::new(stack),
            node: lab.node(1).ns.clone(),
            pod: lab.namespace("pod").unwrap(),
            _lab: lab,
        }
    }

    fn call(&self, command: &str, id: &str, conf: &Value) -> Answer {
        let mut call = self.node.command(FLANNEL);
        call.env("CNI_PATH", PLUGINS);
        call.env("CNI_NETNS", format!("/run/netns/{}", self.pod.name()));
        call_with(call, command, id, conf)
    }

    /// Files of leases that host-local holds: one for each address, and two of its own.
    fn leases(&self) -> usize {
        let dir = self.bench.path("ipam/cni-flannel");
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        let leased = |name: &str| name.contains(['.', ':']) && !name.contains("last_reserved");
        names.filter(|name| leased(name.to_str().unwrap())).count()
    }
}

fn lives(stack: &Stack) {
    if skips() {
        return;
    }
    let host = Runtime::new(stack);
    let id = stack.container_id;
    // Not in /var/lib/cni, which belongs to the machine's own containers.
    let ipam = json!({"dataDir": host.bench.path("ipam")});
    let conf = host
        .bench
        .conf(json!({"cniVersion": "1.0.0", "ipam": ipam}));

    let result = host.call("ADD", id, &conf).result();
    let ips = result["ips"].as_array().unwrap();
    assert_eq!(ips.len(), stack.subnets.len(), "{result}");
    let mut expected = stack.rendered();
    expected["cniVersion"] = "1.0.0".into();
    expected["ipam"]["dataDir"] = ipam["dataDir"].clone();
    assert_eq!(json_in(&host.bench.state(id)), expected);
    assert_eq!(host.leases(), ips.len());
    for ip in ips {
        let address = ip["address"].as_str().unwrap();
        let shown = host.pod.ip("address show dev eth0").unwrap();
        assert!(shown.contains(address), "{address}: {shown}");
        assert!(shown.contains("mtu 1472"), "{shown}");
    }
    let routes = host.pod.ip("route").unwrap() + &host.pod.ip("-6 route").unwrap();
    for net in stack.networks {
        assert!(routes.contains(&format!("{net} via ")), "{net}: {routes}");
    }

    host.call("DEL", id, &conf).result();
    assert!(!host.bench.state(id).exists());
    assert_eq!(host.leases(), 0);
    // The other end goes with it, some moments later.
    let veths = || host.node.ip("-o link show type veth master cni0").unwrap();
    let gone = || host.pod.ip("link show eth0").is_err() && veths().is_empty();
    assert!(netns::wait_until(std::time::Duration::from_secs(3), gone));
    host.call("DEL", id, &conf).result();
}

#[test]
fn c1_debians_bridge_attaches_with_ipv4() {
    lives(&V4);
}

#[test]
fn c2_debians_bridge_attaches_with_two_ipv4_networks() {
    lives(&V4_TWICE);
}

#[test]
fn c3_debians_bridge_attaches_with_ipv6() {
    lives(&V6);
}

#[test]
fn c4_debians_bridge_attaches_with_both() {
    lives(&DUAL);
}
