//! What a device receives leaves by another at once: past the checks of forwarding.
//!
//! A strict `rp_filter` of all devices takes every packet from the TAP for forged, whatever
//! the TAP's own settings, addresses and routes. (A route to the own address by the TAP would
//! satisfy it, but then firewalls that ask by which device an address is reached drop all that
//! comes for this node.) A BPF program of six instructions on the TAP hands its packets to the
//! underlay device before anybody looks at their source; it goes with its descriptor.
#![allow(unsafe_code)]

use super::egress::Device;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Commands, the kinds of program and attachment, and the helper, of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_FUNC_REDIRECT_NEIGH: i32 = 152;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination register in the lower half, source register in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What `union bpf_attr` begins with for `BPF_PROG_LOAD`; the rest is zero.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    kind: u32,
    flags: u32,
}

/// Whether the kernel drops what has a source that it would send to by another device, on
/// whatever device it comes.
pub fn is_needed() -> bool {
    let value = fs::read("/proc/sys/net/ipv4/conf/all/rp_filter");
    value.is_ok_and(|value| value.trim_ascii() == b"1")
}

/// Redirects IP packets as long as it lives.
pub struct Redirect {
    _link: OwnedFd,
    to: u32,
}

impl Redirect {
    /// Let what `from` receives leave by `to`, which finds the next hop (Linux 6.6).
    pub fn new(from: &Device, to: &Device) -> io::Result<Redirect> {
        let to = to.index()?;
        let program = load(to)?;
        let link = Link {
            program: program.as_raw_fd() as u32,
            target: from.index()?,
            kind: BPF_TCX_INGRESS,
            flags: 0,
        };
        Ok(Redirect {
            _link: bpf(BPF_LINK_CREATE, &link)?,
            to,
        })
    }

    /// Whether it still leads to `device`, which may have been made anew.
    pub fn leads_to(&self, device: &Device) -> bool {
        device.index().is_ok_and(|index| index == self.to)
    }
}

/// A program that hands each packet to the device of index `to`.
fn load(to: u32) -> io::Result<OwnedFd> {
    const CALL: u8 = (libc::BPF_JMP | 0x80) as u8;
    const EXIT: u8 = (libc::BPF_JMP | 0x90) as u8;
    // 32-bit move of a constant.
    const MOVE: u8 = (libc::BPF_ALU | 0xb0) as u8;
    let instruction = |code, register, immediate| Instruction {
        code,
        registers: register,
        offset: 0,
        immediate,
    };
    // return bpf_redirect_neigh(to, NULL, 0, 0)
    let code = [
        instruction(MOVE, 1, to as i32),
        instruction(MOVE, 2, 0),
        instruction(MOVE, 3, 0),
        instruction(MOVE, 4, 0),
        instruction(CALL, 0, BPF_FUNC_REDIRECT_NEIGH),
        instruction(EXIT, 0, 0),
    ];
    let license = c"Apache-2.0";
    let load = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    bpf(BPF_PROG_LOAD, &load)
}

/// Run a command of bpf(2) that makes a descriptor. What `attributes` points to must outlive
/// the call.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes of `attributes` as it is told, and what these
    // point to, all of which lives in the callers.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
