//! The fast path: eBPF programs carry what is cheaper in the kernel, and go on when the agent has
//! gone.

mod away;
mod clsact;
mod counters;
mod order;
mod pairs;
mod refused;
mod surroundings;
mod survival;
mod switch;

use crate::cluster::{Cluster, NEWS, lines_with};
use weft_lab::{Lab, skip, wait_until};

/// Whether agents of this lab can pin nothing, so that forwarding ends with them. If so the test
/// is skipped.
fn skips_unpinned(lab: &Lab) -> bool {
    let unpinned = lab.bpffs().is_none();
    if unpinned {
        skip("no BPF file system can be mounted here");
    }
    unpinned
}

/// How often a node's agent has said that the fast path runs.
fn starts(cluster: &Cluster, number: usize) -> usize {
    let log = cluster.agents[&number].log_file();
    lines_with(&log, &[" INFO ", "fast path on "]).len()
}

/// Wait until the agents of these nodes have started the fast path once more than `before`.
fn await_starts(cluster: &Cluster, before: &[(usize, usize)]) {
    for &(number, before) in before {
        let started = wait_until(NEWS, || starts(cluster, number) > before);
        assert!(started, "no fast path on node {number}");
        cluster.await_way(number);
    }
}

/// Each core has a queue of its own behind a veth, and tasks move between cores: kernel VXLAN, too,
/// has some segments overtake others then. With one queue for all none does by that.
fn receive_on_one_core(cluster: &Cluster) {
    for node in cluster.lab.nodes() {
        let devices = ["eth0", "cni0", "flannel.1"].map(|device| (&node.ns, device));
        let pods = node.pods.iter().map(|pod| (&pod.ns, "eth0"));
        for (ns, device) in devices.into_iter().chain(pods) {
            let file = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
            ns.run(&["sh", "-c", &format!("echo 1 > {file}")]).unwrap();
        }
    }
}
