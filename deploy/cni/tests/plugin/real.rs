//! Life of a container in network namespaces, with Debian's `bridge` and `host-local`.

use crate::call::{DUAL, Stack, V4, V4_TWICE, V6, json_in};
use crate::host::{Host, skips};
use serde_json::json;
use weft_lab::wait_until;

fn lives(stack: &Stack) {
    if skips() {
        return;
    }
    let host = Host::new(stack);
    let id = stack.container_id;
    // Not in /var/lib/cni, which belongs to the machine's own containers.
    let ipam = json!({"dataDir": host.bench.path("ipam")});
    let conf = host
        .bench
        .conf(json!({"cniVersion": "1.0.0", "ipam": ipam}));

    let result = host.call("ADD", (id, "eth0"), &conf).result();
    let ips = result["ips"].as_array().unwrap().clone();
    assert_eq!(ips.len(), stack.subnets.len(), "{result}");
    let mut expected = stack.rendered();
    expected["cniVersion"] = "1.0.0".into();
    expected["ipam"]["dataDir"] = ipam["dataDir"].clone();
    assert_eq!(json_in(&host.bench.state(id)), expected);
    assert_eq!(host.leases("cni-flannel").len(), ips.len());
    for ip in &ips {
        let address = ip["address"].as_str().unwrap();
        let shown = host.pod.ip("address show dev eth0").unwrap();
        assert!(shown.contains(address), "{address}: {shown}");
        assert!(shown.contains("mtu 1472"), "{shown}");
    }
    let routes = host.pod.ip("route").unwrap() + &host.pod.ip("-6 route").unwrap();
    for net in stack.networks {
        assert!(routes.contains(&format!("{net} via ")), "{net}: {routes}");
    }

    let mut check = conf.clone();
    check["prevResult"] = result;
    host.call("CHECK", (id, "eth0"), &check).result();

    host.call("DEL", (id, "eth0"), &conf).result();
    host.call("CHECK", (id, "eth0"), &check).error();
    assert!(!host.bench.state(id).exists());
    assert_eq!(host.leases("cni-flannel").len(), 0);
    // The other end goes with it, some moments later.
    let veths = || host.node.ip("-o link show type veth master cni0").unwrap();
    let gone = || host.pod.ip("link show eth0").is_err() && veths().is_empty();
    assert!(wait_until(std::time::Duration::from_secs(3), gone));
    host.call("DEL", (id, "eth0"), &conf).result();
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
