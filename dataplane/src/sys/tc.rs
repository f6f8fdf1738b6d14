//! Which BPF programs see the packets of a device, and taking them off it.
#![allow(unsafe_code)]

use socket2::{Domain, Protocol, Socket, Type};
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Which packets of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that it receives.
    Ingress,
    /// Those that it sends.
    Egress,
}

/// `BPF_OBJ_GET`, `BPF_PROG_QUERY`, `BPF_LINK_GET_FD_BY_ID` and `BPF_LINK_DETACH` of `enum bpf_cmd`.
const OBJECT_GET: libc::c_long = 7;
const QUERY: libc::c_long = 16;
const LINK_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;

/// The most programs that one hook takes (`BPF_MPROG_MAX`).
const MOST: usize = 64;

/// `union bpf_attr` as `BPF_PROG_QUERY` has it.
#[repr(C)]
#[derive(Default)]
struct Query {
    device: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    more: [u64; 2],
}

/// The ids of the tcx programs on the device of this index, in their order.
pub fn tcx_programs(device: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let links = tcx_links(device, direction)?;
    Ok(links.into_iter().map(|link| link.program).collect())
}

/// A program on a device, and what holds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcxLink {
    /// The id of the program.
    pub program: u32,
    /// That of the link; 0: it is there without one.
    pub link: u32,
}

/// The tcx programs on the device of this index, in their order.
pub fn tcx_links(device: u32, direction: Direction) -> io::Result<Vec<TcxLink>> {
    let [mut programs, mut links] = [[0_u32; MOST]; 2];
    let mut query = Query {
        device,
        // BPF_TCX_INGRESS, BPF_TCX_EGRESS
        attach_type: match direction {
            Direction::Ingress => 46,
            Direction::Egress => 47,
        },
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    let len = size_of::<Query>();
    // SAFETY: the kernel reads and writes `len` bytes of the attribute, and at most `count` ids
    // behind each of its pointers; all outlive the call.
    match unsafe { libc::syscall(libc::SYS_bpf, QUERY, &raw mut query, len) } {
        0 => {
            let ids = programs.into_iter().zip(links).take(query.count as usize);
            Ok(ids
                .map(|(program, link)| TcxLink { program, link })
                .collect())
        }
        // Nothing was ever attached.
        _ if last_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What holds a program on its device.
pub struct Link(OwnedFd);

impl Link {
    /// The link of this id, whoever has pinned it and where. It takes `CAP_SYS_ADMIN`.
    pub fn of_id(id: u32) -> io::Result<Link> {
        // SAFETY: the kernel reads the four bytes of the attribute.
        unsafe { command(LINK_BY_ID, &id) }.and_then(opened)
    }

    /// What is pinned at `path`, if it is a link.
    pub fn pinned(path: &Path) -> io::Result<Link> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let pathname = path.as_ptr() as u64;
        // SAFETY: the kernel reads the eight bytes of the attribute, and the string up to its end.
        unsafe { command(OBJECT_GET, &pathname) }.and_then(opened)
    }

    /// Take the program off its device at once. Where it is not a link, nothing happens.
    pub fn detach(self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the kernel reads the four bytes of the attribute.
        unsafe { command(LINK_DETACH, &fd) }.map(drop)
    }
}

fn opened(fd: libc::c_long) -> io::Result<Link> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nothing else has it.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// `bpf(2)` with this attribute, which the kernel reads: all that it points to must be there.
unsafe fn command<T>(number: libc::c_long, attribute: &T) -> io::Result<libc::c_long> {
    let attribute = std::ptr::from_ref(attribute);
    // SAFETY: the length is that of the attribute; its pointers are the caller's care.
    match unsafe { libc::syscall(libc::SYS_bpf, number, attribute, size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn last_error() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

const NLMSG_ERROR: u16 = 2;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_REQUEST: u16 = 1;
const ETH_P_ALL: u16 = 3;

/// Bytes of `struct nlmsghdr` and `struct tcmsg`.
const HEADER: usize = 16;
const TCMSG: usize = 20;

/// Attributes of a filter, and of one that is a BPF program.
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;

/// The id of the program that is the filter of this priority and handle of the device's clsact
/// qdisc, if there is one.
pub fn filter_program(
    device: u32,
    direction: Direction,
    priority: u16,
    handle: u32,
) -> io::Result<Option<u32>> {
    // TC_H_CLSACT and TC_H_MIN_INGRESS or TC_H_MIN_EGRESS
    let parent: u32 = match direction {
        Direction::Ingress => 0xffff_fff2,
        Direction::Egress => 0xffff_fff3,
    };
    let info = u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be());
    let mut request = Vec::with_capacity(HEADER + TCMSG);
    request.extend((HEADER as u32 + TCMSG as u32).to_ne_bytes());
    request.extend(RTM_GETTFILTER.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    for word in [0, 0, 0, device, handle, parent, info] {
        request.extend(word.to_ne_bytes());
    }
    match ask(&request)? {
        None => Ok(None),
        Some(filter) => {
            let options = attribute(&filter, TCA_OPTIONS);
            let id = options.and_then(|options| attribute(options, TCA_BPF_ID));
            let id = id.and_then(|id| id.first_chunk().copied());
            Ok(id.map(u32::from_ne_bytes))
        }
    }
}

/// The attributes of the filter that the kernel answers a netlink request with; `None` if there is
/// none, or no qdisc for it.
fn ask(request: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    (&socket).write_all(request)?;
    let mut answer = [0; 8192];
    let len = (&socket).read(&mut answer)?;
    let answer = &answer[..len];
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok());
    match kind.map(u16::from_ne_bytes) {
        Some(RTM_NEWTFILTER) => Ok(answer.get(HEADER + TCMSG..).map(<[u8]>::to_vec)),
        Some(NLMSG_ERROR) => {
            let code = answer.get(HEADER..).and_then(|code| code.first_chunk());
            match -i32::from_ne_bytes(code.copied().unwrap_or_default()) {
                libc::ENOENT | libc::EINVAL | libc::ENODEV => Ok(None),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The value of the first attribute of this kind.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// Flags of the kind (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
    const FLAGS: u16 = 0xc000;
    loop {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let (len, kind) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let value = bytes.get(4..usize::from(len))?;
        if kind & !FLAGS == wanted {
            return Some(value);
        }
        bytes = bytes.get(usize::from(len).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_never_beyond_the_end() {
        let mut bytes = vec![7, 0, 1, 0, b'b', b'p', b'f', 0];
        bytes.extend([8, 0, 2, 0x80, 1, 2, 3, 4]);
        assert_eq!(attribute(&bytes, 1), Some(&b"bpf"[..]));
        assert_eq!(attribute(&bytes, 2), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&bytes, 3), None);
        assert_eq!(attribute(&bytes[..bytes.len() - 1], 2), None);
        // Lengths below that of their own header.
        assert_eq!(attribute(&[0; 16], 1), None);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None);
    }

    #[test]
    fn a_device_without_programs_has_none() {
        weft_lab::isolated(|| {
            for direction in [Direction::Ingress, Direction::Egress] {
                assert!(tcx_programs(1, direction).unwrap().is_empty());
                assert_eq!(filter_program(1, direction, 7, 1).unwrap(), None);
            }
            assert!(tcx_programs(77, Direction::Ingress).is_err());
            assert_eq!(filter_program(77, Direction::Ingress, 7, 1).unwrap(), None);
        });
    }
}
