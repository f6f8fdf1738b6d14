//! Fuzz targets for all that weft reads, as plain functions over bytes.
//!
//! Each takes any bytes and panics on a broken promise. `fuzz_targets` wraps them for libFuzzer
//! (feature `libfuzzer`), and `tests/corpora.rs` replays the corpora in `corpus` through them
//! with any compiler.

pub mod cni;
pub mod control;
pub mod dataplane;

/// What takes the bytes.
pub type Target = fn(&[u8]);

/// All targets by name. Each has a file in `fuzz_targets` and a directory in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("admit", dataplane::admit),
    ("coalesce", dataplane::coalesce),
    ("firewall_listing", control::firewall_listing),
    ("flags", control::flags),
    ("fragment", dataplane::fragment),
    ("hand_over", control::hand_over),
    ("kube_list", control::kube_list),
    ("kube_node", control::kube_node),
    ("kube_watch", control::kube_watch),
    ("lease_key", control::lease_key),
    ("lease_value", control::lease_value),
    ("netconf", cni::netconf),
    ("network_config", control::network_config),
    ("segment", dataplane::segment),
    ("state_file", control::state_file),
    ("subnet_env", control::subnet_env),
    ("subnets_file", control::subnets_file),
    ("vxlan_options", control::vxlan_options),
    ("wire", dataplane::wire),
];
