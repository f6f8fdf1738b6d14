//! Pods of two nodes reach each other, by every backend.

use super::lab::*;
use crate::dual_stack;
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test};

/// Five packets each way, as flannel's own tests send them.
fn exchange(cluster: &KubeCluster) {
    for (from, to) in [(1, 2), (2, 1)] {
        let to = cluster.pod(to).address;
        ping(&cluster.pod(from).ns, to, 5, 56, false).unwrap();
    }
}

#[test]
fn e1_f9_vxlan_carries_pods_and_an_overwritten_address_is_told() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(2, VXLAN);
    cluster.flags = vec!["--ip-masq".to_owned()];
    cluster.register(1);
    cluster.register(2);
    cluster.annotate(2, "public-ip-overwrite", Some("10.99.0.2"));
    let env = cluster.join(1);
    assert_eq!(env.subnet.to_string(), "10.244.1.1/24");
    cluster.join(2);
    cluster.await_all();
    exchange(&cluster);
    for number in [1, 2] {
        cluster.await_up(number);
        let data = cluster.annotation(number, "backend-data").unwrap();
        assert!(data.starts_with(r#"{"VNI":1,"VtepMAC":""#), "{data}");
        let ip = cluster.annotation(number, "public-ip");
        assert_eq!(ip, Some(format!("10.99.0.{number}")));
    }
}

#[test]
fn e4_host_gw_carries_pods() {
    if skips_test() {
        return;
    }
    let cluster = KubeCluster::of_weft(2, &VXLAN.replace("vxlan", "host-gw"));
    exchange(&cluster);
    assert_eq!(
        cluster.annotation(1, "backend-data").as_deref(),
        Some("null")
    );
}

#[test]
fn e6_udp_carries_pods() {
    if skips_test() {
        return;
    }
    let cluster = KubeCluster::of_weft(2, &VXLAN.replace("vxlan", "udp"));
    exchange(&cluster);
    assert_eq!(cluster.annotation(1, "backend-type").as_deref(), Some(""));
}

fn exchange_both_families(kind: &str) {
    let config = format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48","Backend":{{"Type":"{kind}"}}}}"#
    );
    let lab = crate::cluster::new_lab(2, Regime::R1);
    dual_stack::add_underlay(&lab);
    let mut cluster = KubeCluster::in_lab(lab, &config);
    let mut pods = Vec::new();
    for number in 1..=2 {
        let v6 = format!("fd00:244:0:{number}::/64");
        cluster.register_with(number, &[&format!("10.244.{number}.0/24"), &v6]);
        let env = cluster.launch(number).wait_ready().unwrap();
        let v6 = dual_stack::field(&cluster.agents[&number], "FLANNEL_IPV6_SUBNET").unwrap();
        let pod = dual_stack::attach(&mut cluster.lab, number, env.subnet, v6, env.mtu);
        pods.push(pod);
    }
    cluster.await_all();
    exchange(&cluster);
    dual_stack::exchange6(&pods[0], &pods[1]);
    dual_stack::exchange6(&pods[1], &pods[0]);
    assert_eq!(
        cluster.annotation(2, "public-ipv6").as_deref(),
        Some("fd99::2")
    );
    let data = cluster.annotation(2, "backend-v6-data").unwrap();
    assert_eq!(data == "null", kind == "host-gw", "{data}");
}

#[test]
fn e12_vxlan_carries_both_families() {
    if !skips_test() {
        exchange_both_families("vxlan");
    }
}

#[test]
fn e15_host_gw_carries_both_families() {
    if !skips_test() {
        exchange_both_families("host-gw");
    }
}
