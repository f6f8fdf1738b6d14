//! The TAP of tunnel GSO, through which super-packets leave unsegmented (Linux 6.17 and later).
//!
//! A TUN will not do: the kernel wants an outer Ethernet header in front of tunnelled
//! super-packets (`drivers/net/tun_vnet.h`). What is written is received by the kernel on this
//! device and forwarded. Who opens it must set it up, give it an address, let it forward
//! (`forwarding`), and see to it that a packet from an address of this node's own is not taken
//! for forged (`accept_local`, `rp_filter`).
#![allow(unsafe_code)]

use super::adopt::{AdoptError, Attachment, Kind, close_on_exec};
use super::ifreq::{check, ifreq};
use super::tun::{
    TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ,
};
use crate::offload::vnet_hdr::Layout;
use crate::wire::ethernet::MacAddr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use thiserror::Error;

/// UDP tunnel segmentation, and with it the outer checksum; both since Linux 6.17.
const TUN_F_UDP_TUNNEL_GSO: libc::c_ulong = 0x80;
const TUN_F_UDP_TUNNEL_GSO_CSUM: libc::c_ulong = 0x100;

/// Why there is no such TAP.
#[derive(Debug, Error)]
#[error("{step}: {error}")]
pub struct TapError {
    step: &'static str,
    error: io::Error,
}

impl TapError {
    /// Whether somebody holds a device of this name. That of an agent that was killed goes with
    /// its io_uring, a little later.
    pub fn is_busy(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EBUSY)
    }
}

fn fail(step: &'static str) -> impl FnOnce(io::Error) -> TapError {
    move |error| TapError { step, error }
}

/// The device. It goes with its last descriptor: when this is dropped, unless another process has
/// a duplicate.
pub struct Tap {
    name: String,
    file: File,
    mac: MacAddr,
    refused: AtomicBool,
    down: AtomicBool,
}

impl Tap {
    /// Create the device `name`, which is down and has no address. Waits for nobody:
    /// [`TapError::is_busy`] if the name is taken.
    pub fn open(name: &str) -> Result<Tap, TapError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(fail("open /dev/net/tun"))?;
        let fd = file.as_raw_fd();
        let mut request = ifreq(name);
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes this ifreq only.
        check(unsafe { libc::ioctl(fd, TUNSETIFF, &mut request) }).map_err(fail("TUNSETIFF"))?;
        let header_len = Layout::TunnelGso.len() as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int from the pointer.
        check(unsafe { libc::ioctl(fd, TUNSETVNETHDRSZ, &header_len) })
            .map_err(fail("TUNSETVNETHDRSZ"))?;
        let offloads = TUN_F_CSUM
            | TUN_F_TSO4
            | TUN_F_TSO6
            | TUN_F_TSO_ECN
            | TUN_F_UDP_TUNNEL_GSO
            | TUN_F_UDP_TUNNEL_GSO_CSUM;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(fd, TUNSETOFFLOAD, offloads) })
            .map_err(fail("TUNSETOFFLOAD (Linux 6.17 and later can do it)"))?;
        let mac = mac(&file).map_err(fail("SIOCGIFHWADDR"))?;
        Ok(Tap::new(name, file, mac))
    }

    /// The device `name`, which another process opened and set up.
    pub fn adopt(name: &str, fd: OwnedFd) -> Result<Tap, AdoptError> {
        let refuse = |why: String| AdoptError::new(format!("TAP {name}"), why);
        let attached = Attachment::of(fd.as_fd()).map_err(refuse)?;
        attached
            .is(Kind::Tap, name, Layout::TunnelGso.len())
            .map_err(refuse)?;
        close_on_exec(fd.as_fd()).map_err(|error| refuse(error.to_string()))?;
        let file = File::from(fd);
        let mac = mac(&file).map_err(|error| refuse(format!("SIOCGIFHWADDR: {error}")))?;
        Ok(Tap::new(name, file, mac))
    }

    fn new(name: &str, file: File, mac: MacAddr) -> Tap {
        Tap {
            name: name.to_owned(),
            file,
            mac,
            refused: AtomicBool::new(false),
            down: AtomicBool::new(false),
        }
    }

    /// A TAP that is any other file.
    #[cfg(test)]
    pub(super) fn over(file: File) -> Tap {
        Tap::new("", file, MacAddr::default())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its MAC address, to which outer frames are addressed.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Whether the kernel has refused a packet for what it is, which it would do again.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether somebody has set the device down, as far as is known.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Note that the kernel refused a packet with `errno`: with `EIO` because the device is
    /// down, with `EINVAL` for what the packet is, with `EBADFD` because the device was
    /// removed.
    fn note_refusal(&self, errno: i32) {
        match errno {
            libc::EIO => self.down.store(true, Ordering::Relaxed),
            libc::EINVAL | libc::EBADFD => self.refused.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Hand the kernel one packet behind its `virtio_net_hdr`, and note what that tells of the
    /// device.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        let written = (&self.file).write(packet).map(drop);
        match &written {
            // Mostly it is not set, and other workers read it.
            Ok(()) if self.is_down() => self.down.store(false, Ordering::Relaxed),
            Ok(()) => {}
            Err(error) => self.note_refusal(error.raw_os_error().unwrap_or(0)),
        }
        written
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The MAC address of the device that was made by this descriptor.
fn mac(device: &File) -> io::Result<MacAddr> {
    let mut request = ifreq("");
    // SAFETY: SIOCGIFHWADDR fills the address of this ifreq, of the descriptor's own device.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::SIOCGIFHWADDR, &mut request) })?;
    // SAFETY: SIOCGIFHWADDR filled this member.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok(MacAddr(std::array::from_fn(|i| address[i] as u8)))
}
