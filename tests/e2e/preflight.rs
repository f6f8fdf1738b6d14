//! What an agent cannot do without is missed before it takes a lease.

use crate::bad_input::{assert_refuses, run_to_the_end};
use crate::cluster::{Cluster, PREFIX};
use weft_lab::{Regime, skips_test};

#[test]
fn without_programs_to_masquerade_with_no_lease_is_taken() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    let nowhere = ["env", "FLANNELD_IP_MASQ=true", "PATH=/nowhere"];
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &nowhere);
    let words = ["no iptables in PATH", "install", "or leave out -ip-masq"];
    assert_refuses(ended, &words);
    let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
    assert_eq!(keys, [""; 0], "a node that cannot run takes no lease");
}
