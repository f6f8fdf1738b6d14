//! weft beside nodes that flanneld has annotated.

use super::lab::*;
use weft_lab::kernel::Peer;
use weft_lab::{Vtep, VxlanSpec, skips_test};

#[test]
fn weft_and_kernel_vxlan_that_is_annotated_by_hand_reach_each_other() {
    if skips_test() {
        return;
    }
    let mut cluster = KubeCluster::empty(2, VXLAN);
    cluster.register(1);
    cluster.join(1);
    // Node 2 is flanneld's: kernel VXLAN, and annotations as it writes them.
    let subnet = "10.244.2.1/24".parse().unwrap();
    let vtep = Vtep::create(&cluster.lab, 2, VxlanSpec::flannel(1), subnet).unwrap();
    cluster.register(2);
    let data = format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, vtep.as_peer().mac);
    for (key, value) in [
        ("backend-data", &*data),
        ("backend-type", "vxlan"),
        ("kube-subnet-manager", "true"),
        ("public-ip", "10.99.0.2"),
    ] {
        cluster.annotate(2, key, Some(value));
    }
    cluster.lab.attach_pod(2, subnet, 1450).unwrap();
    // As flanneld cuts it out: by position.
    let data = cluster.annotation(1, "backend-data").unwrap();
    let parts: Vec<&str> = data.split(":\"").collect();
    assert_eq!(parts.len(), 2, "{data}");
    let peer = Peer {
        subnet: cluster.lab.node(1).subnet.unwrap(),
        underlay: cluster.lab.node(1).underlay,
        mac: parts[1].trim_matches(['"', '}']).to_owned(),
    };
    vtep.learn(&peer).unwrap();
    vtep.route(&peer).unwrap();
    cluster.await_all();
}
