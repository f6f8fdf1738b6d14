//! What frames carry and control speaks of, too, in configs, leases and on the host: the
//! dataplane's own types.

pub use weft_dataplane::wire::ethernet::MacAddr;
pub use weft_dataplane::wire::vxlan::Vni;
