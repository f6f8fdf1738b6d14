//! The TAP of tunnel GSO, through which super-packets leave unsegmented (Linux 6.17 and later).
//!
//! A TUN will not do: the kernel wants an outer Ethernet header in front of tunnelled
//! super-packets (`drivers/net/tun_vnet.h`). What is written is received by the kernel on this
//! device and forwarded, so forwarding must be on for it, and a packet from an address of
//! this node's own must not be taken for forged.
#![allow(unsafe_code)]

use super::tun::{
    RELEASE_TIME, TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUNSETIFF, TUNSETOFFLOAD,
    TUNSETVNETHDRSZ, ifreq,
};
use crate::offload::vnet_hdr::Layout;
use socket2::{Domain, Socket, Type};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// UDP tunnel segmentation, and with it the outer checksum; both since Linux 6.17.
const TUN_F_UDP_TUNNEL_GSO: libc::c_ulong = 0x80;
const TUN_F_UDP_TUNNEL_GSO_CSUM: libc::c_ulong = 0x100;

/// Settings of the device under `/proc/sys/net`, and whether it is of no use without them.
/// The kernel takes the greater of `rp_filter` here and that of `all`.
const SETTINGS: [(&str, &str, &str, bool); 4] = [
    ("ipv4", "forwarding", "1", true),
    ("ipv4", "accept_local", "1", true),
    ("ipv4", "rp_filter", "0", true),
    // It is to stay silent.
    ("ipv6", "disable_ipv6", "1", false),
];

/// Why there is no such TAP.
#[derive(Debug, Error)]
#[error("{step}: {error}")]
pub struct TapError {
    step: &'static str,
    error: io::Error,
}

fn fail(step: &'static str) -> impl FnOnce(io::Error) -> TapError {
    move |error| TapError { step, error }
}

/// The device. It goes when this is dropped.
pub struct Tap {
    name: String,
    file: File,
    mac: [u8; 6],
    refused: AtomicBool,
    down: AtomicBool,
}

impl Tap {
    /// Create the device `name` and bring it up.
    pub fn open(name: &str) -> Result<Tap, TapError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(fail("open /dev/net/tun"))?;
        let mut request = ifreq(name);
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        let patience = Instant::now() + RELEASE_TIME;
        loop {
            // SAFETY: TUNSETIFF reads and writes this ifreq only.
            let made = check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) });
            match made {
                Ok(()) => break,
                // The device of an agent that was killed goes with its io_uring, a little later.
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < patience =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(fail("TUNSETIFF")(error)),
            }
        }
        let header_len = Layout::TunnelGso.len() as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int from the pointer.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &header_len) })
            .map_err(fail("TUNSETVNETHDRSZ"))?;
        let offloads = TUN_F_CSUM
            | TUN_F_TSO4
            | TUN_F_TSO6
            | TUN_F_TSO_ECN
            | TUN_F_UDP_TUNNEL_GSO
            | TUN_F_UDP_TUNNEL_GSO_CSUM;
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, offloads) })
            .map_err(fail("TUNSETOFFLOAD (Linux 6.17 and later can do it)"))?;
        configure(name)?;
        let mac = bring_up(name)?;
        Ok(Tap {
            name: name.to_owned(),
            file,
            mac,
            refused: AtomicBool::new(false),
            down: AtomicBool::new(false),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its MAC address, to which outer frames are addressed.
    pub fn mac(&self) -> [u8; 6] {
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
    pub(super) fn note_refusal(&self, errno: i32) {
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
            Ok(()) => self.down.store(false, Ordering::Relaxed),
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

/// Give the TAP `name` its settings and its address where it lacks them; whether it did.
///
/// Whoever applies the host's sysctls to each device that appears comes after [`Tap::open`], and
/// whoever manages addresses may flush those that are not his.
pub fn restore(name: &str) -> Result<bool, TapError> {
    let changed = configure(name)?;
    Ok(ensure_address(&control()?, name)? || changed)
}

/// See to the settings of the device; whether any was another.
fn configure(name: &str) -> Result<bool, TapError> {
    let mut changed = false;
    for (family, setting, value, needed) in SETTINGS {
        let path = format!("/proc/sys/net/{family}/conf/{name}/{setting}");
        if fs::read(&path).is_ok_and(|is| is.trim_ascii() == value.as_bytes()) {
            continue;
        }
        match fs::write(&path, value) {
            Ok(()) => changed = true,
            Err(error) if needed => return Err(fail("sysctl")(error)),
            Err(_) => {}
        }
    }
    Ok(changed)
}

/// An IPv4 address as ioctls take it.
fn sockaddr(address: [u8; 4]) -> libc::sockaddr {
    let mut sockaddr = libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // The port comes first.
    for (to, from) in sockaddr.sa_data[2..].iter_mut().zip(address) {
        *to = from as libc::c_char;
    }
    sockaddr
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The address of every such device, /32 and of host scope, so that nobody takes it for a
/// source or for an address of the node: a loose `rp_filter` drops all that comes from a
/// device without one.
const ADDRESS: [u8; 4] = [127, 84, 65, 80];

/// A socket for ioctls on links.
fn control() -> Result<Socket, TapError> {
    Socket::new(Domain::IPV4, Type::DGRAM, None).map_err(fail("socket"))
}

/// See to it that the link has an address, and if it has none that it is [`ADDRESS`]; whether it
/// had none.
fn ensure_address(control: &Socket, name: &str) -> Result<bool, TapError> {
    let fd = control.as_raw_fd();
    let mut request = ifreq(name);
    // SAFETY: SIOCGIFADDR reads the name and fills the address of this ifreq.
    match check(unsafe { libc::ioctl(fd, libc::SIOCGIFADDR, &mut request) }) {
        Ok(()) => return Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
        Err(error) => return Err(fail("SIOCGIFADDR")(error)),
    }
    for (step, code, address) in [
        ("SIOCSIFADDR", libc::SIOCSIFADDR, ADDRESS),
        ("SIOCSIFNETMASK", libc::SIOCSIFNETMASK, [255; 4]),
    ] {
        request.ifr_ifru.ifru_addr = sockaddr(address);
        // SAFETY: both read the name and the address of this ifreq.
        check(unsafe { libc::ioctl(fd, code, &mut request) }).map_err(fail(step))?;
    }
    Ok(true)
}

/// Give the link its address and set it up; its MAC address.
fn bring_up(name: &str) -> Result<[u8; 6], TapError> {
    let control = control()?;
    ensure_address(&control, name)?;
    let fd = control.as_raw_fd();
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of this ifreq.
    check(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &mut request) }).map_err(fail("link up"))?;
    // SAFETY: SIOCGIFHWADDR reads the name and fills the address of this ifreq.
    check(unsafe { libc::ioctl(fd, libc::SIOCGIFHWADDR, &mut request) })
        .map_err(fail("SIOCGIFHWADDR"))?;
    // SAFETY: SIOCGIFHWADDR filled this member.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok(std::array::from_fn(|i| address[i] as u8))
}
