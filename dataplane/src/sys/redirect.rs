//! What a device receives leaves by another at once: past the checks of forwarding.
//!
//! A strict `rp_filter` of all devices takes every packet from the TAP for forged, whatever
//! the TAP's own settings, addresses and routes. (A route to the own address by the TAP would
//! satisfy it, but then firewalls that ask by which device an address is reached drop all that
//! comes for this node.) A BPF program of six instructions on the TAP hands its packets to the
//! underlay device before anybody looks at their source; it goes with its descriptor.
//!
//! So they pass by all else, too: IPsec policies, the firewall's `FORWARD`, `OUTPUT` and
//! `POSTROUTING`. Who uses this must see to it that none of these would have changed them.
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

/// How strict the kernel is with the source of what comes from `device`: 1 drops what it would
/// send to by another device, 2 what it could not send to. `None` if it does not say.
pub fn rp_filter(device: &str) -> Option<u8> {
    let of = |name: &str| -> Option<u8> {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        value.ok()?.trim().parse().ok()
    };
    // The kernel takes the greater of both (`IN_DEV_RPFILTER`).
    of("all").max(of(device))
}

/// Whether the kernel drops what comes from `device` with an address of this node.
pub fn is_needed(device: &str) -> bool {
    rp_filter(device) == Some(1)
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
        // SAFETY: nothing in `link` is a pointer.
        let link = unsafe { bpf(BPF_LINK_CREATE, &link) }?;
        Ok(Redirect { _link: link, to })
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
    // SAFETY: `load` points to `code`, with its number of instructions, and to a string with
    // its end, which both live until the call returns.
    unsafe { bpf(BPF_PROG_LOAD, &load) }
}

/// Run a command of bpf(2) that makes a descriptor.
///
/// # Safety
///
/// `attributes` must be what a `union bpf_attr` begins with for `command`, without padding, and
/// what it points to must be valid for reads during the call.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes of `attributes` as it is told, and what these
    // point to, which the caller vouches for.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
