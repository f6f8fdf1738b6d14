//! Descriptors that another process handed over, held against what they are said to be.
#![allow(unsafe_code)]

use super::ifreq;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use thiserror::Error;

const TUNGETIFF: libc::Ioctl = 0x8004_54d2_u32 as libc::Ioctl;
const TUNGETVNETHDRSZ: libc::Ioctl = 0x8004_54d7_u32 as libc::Ioctl;

/// Give a descriptor of the network namespace of the device (Linux 5.7 and later).
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;

/// The same of a socket.
pub(super) const SIOCGSKNS: libc::Ioctl = 0x894c;

/// `KCMP_FILE` of `linux/kcmp.h`.
const KCMP_FILE: libc::c_long = 0;

/// A descriptor that is not what it is said to be, or too many of them or too few, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {why}")]
pub struct AdoptError {
    what: String,
    why: String,
}

impl AdoptError {
    /// That `what` cannot be adopted, and `why`.
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>) -> AdoptError {
        AdoptError {
            what: what.into(),
            why: why.into(),
        }
    }
}

/// What a descriptor of `/dev/net/tun` is attached to.
pub(super) struct Attachment {
    device: String,
    flags: libc::c_int,
    /// Length of the `virtio_net_hdr` in bytes.
    header_len: usize,
}

/// The kinds of device that weft makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A queue of a TUN that has several.
    TunQueue,
    /// A TAP.
    Tap,
}

impl Attachment {
    /// Ask the kernel; otherwise why there is nothing to be told.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Attachment, String> {
        let number = fd.as_raw_fd();
        let mut request = ifreq::ifreq("");
        // SAFETY: TUNGETIFF fills this ifreq, and no other kind of file knows it.
        let asked = ifreq::check(unsafe { libc::ioctl(number, TUNGETIFF, &mut request) });
        asked.map_err(|error| match error.raw_os_error() {
            Some(libc::EBADFD) => "its device was removed".to_owned(),
            _ => "no descriptor of a TUN or TAP".to_owned(),
        })?;
        let mut header_len: libc::c_int = 0;
        // SAFETY: TUNGETVNETHDRSZ writes one int to the pointer.
        ifreq::check(unsafe { libc::ioctl(number, TUNGETVNETHDRSZ, &mut header_len) })
            .map_err(|error| format!("TUNGETVNETHDRSZ: {error}"))?;
        is_at_home(fd, TUNGETDEVNETNS)?;
        // SAFETY: TUNGETIFF filled the flags member, whose bits are those of an unsigned number.
        let flags = unsafe { request.ifr_ifru.ifru_flags } as u16;
        Ok(Attachment {
            device: ifreq::name(&request),
            flags: flags.into(),
            header_len: usize::try_from(header_len).unwrap_or(0),
        })
    }

    /// Whether it is a `kind` of `device` with headers of this length; otherwise what it is.
    pub(super) fn is(&self, kind: Kind, device: &str, header_len: usize) -> Result<(), String> {
        let has = |flag| self.flags & flag != 0;
        let is_kind = match kind {
            Kind::TunQueue => has(libc::IFF_TUN),
            Kind::Tap => has(libc::IFF_TAP),
        };
        if !is_kind {
            let (is, is_not) = match kind {
                Kind::TunQueue => ("TAP", "TUN"),
                Kind::Tap => ("TUN", "TAP"),
            };
            return Err(format!("of the {is} {}, and no {is_not}", self.device));
        }
        if self.device != device {
            return Err(format!("of {}, not of {device}", self.device));
        }
        if kind == Kind::TunQueue && !has(libc::IFF_MULTI_QUEUE) {
            return Err(format!("{device} has a single queue"));
        }
        if has(libc::IFF_DETACH_QUEUE) {
            return Err(format!("detached from {device}"));
        }
        if !has(libc::IFF_VNET_HDR) || !has(libc::IFF_NO_PI) || self.header_len != header_len {
            return Err(format!(
                "{device} has no virtio_net_hdr of {header_len} bytes before its packets"
            ));
        }
        Ok(())
    }
}

/// Whether what `fd` is attached to, as the kernel tells by `request`, is in the calling thread's
/// network namespace; a kernel that does not tell is trusted.
pub(super) fn is_at_home(fd: BorrowedFd<'_>, request: libc::Ioctl) -> Result<(), String> {
    // SAFETY: these requests take no argument.
    let given = unsafe { libc::ioctl(fd.as_raw_fd(), request) };
    if given < 0 {
        return Ok(());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let namespace = File::from(unsafe { OwnedFd::from_raw_fd(given) });
    let of = namespace.metadata();
    let own = fs::metadata("/proc/thread-self/ns/net");
    match (of, own) {
        (Ok(of), Ok(own)) if of.ino() != own.ino() => {
            Err("of another network namespace".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether both are duplicates of one, as far as the kernel tells.
pub(super) fn are_one(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let [a, b] = [a, b].map(|fd| libc::c_long::from(fd.as_raw_fd()));
    let process = libc::c_long::from(std::process::id() as libc::pid_t);
    // SAFETY: kcmp takes plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, process, process, KCMP_FILE, a, b) == 0 }
}

/// Close `fd` in programs that this process starts. Who passes descriptors to a process it starts,
/// as systemd does, has them stay open.
pub(super) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETFD takes a plain number.
    ifreq::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })
}
