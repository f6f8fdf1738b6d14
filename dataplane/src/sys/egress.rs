//! Seeing what leaves the node: a packet socket on the underlay device.
#![allow(unsafe_code)]

use super::event::StopEvent;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::ffi::{CStr, CString};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// Where the classic BPF of sockets finds a packet's direction (`SKF_AD_OFF`,
/// `SKF_AD_PKTTYPE`), and the direction that counts (`PACKET_OUTGOING`).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const OUTGOING: u32 = 4;

/// Offsets in an IPv4 packet without options.
const PROTOCOL: u32 = 9;
const DESTINATION: usize = 16;
const UDP_SOURCE: u32 = 20;

/// A device, known by its name: one that is made anew, as a bond or a VLAN may be, has another
/// index.
pub struct Device(CString);

impl Device {
    /// The device that has this index now.
    pub fn of_index(index: u32) -> io::Result<Device> {
        let mut name = [0_u8; libc::IFNAMSIZ];
        // SAFETY: the kernel's name, its end included, fits the IF_NAMESIZE bytes.
        if unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) }.is_null() {
            return Err(io::Error::last_os_error());
        }
        let len = name.iter().position(|&byte| byte == 0);
        let name = CString::new(&name[..len.unwrap_or(name.len())])?;
        Ok(Device(name))
    }

    /// The device of this name, which must not have a NUL in it.
    pub fn named(name: &str) -> io::Result<Device> {
        Ok(Device(CString::new(name)?))
    }

    /// The names of all devices of the calling thread's network namespace.
    pub fn names() -> io::Result<Vec<String>> {
        // SAFETY: what it returns is an array that ends with an entry of index 0, or null.
        let all = unsafe { libc::if_nameindex() };
        if all.is_null() {
            return Err(io::Error::last_os_error());
        }
        let mut names = Vec::new();
        let mut at = all;
        // SAFETY: the loop stops at the end of the array, and each name before it is a string with
        // its end; nothing of it is kept, and it is freed once.
        unsafe {
            while (*at).if_index != 0 {
                let name = CStr::from_ptr((*at).if_name);
                names.push(name.to_string_lossy().into_owned());
                at = at.add(1);
            }
            libc::if_freenameindex(all);
        }
        Ok(names)
    }

    /// The index that it has now.
    pub fn index(&self) -> io::Result<u32> {
        // SAFETY: the pointer is to a string with its end, which is only read.
        match unsafe { libc::if_nametoindex(self.0.as_ptr()) } {
            0 => Err(io::Error::last_os_error()),
            index => Ok(index),
        }
    }
}

/// Sees the UDP datagrams over IPv4 that leave from one source port.
///
/// The kernel shows a packet here at the moment at which it hands it to the device: after
/// its own segmentation, if the device does none. While a watch exists, every packet of
/// the device pays for it.
pub struct EgressWatch(Socket);

/// An IP packet that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its destination.
    pub to: Ipv4Addr,
    /// Its length in bytes.
    pub len: usize,
}

impl EgressWatch {
    /// Watch `device` for datagrams from `port`. Without the device the error is `ENODEV`.
    pub fn new(device: &Device, port: u16) -> io::Result<EgressWatch> {
        let index = device.index()?;
        // Protocol 0: nothing arrives before the filter is in place and the socket bound.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        attach(&socket, port)?;
        bind(&socket, index)?;
        socket.set_nonblocking(true)?;
        Ok(EgressWatch(socket))
    }

    /// The next IP packet seen; `None` if there is none by `deadline`. An error tells that the
    /// device has gone or is down, or, with the kind `Interrupted`, that `stop` is raised.
    pub fn next(&self, deadline: Instant, stop: &StopEvent) -> io::Result<Option<Seen>> {
        loop {
            if let Some(seen) = self.receive()? {
                return Ok(Some(seen));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if self.wait(left, stop) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }

    /// Wait until there is something to receive or `stop` is raised, at most `limit`; whether `stop`
    /// is.
    fn wait(&self, limit: Duration, stop: &StopEvent) -> bool {
        let mut polls = [self.0.as_fd(), stop.as_fd()].map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // A part of a millisecond would be none.
        let millis = limit.as_millis() as libc::c_int + 1;
        // SAFETY: as many pollfds as told, which outlive the call. Whatever else ends it, receiving
        // tells more.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, millis) };
        stop.is_raised()
    }

    fn receive(&self) -> io::Result<Option<Seen>> {
        let mut header = [0_u8; DESTINATION + 4];
        // SAFETY: `header` has as many bytes; with MSG_TRUNC the result is the true length.
        let len = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                header.as_mut_ptr().cast(),
                header.len(),
                libc::MSG_TRUNC,
            )
        };
        let Ok(len) = usize::try_from(len) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        let [.., a, b, c, d] = header;
        let to = Ipv4Addr::new(a, b, c, d);
        Ok(Some(Seen { to, len }))
    }
}

fn attach(socket: &Socket, port: u16) -> io::Result<()> {
    let statement = |code: u32, k: u32| SockFilter::new(code as u16, 0, 0, k);
    // Go on if equal, else skip to the last statement, `left` statements on.
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let unless = |k: u32, left: u8| SockFilter::new(equal, 0, left, k);
    let load = |size: u32, at: u32| statement(libc::BPF_LD | size | libc::BPF_ABS, at);
    let take = |bytes: u32| statement(libc::BPF_RET | libc::BPF_K, bytes);
    let filter = [
        load(libc::BPF_W, PACKET_TYPE),
        unless(OUTGOING, 5),
        load(libc::BPF_B, PROTOCOL),
        unless(u32::from(libc::IPPROTO_UDP as u8), 3),
        load(libc::BPF_H, UDP_SOURCE),
        unless(u32::from(port), 1),
        take(0xffff),
        take(0),
    ];
    socket.attach_filter(&filter)
}

fn bind(socket: &Socket, device: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain old data for which all-zero bytes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // Only sockets for all protocols see what leaves.
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = device as i32;
    // SAFETY: the kernel reads one sockaddr_ll of the length given.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    match bound {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
