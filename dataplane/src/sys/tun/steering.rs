//! The program that chooses the queue of each packet that leaves a TUN device
//! (`dataplane/bpf/steer.bpf.c`).
//!
//! The device keeps it for as long as there is one, also without this process.

use super::Queues;
use crate::sys::ifreq;
use aya::EbpfLoader;
use aya::programs::SocketFilter;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0_u32 as libc::Ioctl;

/// Built by `dataplane/bpf/build.sh`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/steer.bpf.o"));

/// Have the device of `queue` choose among these queues.
pub(super) fn attach(queue: BorrowedFd<'_>, queues: Queues) -> io::Result<()> {
    let (lanes, shares) = (queues.lanes as u32, queues.shares as u32);
    let mut object = EbpfLoader::new()
        .override_global("lanes", &lanes, true)
        .override_global("shares", &shares, true)
        .load(OBJECT)
        .map_err(io::Error::other)?;
    let program = object
        .program_mut("weft_steer")
        .ok_or(io::ErrorKind::NotFound)?;
    let program: &mut SocketFilter = program.try_into().map_err(io::Error::other)?;
    program.load().map_err(io::Error::other)?;
    let program = program.fd().map_err(io::Error::other)?;
    let fd: libc::c_int = program.as_fd().as_raw_fd();
    // SAFETY: TUNSETSTEERINGEBPF reads one int from the pointer, and takes a reference of its own to
    // the program.
    ifreq::check(unsafe { libc::ioctl(queue.as_raw_fd(), TUNSETSTEERINGEBPF, &raw const fd) })
}
