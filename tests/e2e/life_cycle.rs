//! Nodes and etcd come and go; traffic between those that stay never stops.

use crate::cluster::{Cluster, NEWS, PREFIX, fast_path, lines_with};
use crate::probe::Probe;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test, wait_until};

/// A lease of a node that does not exist.
fn ghost(subnet: &str, public_ip: &str) -> (String, String) {
    let key = format!("{PREFIX}/subnets/{subnet}");
    let value = format!(
        r#"{{"PublicIP":"{public_ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:63"}}}}"#
    );
    (key, value)
}

#[test]
fn a_node_that_leaves_is_no_longer_sent_to_and_the_others_notice_nothing() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft(3, Regime::R1);
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    let gone = cluster.pod(3).address;
    let key = cluster.lease_key(3);
    let status = cluster.agents.get_mut(&3).unwrap().stop().unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "after SIGTERM");
    // It may come back soon, so it keeps its lease for now and is still sent to; without workers
    // its programs take that.
    let before = cluster.counter(1, "drop_no_peer");
    let answered = ping(&cluster.pod(1).ns, gone, 3, 56, false).is_ok();
    assert_eq!(
        answered,
        fast_path() != "off" && cluster.lab.bpffs().is_some()
    );
    assert_eq!(cluster.counter(1, "drop_no_peer"), before);

    assert!(
        cluster.etcd.delete(&key).unwrap(),
        "{key} stays after SIGTERM"
    );
    cluster.assert_drops(1, gone, "no_peer");
    cluster.assert_drops(2, gone, "no_peer");
    probe.finish();
}

#[test]
fn a_lease_that_expires_takes_its_route_along() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    cluster.join(1);
    let away = Ipv4Addr::new(10, 244, 201, 9);
    cluster.assert_drops(1, away, "no_peer");
    let (key, value) = ghost("10.244.201.0-24", "10.99.0.2");
    cluster.etcd.put_leased(&key, &value, 5).unwrap();
    let routed = wait_until(NEWS, || {
        let before = cluster.counter(1, "sends");
        let _ = ping(&cluster.pod(1).ns, away, 1, 56, false);
        cluster.counter(1, "sends") > before
    });
    assert!(routed, "the lease brings a route");
    cluster.assert_drops(1, away, "no_peer");
    assert_eq!(cluster.etcd.get(&key).unwrap(), None);
}

#[test]
fn a_node_that_comes_back_has_the_same_subnet_and_mac() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft(2, Regime::R1);
    let env = cluster.agents[&2].subnet_env().unwrap();
    let mac = cluster.mac(2);
    let key = cluster.lease_key(2);

    type Absence = fn(&mut Cluster, &str);
    let absences: [(&str, Absence); 3] = [
        ("SIGTERM", |cluster, _| {
            cluster.agents.get_mut(&2).unwrap().stop().unwrap();
        }),
        ("a crash that also lost subnet.env", |cluster, _| {
            let agent = cluster.agents.get_mut(&2).unwrap();
            agent.kill().unwrap();
            fs::remove_file(agent.subnet_file()).unwrap();
        }),
        ("an absence that outlasted the lease", |cluster, key| {
            cluster.agents.get_mut(&2).unwrap().stop().unwrap();
            assert!(cluster.etcd.delete(key).unwrap());
            let away = cluster.pod(2).address;
            cluster.assert_drops(1, away, "no_peer");
        }),
    ];
    for (what, leave) in absences {
        leave(&mut cluster, &key);
        let agent = cluster.agents.get_mut(&2).unwrap();
        agent.start_again().unwrap();
        assert_eq!(agent.wait_ready().unwrap(), env, "after {what}");
        // It forwards before etcd has its lease again.
        let is_back = || cluster.etcd.get(&key).unwrap().is_some();
        assert!(wait_until(NEWS, is_back), "after {what}");
        assert_eq!(cluster.mac(2), mac, "after {what}");
        cluster.await_path(1, 2);
        cluster.await_path(2, 1);
        let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
        assert_eq!(keys.len(), 2, "leases after {what}: {keys:?}");
    }
}

#[test]
fn a_third_node_joins_while_traffic_runs_between_two() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(3, Regime::R1);
    cluster.join(1);
    cluster.join(2);
    cluster.await_path(1, 2);
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    cluster.join(3);
    for number in [1, 2] {
        cluster.await_path(number, 3);
        cluster.await_path(3, number);
    }
    probe.finish();
}

/// Seconds without etcd.
fn outage() -> Duration {
    let seconds = std::env::var("WEFT_E2E_OUTAGE_SECONDS");
    let seconds = seconds.map_or(60, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

#[test]
fn traffic_outlives_an_outage_of_etcd_and_nodes_join_after_it() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(3, Regime::R1);
    cluster.join(1);
    cluster.join(2);
    cluster.await_path(1, 2);
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    let log = cluster.agents[&2].log_file();
    assert_eq!(lines_with(&log, &["etcd", "unreachable"]), [""; 0]);

    cluster.etcd.stop().unwrap();
    std::thread::sleep(outage());
    let mut down = lines_with(&log, &["etcd", "unreachable"]);
    // How a server is gone may change, and is told.
    down.retain(|line| !line.contains("still unreachable"));
    assert_eq!(down.len(), 1, "one line says that etcd is gone: {down:?}");
    assert_eq!(lines_with(&log, &["reachable again"]), [""; 0]);

    cluster.etcd.start_again().unwrap();
    cluster.join(3);
    for number in [1, 2] {
        cluster.await_path(number, 3);
        cluster.await_path(3, number);
    }
    let up = lines_with(&log, &["reachable again"]);
    assert_eq!(up.len(), 1, "one line says that etcd is back: {up:?}");
    probe.finish();
}
