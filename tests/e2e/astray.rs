//! Leases that lead where they must not: out of the network, or into a node's own pods.

use crate::cluster::{Cluster, NEWS, PREFIX, lines_with};
use crate::probe::Probe;
use ipnet::Ipv4Net;
use weft_lab::{Regime, skips_test, wait_until};

/// Pods of node 1 and others go on reaching each other, and its routes stay as they are, while
/// leases come and go that would take its own pods and its underlay away.
fn survives(backend: &str, kind: &str) {
    let config = format!(r#"{{"Network":"10.244.0.0/16","Backend":{backend}}}"#);
    let mut cluster = Cluster::configured(2, Regime::R1, &config);
    for number in [1, 2] {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    let node = &cluster.lab.node(1).ns;
    let routes = || node.run(&["ip", "-4", "route", "show"]).unwrap();
    // Pods reach each other through the tunnel before the route to the gateway is set.
    if backend.contains("DirectRouting") {
        let direct = wait_until(NEWS, || routes().contains("via 10.99.0.2"));
        assert!(direct, "{kind}: no route to node 2 in {}", routes());
    }
    let before = routes();
    let underlay = before.lines().find(|line| line.starts_with("10.99."));
    let underlay = underlay.and_then(|line| line.split(' ').next()).unwrap();
    // The half that its pod is not in: to others it is the more specific subnet.
    let own = cluster.lab.node(1).subnet.unwrap().broadcast();
    let own = Ipv4Net::new(own, 25).unwrap().trunc();
    let keys = [
        underlay.replace('/', "-"),
        own.to_string().replace('/', "-"),
    ];
    let data = r#"{"VNI":1,"VtepMAC":"0a:00:00:00:00:09"}"#;
    let value =
        format!(r#"{{"PublicIP":"10.99.0.9","BackendType":"{kind}","BackendData":{data}}}"#);

    let log = cluster.agents[&1].log_file();
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    for key in &keys {
        let path = format!("{PREFIX}/subnets/{key}");
        cluster.etcd.put(&path, &value).unwrap();
        let words = [" WARN ", key, "; skipped"];
        let said = wait_until(NEWS, || !lines_with(&log, &words).is_empty());
        assert!(said, "{kind}: nothing about {key}");
        cluster.etcd.put(&path, &value).unwrap();
        assert!(cluster.etcd.delete(&path).unwrap());
    }
    // What is said of another lease comes after all that was done about these.
    let last = format!("{PREFIX}/subnets/10.9.9.0-24");
    cluster.etcd.put(&last, &value).unwrap();
    assert!(wait_until(NEWS, || !lines_with(&log, &["10.9.9.0-24"]).is_empty()));
    probe.finish();
    assert_eq!(routes(), before, "{kind}");
    for key in &keys {
        assert_eq!(lines_with(&log, &[" WARN ", key]).len(), 1, "{kind}: {key}");
    }
}

#[test]
fn leases_that_lead_astray_take_no_packets() {
    if skips_test() {
        return;
    }
    survives(r#"{"Type":"host-gw"}"#, "host-gw");
    survives(r#"{"Type":"vxlan","DirectRouting":true}"#, "vxlan");
    survives(r#"{"Type":"vxlan"}"#, "vxlan");
}
