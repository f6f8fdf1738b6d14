//! A file descriptor by which the kernel tells of changes.
//!
//! Its buffer is the bound on what a storm of them costs: what does not fit is thrown away by the
//! kernel, which says so once, so that a reader who takes his time has a few hundred to read.

use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::io::{Errno, read};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with,
};
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

/// Bytes that are read of a datagram; the kernel makes most of them no longer than a page or two.
const DATAGRAM_MAX: usize = 16 * 1024;

/// Datagrams that are taken at a time, should they come as fast as they are taken.
const TAKEN_MAX: usize = 4_096;

/// `RTNLGRP_*` of links, traffic control, addresses, routes and rules of both families.
const NETWORK: [u32; 8] = [1, 4, 5, 7, 8, 9, 11, 19];

/// `NFNLGRP_NFTABLES`
const NFTABLES: [u32; 1] = [7];

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Who tells of changes, in the network namespace of the thread that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    /// rtnetlink: of links, addresses, routes, queueing disciplines.
    Network,
    /// nftables.
    Nftables,
    /// inotify: of a file that somebody closes.
    File(PathBuf),
}

/// The kernel's notices of changes. None ever come where it refuses.
pub(super) struct Notices {
    fd: Option<AsyncFd<OwnedFd>>,
    /// Whether it is a socket, from which messages come.
    is_socket: bool,
    buffer: Vec<u8>,
}

impl Notices {
    /// Be told of what `teller` knows. Needs a tokio runtime.
    pub(super) fn of(teller: &Teller) -> Notices {
        let opened = match teller {
            Teller::Network => groups(None, &NETWORK),
            Teller::Nftables => groups(Some(netlink::NETFILTER), &NFTABLES),
            Teller::File(path) => closes(path),
        };
        let fd = opened.and_then(registered);
        let fd = fd.inspect_err(|error| debug!("no notices of changes ({teller:?}): {error}"));
        Notices {
            fd: fd.ok(),
            is_socket: !matches!(teller, Teller::File(_)),
            buffer: vec![0; DATAGRAM_MAX],
        }
    }

    /// None, ever.
    pub(super) fn none() -> Notices {
        Notices {
            fd: None,
            is_socket: false,
            buffer: Vec::new(),
        }
    }

    /// Wait until there are some. Can be dropped at any await.
    pub(super) async fn arrived(&self) {
        if let Some(fd) = &self.fd
            && fd.readable().await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// Take those that are there, without waiting: the type of each and what follows its header; of a
    /// file nothing but that there are some. Whether these are all; the kernel may have had to throw
    /// others away.
    pub(super) fn take(&mut self, mut each: impl FnMut(u16, &[u8])) -> bool {
        let Some(fd) = &self.fd else {
            return true;
        };
        let mut are_all = true;
        for _ in 0..TAKEN_MAX {
            let buffer = &mut self.buffer[..];
            let received = fd.try_io(Interest::READABLE, |fd| match self.is_socket {
                true => Ok(recv(fd, buffer, RecvFlags::TRUNC)?),
                false => Ok(read(fd, buffer).map(|len| (len, len))?),
            });
            match received {
                Ok((_, _)) if !self.is_socket => each(0, &[]),
                Ok((taken, len)) => {
                    are_all &= taken == len;
                    messages(&self.buffer[..taken], &mut each);
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::NOBUFS) => are_all = false,
                    _ if error.kind() == io::ErrorKind::WouldBlock => return are_all,
                    _ => {
                        debug!("no more notices of changes: {error}");
                        self.fd = None;
                        return false;
                    }
                },
            }
        }
        false
    }
}

/// A file descriptor that the runtime waits for.
#[expect(
    deprecated,
    reason = "unsound for types that let go of their descriptor, as an OwnedFd does not; what takes its place is unsafe"
)]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// A socket of some multicast groups.
fn groups(protocol: Option<Protocol>, groups: &[u32]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    bind(&socket, &SocketAddrNetlink::new(0, mask))?;
    Ok(socket)
}

/// What can be read when somebody closes a file.
fn closes(path: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let closes = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::CLOSE_NOWRITE;
    inotify::add_watch(&fd, path, closes)?;
    Ok(fd)
}

/// Each message of a datagram: its type, and what follows its header.
fn messages(mut datagram: &[u8], each: &mut impl FnMut(u16, &[u8])) {
    while let Some((header, _)) = datagram.split_first_chunk::<HEADER>() {
        let [a, b, c, d, low, high, ..] = *header;
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(message) = datagram.get(HEADER..len.min(datagram.len())) else {
            return;
        };
        each(u16::from_ne_bytes([low, high]), message);
        // Aligned to four bytes.
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use proptest::prelude::*;

    /// A message of this type.
    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = (HEADER + payload.len()) as u32;
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(payload);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn all(datagram: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        messages(datagram, &mut |kind, payload| {
            found.push((kind, payload.to_vec()))
        });
        found
    }

    #[test]
    fn a_datagram_is_read_message_by_message() {
        let datagram = [message(16, b"abcde"), message(17, b"")].concat();
        assert_eq!(all(&datagram), [(16, b"abcde".to_vec()), (17, vec![])]);
        // One that was cut.
        assert_eq!(all(&datagram[..HEADER + 2]), [(16, b"ab".to_vec())]);
        assert_eq!(all(&datagram[..HEADER - 1]), []);
        // One that says less than its own header.
        let mut short = message(16, b"");
        short[..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(all(&short), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            all(&bytes);
        }
    }

    #[test]
    fn what_is_thrown_away_is_told() {
        netns::run(async |_| {
            netns::ip(&["link", "set", "lo", "up"]);
            let mut notices = Notices::of(&Teller::Network);
            let mut count = 0;
            netns::ip(&["route", "add", "10.9.0.0/24", "dev", "lo"]);
            notices.arrived().await;
            assert!(notices.take(|_, _| count += 1));
            assert!(count > 0);
            let routes =
                (0..5_000).map(|i| format!("route add 10.8.{}.{}/32 dev lo\n", i >> 8, i & 255));
            netns::batch(&routes.collect::<String>());
            notices.arrived().await;
            let mut count = 0;
            assert!(!notices.take(|_, _| count += 1), "all of 5000 fit: {count}");
            assert!(count < 5_000);
            assert!(notices.take(|_, _| ()), "that is told once");
        });
    }
}
