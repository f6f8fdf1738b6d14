//! Nodes and members that do not reach each other.

use super::cut::Cut;
use super::{SOON, await_known, lease, put_by, put_ghost};
use crate::members::Members;
use crate::probe::Probe;
use weft_lab::topology::ping;
use weft_lab::{skips_test, wait_until};

#[test]
fn a_member_that_is_cut_off_costs_nothing_and_a_node_that_is_has_its_lease_back() {
    if skips_test() {
        return;
    }
    let mut members = Members::filled();
    let (name, value) = lease(&members, 3);
    let key = format!("subnets/{name}");
    let (one, three) = (members.pod(1).clone(), members.pod(3).clone());
    let probe = Probe::start(members.pod(1), members.pod(2));
    let reaches = || ping(&one.ns, three.address, 1, 56, false).is_ok();

    // The member on node 1 from the others; node 1's agent may be its client.
    let cut = Cut::member(&members.lab.node(1).ns);
    put_by(&members, &[1, 2], "10.244.201.0-24");
    let news = await_known(&members, &[1, 2, 3], "10.244.201.0-24");
    eprintln!("news to a node whose member is cut off after {news:?}");
    drop(cut);
    members.etcd.await_health();

    // As after 24 hours: etcd deletes the key, and others send there no more.
    let cut = Cut::clients(&members.lab.node(3).ns);
    members
        .etcd
        .ctl(&["lease", "revoke", &members.etcd.lease_id(&key)]);
    assert!(wait_until(SOON, || !reaches()));
    drop(cut);
    assert!(wait_until(SOON, || members.etcd.get(&key).as_ref() == Some(&value)));
    members.await_paths(1, 3);

    // The same, and another node has the subnet when it comes back.
    let cut = Cut::clients(&members.lab.node(3).ns);
    members
        .etcd
        .ctl(&["lease", "revoke", &members.etcd.lease_id(&key)]);
    put_ghost(&members, &name);
    drop(cut);
    let status = members.agents[2].wait(SOON).unwrap();
    assert_eq!(status.code(), Some(1));
    let log = members.log(3);
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("the subnet is leased by 10.99.0.77"),
        "{last}"
    );
    probe.finish();
}
