//! Sysctls of the devices that weft makes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// See to it that the setting `name` of `device` for the protocol `family` (`ipv4`, `ipv6`) is
/// `value`; whether it was another.
pub fn ensure(family: &str, device: &str, name: &str, value: &str) -> io::Result<bool> {
    let path = path(family, device, name);
    if fs::read(&path).is_ok_and(|is| is.trim_ascii() == value.as_bytes()) {
        return Ok(false);
    }
    fs::write(&path, value)?;
    Ok(true)
}

fn path(family: &str, device: &str, name: &str) -> PathBuf {
    let conf = Path::new("/proc/sys/net").join(family).join("conf");
    conf.join(device).join(name)
}

fn set(device: &str, name: &str, value: &str) {
    let path = path("ipv6", device, name);
    if let Err(error) = fs::write(&path, value) {
        tracing::debug!("cannot set {} to {value}: {error}", path.display());
    }
}
