//! weft on one node, kernel VXLAN as flannel configures it on the other.

use crate::cluster::{Cluster, ENGINES};
use crate::errors::Errors;
use crate::pods::{exchange, exchange_fragments};
use weft_lab::{Regime, skips_test};

fn exchange_with_kernel(regime: Regime) {
    for engine in ENGINES {
        let cluster = Cluster::weft_and_kernel_with(regime, &[engine]);
        let errors = Errors::of(&cluster);
        exchange(&cluster, 1, 2);
        exchange_fragments(&cluster, 1, 2);
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn weft_and_kernel_vxlan_exchange_all_traffic_where_super_packets_cross_whole() {
    if skips_test() {
        return;
    }
    exchange_with_kernel(Regime::R1);
}

#[test]
fn weft_and_kernel_vxlan_exchange_all_traffic_where_everything_is_software() {
    if skips_test() {
        return;
    }
    exchange_with_kernel(Regime::R3);
}
