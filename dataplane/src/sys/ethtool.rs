//! Offloads of a device that `ethtool` can switch.
#![allow(unsafe_code)]

use super::tun::ifreq;
use std::io;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Let the kernel leave checksums to the reader of the TUN `device` if somebody has turned that
/// off; whether somebody had.
///
/// Without it the kernel hands over no super-packet either.
pub fn restore_checksum_offload(device: &str) -> io::Result<bool> {
    if run(device, ETHTOOL_GTXCSUM, 0)? != 0 {
        return Ok(false);
    }
    run(device, ETHTOOL_STXCSUM, 1)?;
    Ok(true)
}

fn run(device: &str, command: u32, data: u32) -> io::Result<u32> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut value = Value { command, data };
    let mut request = ifreq(device);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name of this ifreq, and reads and writes the value that it
    // points to, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        0 => Ok(value.data),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_it_and_a_device_that_is_not_there_is_an_error() {
        assert!(!restore_checksum_offload("lo").unwrap());
        let error = restore_checksum_offload("none.1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
