//! Backends: from other nodes' leases to routing tables.

pub mod vxlan;
