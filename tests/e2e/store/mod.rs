//! The store's troubles while pods talk: members that stop, hang, lead anew or lose each other,
//! history that is compacted or put back, leases that end. Live nodes lose no packet of each other,
//! know what is new within seconds of the end of the trouble, and ask no more than they need.

mod cut;
mod hangs;
mod partitions;
mod restored;

use crate::members::Members;
use std::time::{Duration, Instant};
use weft_control::host::state_file;
use weft_lab::etcd::cluster::PREFIX;
use weft_lab::wait_until;

/// How long news may take: a server that is silent is left after 15 s, and the longest pause between
/// two tries is 5 s.
const SOON: Duration = Duration::from_secs(25);

/// What a node that does not exist has written.
const GHOST: &str = r#"{"PublicIP":"10.99.0.77","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:63"}}"#;

fn put_ghost(members: &Members, subnet: &str) {
    members.etcd.put(&format!("subnets/{subnet}"), GHOST);
}

/// Put a lease through these members, which may have to find a leader first.
fn put_by(members: &Members, through: &[usize], subnet: &str) {
    let key = format!("{PREFIX}/subnets/{subnet}");
    let put = || members.etcd.try_ctl(through, &["put", "--", &key, GHOST]);
    assert!(wait_until(SOON, || put().is_ok()));
}

fn delete(members: &Members, subnet: &str) {
    let key = format!("{PREFIX}/subnets/{subnet}");
    members.etcd.ctl(&["del", "--", &key]);
}

/// Whether a node goes by a lease.
fn knows(members: &Members, number: usize, subnet: &str) -> bool {
    let dir = members.agents[number - 1].state_dir();
    let content = state_file::read(&dir.join("net-coreos.com-network.state"));
    let content = content.ok().flatten().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    !value["peers"][subnet].is_null()
}

/// Wait until all these nodes go by a lease; how long that took.
fn await_known(members: &Members, nodes: &[usize], subnet: &str) -> Duration {
    let start = Instant::now();
    for &number in nodes {
        let known = wait_until(SOON, || knows(members, number, subnet));
        let log = || members.log(number);
        assert!(known, "node {number} does not know {subnet}: {}", log());
    }
    start.elapsed()
}

/// The lease of a node: its name and what etcd holds there.
fn lease(members: &Members, number: usize) -> (String, String) {
    let subnet = members.lab.node(number).subnet.unwrap();
    let name = format!("{}-{}", subnet.network(), subnet.prefix_len());
    let value = members.etcd.get(&format!("subnets/{name}"));
    (name, value.unwrap_or_default())
}
