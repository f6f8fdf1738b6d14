//! An etcd that is put back from a snapshot which knows less than the nodes do.

use super::cut::Cut;
use super::{SOON, await_known, delete, knows, lease, put_ghost};
use crate::members::Members;
use crate::probe::Probe;
use std::time::Duration;
use weft_lab::{skips_test, wait_until};

/// How much later one node reaches the store that was put back.
const LATE: Duration = Duration::from_secs(4);

#[test]
fn a_node_that_the_snapshot_does_not_know_is_talked_to_all_the_time() {
    if skips_test() {
        return;
    }
    let mut members = Members::new();
    members.join();
    members.join();
    put_ghost(&members, "10.244.201.0-24");
    await_known(&members, &[1, 2], "10.244.201.0-24");
    let snapshot = members.etcd.save();
    // Since then a node has gone, and one has come.
    delete(&members, "10.244.201.0-24");
    members.join();
    for (a, b) in [(1, 2), (1, 3), (2, 3)] {
        members.await_paths(a, b);
    }
    let third = lease(&members, 3);
    assert!(wait_until(SOON, || !knows(&members, 1, "10.244.201.0-24")));

    let probes = [(1, 2), (3, 1), (2, 3)];
    let probes = probes.map(|(a, b)| Probe::start(members.pod(a), members.pod(b)));
    let cut = Cut::clients(&members.lab.node(3).ns);
    members.etcd.restore(&snapshot);
    // They have listed what there is, without the third, and it takes its time.
    let news = await_known(&members, &[1, 2], "10.244.201.0-24");
    assert_eq!(lease(&members, 3).1, "");
    std::thread::sleep(LATE);
    drop(cut);
    assert!(wait_until(SOON, || lease(&members, 3) == third));
    await_known(&members, &[3], "10.244.201.0-24");
    eprintln!("the snapshot's leases were known after {news:?}");
    probes.into_iter().for_each(Probe::finish);
    for number in [1, 2] {
        let log = members.log(number);
        assert!(log.contains("no longer in etcd's list"), "{log}");
    }
}
