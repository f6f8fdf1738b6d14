//! The multi-queue TUN device with `virtio_net_hdr` and offloads.
//!
//! The ioctls are our own because no maintained crate sets up all of multi-queue,
//! `IFF_VNET_HDR`, `TUNSETOFFLOAD` and persistence (see docs/decisions).
#![allow(unsafe_code)]

mod queues;
mod steering;

pub use queues::{MAX_QUEUES, Queues};

use super::adopt::{AdoptError, Attachment, Kind, are_one, close_on_exec};
use super::ethtool;
use super::ifreq::ifreq;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use thiserror::Error;

/// Length of the `virtio_net_hdr` in front of every packet: the legacy form, which is the
/// kernel's default and fits into the 22 bytes of VXLAN and inner Ethernet header.
pub const VNET_HDR_LEN: usize = 10;

pub(super) const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
const TUNSETPERSIST: libc::Ioctl = 0x4004_54cb_u32 as libc::Ioctl;
pub(super) const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0_u32 as libc::Ioctl;
pub(super) const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8_u32 as libc::Ioctl;

pub(super) const TUN_F_CSUM: libc::c_ulong = 0x01;
pub(super) const TUN_F_TSO4: libc::c_ulong = 0x02;
pub(super) const TUN_F_TSO6: libc::c_ulong = 0x04;
pub(super) const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
/// Both USO bits exist since Linux 6.2 and must be set together.
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// What the kernel may hand us unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// TCP super-packets, IPv4 and IPv6, ECN included.
    pub tso: bool,
    /// UDP super-packets (Linux 6.2 and later).
    pub uso: bool,
}

impl Offloads {
    fn bits(self) -> libc::c_ulong {
        let tso = TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
        let uso = TUN_F_USO4 | TUN_F_USO6;
        TUN_F_CSUM | if self.tso { tso } else { 0 } | if self.uso { uso } else { 0 }
    }
}

/// Why the device could not be had; the text says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No `/dev/net/tun`.
    #[error(
        "no TUN device: /dev/net/tun does not exist; run `modprobe tun`, or pass the device into the container"
    )]
    NoDevice,
    /// EPERM or EACCES.
    #[error(
        "no permission to create TUN device {0}: CAP_NET_ADMIN and access to /dev/net/tun are needed"
    )]
    NoPermission(String),
    /// A link of that name is something else.
    #[error(
        "link {0} exists and is not a TUN with several queues, but a TAP or one with a single queue (`ip -d link show {0}`): remove it with `ip link del {0}`"
    )]
    OtherKind(String),
    /// Another process has its queues.
    #[error("TUN device {0} is in use by another process: stop the other agent first")]
    Held(String),
    /// The name does not fit the kernel's 15 bytes.
    #[error("device name {0:?} is longer than 15 bytes or empty")]
    BadName(String),
    /// The number of queues is 0 or above [`MAX_QUEUES`].
    #[error("{0} TUN queues asked for; 1 to 256 are possible")]
    BadQueues(usize),
    /// Any other refusal.
    #[error("TUN device {name}: {step}: {error}")]
    Other {
        /// Device name.
        name: String,
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// One queue: a descriptor that reads and writes whole packets behind a
/// [`VNET_HDR_LEN`]-byte header.
pub struct TunQueue(File);

impl TunQueue {
    /// Write one IP packet that is complete, checksums included.
    pub(super) fn write(&self, packet: &[u8]) -> io::Result<()> {
        let header = IoSlice::new(&[0; VNET_HDR_LEN]);
        // A TUN takes a packet whole or not at all.
        let pieces = [header, IoSlice::new(packet)];
        (&self.0).write_vectored(&pieces).map(drop)
    }

    /// Let reads return at once when there is nothing to read, or wait.
    ///
    /// All who have a duplicate of the descriptor share this, also other processes: so it is for
    /// the one who reads, when it begins to.
    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: F_GETFL and F_SETFL take and return plain numbers.
        let done = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            let wanted = match on {
                true => flags | libc::O_NONBLOCK,
                false => flags & !libc::O_NONBLOCK,
            };
            flags >= 0 && (wanted == flags || libc::fcntl(fd, libc::F_SETFL, wanted) >= 0)
        };
        match done {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }

    /// A queue over any descriptor that keeps message boundaries.
    #[cfg(test)]
    pub(super) fn from_fd(fd: OwnedFd) -> TunQueue {
        TunQueue(fd.into())
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The device and all its queues. A clone has the same ones.
#[derive(Clone)]
pub struct Tun {
    name: String,
    counts: Queues,
    wanted: Offloads,
    offloads: Offloads,
    queues: Vec<Arc<TunQueue>>,
}

impl Tun {
    /// Create the device `name`, or attach to the one that an earlier process left, with
    /// these queues. It stays when this process ends, with its address and routes.
    ///
    /// A kernel that refuses USO gives a device without it: see [`Tun::offloads`]. A process that
    /// was killed lets go of its queues only when the kernel has wound up its io_uring, some time
    /// after the process is gone: until then the device is [held](OpenError::Held).
    pub fn open(name: &str, queues: Queues, offloads: Offloads) -> Result<Tun, OpenError> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(OpenError::BadName(name.to_owned()));
        }
        let count = queues.count();
        if !(1..=MAX_QUEUES).contains(&count) {
            return Err(OpenError::BadQueues(count));
        }
        if is_running(name) {
            return Err(OpenError::Held(name.to_owned()));
        }
        let opened = (0..count)
            .map(|_| open_queue(name).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let granted = configure(name, &opened[0], offloads)?;
        Ok(Tun {
            name: name.to_owned(),
            counts: queues,
            wanted: offloads,
            offloads: granted,
            queues: opened,
        })
    }

    /// The device `name`, which another process opened with the offloads that it `wanted` and was
    /// `granted`, by as many `queues` as `counts` says, in their order.
    ///
    /// Refused is what is no queue of that device, with its place in the order.
    pub fn adopt(
        name: &str,
        counts: Queues,
        (wanted, granted): (Offloads, Offloads),
        queues: impl Iterator<Item = OwnedFd>,
    ) -> Result<Tun, AdoptError> {
        let mut all: Vec<Arc<TunQueue>> = Vec::new();
        for (index, fd) in queues.enumerate() {
            let refuse = |why: String| AdoptError::new(format!("TUN queue {index}"), why);
            let attached = Attachment::of(fd.as_fd()).map_err(refuse)?;
            attached
                .is(Kind::TunQueue, name, VNET_HDR_LEN)
                .map_err(refuse)?;
            close_on_exec(fd.as_fd()).map_err(|error| refuse(error.to_string()))?;
            // The other one would have no reader.
            if let Some(first) = all.iter().position(|q| are_one(q.as_fd(), fd.as_fd())) {
                return Err(refuse(format!("is queue {first} once more")));
            }
            all.push(Arc::new(TunQueue(fd.into())));
        }
        Ok(Tun {
            name: name.to_owned(),
            counts,
            wanted,
            offloads: granted,
            queues: all,
        })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The offloads asked for.
    pub fn wanted(&self) -> Offloads {
        self.wanted
    }

    /// What the kernel accepted of them.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Have a program choose the queue of each packet that leaves: the lane by its flow, the share of
    /// that by its source, so that a pod that floods fills one queue of each lane.
    ///
    /// Without one the kernel chooses by the flow alone, and a pod with many flows fills all.
    ///
    /// # Errors
    /// What the kernel says of BPF (programs with constants, Linux 5.2) or of `TUNSETSTEERINGEBPF` (4.16).
    pub fn steer(&self) -> io::Result<()> {
        match (self.counts.shares, self.queues.first()) {
            (2.., Some(queue)) => steering::attach(queue.0.as_fd(), self.counts),
            _ => Ok(()),
        }
    }

    /// How many queues there are, and for whom.
    pub fn counts(&self) -> Queues {
        self.counts
    }

    /// The queues of each lane, in order.
    pub fn lanes(&self) -> impl Iterator<Item = &[Arc<TunQueue>]> {
        self.queues.chunks(self.counts.shares.max(1))
    }

    /// All queues, in order.
    pub fn queues(&self) -> &[Arc<TunQueue>] {
        &self.queues
    }

    /// The same for good.
    pub fn into_queues(self) -> Vec<Arc<TunQueue>> {
        self.queues
    }
}

/// Whether devices can be made at all; `name` is the one meant.
pub fn check(name: &str) -> Result<(), OpenError> {
    open_control(name).map(drop)
}

fn other(name: &str, step: &'static str) -> OpenError {
    OpenError::Other {
        name: name.to_owned(),
        step,
        error: io::Error::last_os_error(),
    }
}

/// Whether the link exists, is up and has a carrier. A TUN has one only while some process
/// holds a queue, and then a further multi-queue attach would silently steal its flows.
fn is_running(name: &str) -> bool {
    ethtool::has_carrier(name).unwrap_or(false)
}

fn open_control(name: &str) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::NoDevice,
            io::ErrorKind::PermissionDenied => OpenError::NoPermission(name.to_owned()),
            _ => OpenError::Other {
                name: name.to_owned(),
                step: "open /dev/net/tun",
                error,
            },
        })
}

fn open_queue(name: &str) -> Result<TunQueue, OpenError> {
    let file = open_control(name)?;
    let mut request = ifreq(name);
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes this ifreq only.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) } < 0 {
        return Err(match io::Error::last_os_error().raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => OpenError::NoPermission(name.to_owned()),
            Some(libc::EINVAL) => OpenError::OtherKind(name.to_owned()),
            Some(libc::EBUSY) => OpenError::Held(name.to_owned()),
            _ => other(name, "TUNSETIFF"),
        });
    }
    Ok(TunQueue(file))
}

/// Device-wide settings, made through any queue.
fn configure(name: &str, queue: &TunQueue, wanted: Offloads) -> Result<Offloads, OpenError> {
    let fd = queue.0.as_raw_fd();
    let header_len = VNET_HDR_LEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int from the pointer.
    if unsafe { libc::ioctl(fd, TUNSETVNETHDRSZ, &header_len) } < 0 {
        return Err(other(name, "TUNSETVNETHDRSZ"));
    }
    let offloads = [
        wanted,
        Offloads {
            uso: false,
            ..wanted
        },
    ]
    .into_iter()
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    .find(|offloads| unsafe { libc::ioctl(fd, TUNSETOFFLOAD, offloads.bits()) } == 0)
    .ok_or_else(|| other(name, "TUNSETOFFLOAD"))?;
    // SAFETY: TUNSETPERSIST takes its argument by value.
    if unsafe { libc::ioctl(fd, TUNSETPERSIST, 1 as libc::c_ulong) } < 0 {
        return Err(other(name, "TUNSETPERSIST"));
    }
    Ok(offloads)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offloads = Offloads {
        tso: true,
        uso: true,
    };

    #[test]
    fn names_and_queue_counts_are_checked_before_the_kernel_is_asked() {
        let one = Queues::single(1);
        let open = |name| Tun::open(name, one, ALL);
        assert!(matches!(open(""), Err(OpenError::BadName(_))));
        assert!(matches!(
            open("flannel.12345678"),
            Err(OpenError::BadName(_))
        ));
        assert!(matches!(
            Tun::open("t", Queues::single(0), ALL),
            Err(OpenError::BadQueues(0))
        ));
        assert!(matches!(
            Tun::open("t", Queues::single(257), ALL),
            Err(OpenError::BadQueues(257))
        ));
    }

    #[test]
    fn offload_bits() {
        assert_eq!(ALL.bits(), 0x6f);
        assert_eq!(
            Offloads {
                tso: false,
                uso: false
            }
            .bits(),
            0x01
        );
    }
}
