//! Members of an etcd with TLS and users come and go.

use crate::members::Members;
use crate::probe::Probe;
use std::time::Duration;
use weft_lab::etcd::cluster::USER;
use weft_lab::skips_test;

/// How long each member is away.
const ABSENCE: Duration = Duration::from_secs(4);

#[test]
fn s85_etcd_outage_members_with_tls_and_users_come_and_go_and_traffic_does_not_notice() {
    if skips_test() {
        return;
    }
    let mut nodes = Members::new();
    nodes.join();
    nodes.join();
    nodes.await_paths(1, 2);
    let leases = nodes.etcd.leases();
    assert_eq!(leases.len(), 2);
    let probe = Probe::start(nodes.pod(1), nodes.pod(2));
    for member in 0..3 {
        nodes.etcd.stop(member);
        std::thread::sleep(ABSENCE);
        nodes.etcd.resume(member);
    }
    assert_eq!(nodes.etcd.leases(), leases);
    nodes.join();
    for number in [1, 2] {
        nodes.await_paths(number, 3);
    }
    probe.finish();
    assert_eq!(nodes.etcd.leases().len(), 3);
    for number in 1..=3 {
        let log = nodes.log(number);
        assert!(
            !log.contains(USER.1),
            "the password is in the log of node {number}"
        );
        assert!(!log.contains("etcd refused to"), "{log}");
    }
}
