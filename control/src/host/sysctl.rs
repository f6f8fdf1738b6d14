//! Sysctls of the tunnel device.

use std::fs;
use std::path::Path;

/// Keep the kernel from speaking IPv6 autoconfiguration on `device`: no router
/// advertisements accepted, no link-local address generated (each would cost a
/// neighbour-discovery packet that no peer can answer).
///
/// Kernels without IPv6 or read-only `/proc/sys` are no obstacle: failures are only logged.
pub fn quiet_ipv6(device: &str) {
    set(device, "accept_ra", "0");
    // IN6_ADDR_GEN_MODE_NONE
    set(device, "addr_gen_mode", "1");
}

fn set(device: &str, name: &str, value: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(device).join(name);
    if let Err(error) = fs::write(&path, value) {
        tracing::debug!("cannot set {} to {value}: {error}", path.display());
    }
}
