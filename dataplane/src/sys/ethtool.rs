//! What `ethtool` can tell and switch of a device: its carrier and its offloads.
#![allow(unsafe_code)]

use super::ifreq::ifreq;
use std::io;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;

/// A name has 32 bytes (`ETH_GSTRING_LEN`).
const NAME_WORDS: usize = 8;

/// Whether the device is up and has a carrier at this moment.
///
/// `IFF_RUNNING` says the same up to a second later: the kernel tells of carriers that are lost
/// once a second at most (`linkwatch_schedule_work` in net/core/link_watch.c).
pub fn has_carrier(device: &str) -> io::Result<bool> {
    Ok(run(device, ETHTOOL_GLINK, 0)? != 0)
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

/// Merge what the device receives, or not.
pub fn set_gro(device: &str, on: bool) -> io::Result<()> {
    run(device, ETHTOOL_SGRO, on.into()).map(drop)
}

/// Let the device have TCP super-packets, or not.
pub fn set_tso(device: &str, on: bool) -> io::Result<()> {
    run(device, ETHTOOL_STSO, on.into()).map(drop)
}

/// What a device does of itself that matters to the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// It merges what it receives (GRO).
    pub gro: bool,
    /// It takes TCP super-packets with the headers of a UDP tunnel
    /// (`tx-udp_tnl-segmentation`).
    pub tunnel_gso: bool,
}

/// What is switched on of `device`.
pub fn features(device: &str) -> io::Result<Features> {
    Ok(Features {
        gro: run(device, ETHTOOL_GGRO, 0)? != 0,
        tunnel_gso: is_active(device, b"tx-udp_tnl-segmentation")?,
    })
}

/// Whether the feature of this name is in use. The kernel numbers features as it likes, so that
/// the number is looked up by the name (`ETH_SS_FEATURES`).
fn is_active(device: &str, name: &[u8]) -> io::Result<bool> {
    // struct ethtool_sset_info: command, reserved, a mask of 64 bits, the answer.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    call(device, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: command, set, number, then strings.
    let mut strings = vec![0u32; 3 + count * NAME_WORDS];
    strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    call(device, &mut strings)?;
    let is_it = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.split(|&byte| byte == 0).next() == Some(name)
    };
    let Some(bit) = strings[3..].chunks_exact(NAME_WORDS).position(is_it) else {
        return Ok(false);
    };
    // struct ethtool_gfeatures: command, number of blocks, then blocks of four words, the third
    // of which has what is active.
    let blocks = count.div_ceil(32);
    let mut features = vec![0u32; 2 + blocks * 4];
    features[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    call(device, &mut features)?;
    Ok(features[2 + bit / 32 * 4 + 2] & 1 << (bit % 32) != 0)
}

fn run(device: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = [command, data];
    call(device, &mut value)?;
    Ok(value[1])
}

/// Make the request that lies in `words`, which has room for the answer.
fn call(device: &str, words: &mut [u32]) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut request = ifreq(device);
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL reads the name of this ifreq, and reads and writes the request that it
    // points to, which outlives the call; the callers make it as long as the kernel takes their
    // command to be, by the numbers in it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_merges_and_takes_no_tunnel() {
        let features = features("lo").unwrap();
        assert!(!features.tunnel_gso);
        assert!(is_active("lo", b"tx-scatter-gather").unwrap());
        assert!(!is_active("lo", b"no such feature").unwrap());
    }

    #[test]
    fn a_device_that_is_not_there_has_no_carrier_to_tell_of() {
        let error = has_carrier("none.1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(has_carrier("lo").is_ok());
    }

    #[test]
    fn loopback_has_it_and_a_device_that_is_not_there_is_an_error() {
        assert!(!restore_checksum_offload("lo").unwrap());
        let error = restore_checksum_offload("none.1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
