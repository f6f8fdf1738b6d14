//! A node whose kernel VXLAN device cannot be taken over goes on with it.

use crate::bad_input::{assert_refuses, run_to_the_end};
use crate::cluster::{Cluster, lines_with};
use crate::probe::Probe;
use weft_lab::{Regime, Vtep, VxlanSpec, skips_test};

#[test]
fn a_node_that_cannot_be_taken_over_keeps_its_kernel_device_and_its_traffic() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    cluster.join_kernel(1, "10.244.100.1/24");
    cluster.join_kernel(2, "10.244.200.1/24");
    for (a, b) in [(1, 2), (2, 1)] {
        let peer = cluster.vteps[&b].as_peer();
        cluster.vteps[&a].learn(&peer).unwrap();
        cluster.vteps[&a].route(&peer).unwrap();
    }
    cluster.await_path(1, 2);

    // Two networks of the kernel's share a port, of which weft needs the whole.
    let second = "10.245.100.1/24".parse().unwrap();
    let vtep = Vtep::create(&cluster.lab, 1, VxlanSpec::flannel(2), second).unwrap();
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    for _ in 0..2 {
        let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &[]);
        let words = ["flannel.1", "flannel.2", "8472", "Backend.Port"];
        assert_refuses(ended, &words);
        std::fs::remove_file(cluster.lab.dir().join("once/log")).unwrap();
    }
    probe.finish();
    vtep.delete().unwrap();

    // With fewer descriptors than queues it fails when the device has made room already.
    let few = ["env", "FLANNELD_QUEUES=64", "prlimit", "--nofile=50"];
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &few);
    let log = ended.1.clone();
    assert_refuses(ended, &["Too many open files"]);
    for words in ["taking over", "is the kernel VXLAN device that it was"] {
        assert_eq!(lines_with(&log, &[words, "flannel.1"]).len(), 1, "{words}");
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
}
