//! The port that frames arrive at: several sockets for each worker, of which a program chooses.
//!
//! A queue that all peers share is full for all of them once one of them floods. So each worker has
//! [`SHARES`] sockets, each with a receive buffer of its own, and the sender's address says which one
//! (stochastic fairness queueing). The worker takes from them in turn. What no worker would take goes to
//! sockets that keep nothing, and takes neither room nor a worker's time.
#![allow(unsafe_code)]

mod program;

pub use program::Frames;

use super::adopt::AdoptError;
use super::shares::SHARES;
use super::udp::{self, SocketError};
use crate::caps::Capability;
use crate::stats::DropReason;
use crate::wire::frame::Wire;
use libc::sock_filter;
use socket2::Socket;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What no worker would take, each with a socket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Junk {
    /// No frame of this form.
    Malformed,
    /// A frame of another network.
    Foreign,
}

impl Junk {
    const ALL: [Junk; 2] = [Junk::Malformed, Junk::Foreign];

    /// The reason by which a worker would drop it.
    fn reason(self, wire: Wire) -> DropReason {
        match (self, wire) {
            (Junk::Malformed, Wire::Vxlan) => DropReason::BadVxlan,
            (Junk::Malformed, Wire::Ip) => DropReason::BadInnerIp,
            (Junk::Foreign, _) => DropReason::WrongVni,
        }
    }
}

/// What waits for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveQueue {
    /// Bytes that wait to be received, with what the kernel adds to each datagram.
    pub waiting: u64,
    /// Bytes that may wait.
    pub room: u64,
}

/// Sockets that receive on one port.
pub struct Port {
    /// [`SHARES`] for each worker, those of the first worker first.
    shares: Vec<Arc<Socket>>,
    junk: Vec<Socket>,
    address: SocketAddr,
}

impl Port {
    /// How many sockets belong to a port of as many workers.
    pub fn sockets(workers: usize) -> usize {
        workers
            .saturating_mul(SHARES)
            .saturating_add(Junk::ALL.len())
    }

    /// Open the sockets for `workers` workers on the wildcard address and `port`, for frames of this
    /// form. Trains are received as such if `gro` is asked for and granted.
    pub fn open(
        ip: IpAddr,
        port: u16,
        workers: usize,
        frames: Frames,
        gro: Option<&Capability>,
    ) -> Result<Port, SocketError> {
        let sockets = udp::receivers(ip, port, Port::sockets(workers), gro)?;
        let port = Port::of(sockets, SocketAddr::new(ip, port));
        // An instruction that takes nothing.
        let nothing = [socket2::SockFilter::new(libc::BPF_RET as u16, 0, 0, 0)];
        for socket in &port.junk {
            let refused = socket.attach_filter(&nothing);
            refused.map_err(|error| port.failed("SO_ATTACH_FILTER", error))?;
        }
        port.choose(frames)?;
        Ok(port)
    }

    /// The port that another process opened for as many workers: its sockets, in the order of
    /// [`Port::descriptors`].
    pub(crate) fn adopt(
        ip: IpAddr,
        port: u16,
        descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Result<Port, AdoptError> {
        let mut numbers = BTreeMap::new();
        let sockets = descriptors.enumerate().map(|(index, fd)| {
            let refuse = |why| AdoptError::new(format!("receive socket {index}"), why);
            let (socket, number) = udp::adopt_receiver(fd, ip, port).map_err(refuse)?;
            // The other one would have no reader.
            match numbers.insert(number, index) {
                None => Ok(socket),
                Some(first) => Err(refuse(format!("is socket {first} once more"))),
            }
        });
        let sockets = sockets.collect::<Result<_, _>>()?;
        Ok(Port::of(sockets, SocketAddr::new(ip, port)))
    }

    fn of(mut sockets: Vec<Socket>, address: SocketAddr) -> Port {
        let shares = sockets.len().saturating_sub(Junk::ALL.len());
        let junk = sockets.split_off(shares);
        Port {
            shares: sockets.into_iter().map(Arc::new).collect(),
            junk,
            address,
        }
    }

    /// Take frames of this form from now on, and trains as such if `gro` is asked for and granted.
    pub fn set(&self, frames: Frames, gro: Option<&Capability>) -> Result<(), SocketError> {
        // Junk too: the kernel asks any of them whether it merges for the port.
        self.all()
            .for_each(|socket| udp::receive_trains(socket, gro));
        self.choose(frames)
    }

    /// Have the program choose.
    fn choose(&self, frames: Frames) -> Result<(), SocketError> {
        let workers = self.shares.len() / SHARES;
        let program = program::program(frames, self.address.is_ipv6(), workers as u32);
        let Some(socket) = self.shares.first() else {
            return Ok(());
        };
        attach(socket, &program).map_err(|error| self.failed("SO_ATTACH_REUSEPORT_CBPF", error))
    }

    fn failed(&self, step: &'static str, error: io::Error) -> SocketError {
        let address = self.address;
        SocketError::Other {
            address,
            step,
            error,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        self.shares.iter().map(|socket| &**socket).chain(&self.junk)
    }

    /// The sockets of each worker.
    pub fn workers(&self) -> impl Iterator<Item = Vec<Arc<Socket>>> {
        self.shares.chunks(SHARES).map(<[Arc<Socket>]>::to_vec)
    }

    /// All sockets: those of each worker, and those for junk.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all().map(AsFd::as_fd)
    }

    /// Have room for datagrams that come while nobody reads them, or as much as ever.
    pub fn make_room(&self, more: bool) {
        self.shares
            .iter()
            .for_each(|socket| udp::make_room(socket, more));
    }

    /// How full the sockets of each worker are, taken together.
    pub fn queues(&self) -> impl Iterator<Item = ReceiveQueue> {
        let queue = |sockets: &[Arc<Socket>]| {
            let mut queue = ReceiveQueue::default();
            for numbers in sockets.iter().map(|socket| meminfo(socket)) {
                queue.waiting += u64::from(numbers[libc::SK_MEMINFO_RMEM_ALLOC as usize]);
                queue.room += u64::from(numbers[libc::SK_MEMINFO_RCVBUF as usize]);
            }
            queue
        };
        self.shares.chunks(SHARES).map(queue)
    }

    /// What each socket, in the order of [`Port::descriptors`], has dropped since it was opened, modulo
    /// 2^32, and the reason: datagrams that no worker could see, and trains as one each.
    pub fn dropped(&self, wire: Wire) -> impl Iterator<Item = (DropReason, u32)> {
        let full = self.shares.iter().map(|_| DropReason::ReceiveQueueFull);
        let reasons = full.chain(Junk::ALL.map(|junk| junk.reason(wire)));
        reasons.zip(self.all().map(dropped))
    }
}

/// Let `program` choose among the sockets that share the port of `socket`.
fn attach(socket: &Socket, program: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: the kernel reads `len` bytes, one `sock_fprog`, and copies the instructions that it
    // points to, which outlive the call.
    let result = unsafe {
        let value = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, value, len)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Numbers of `SO_MEMINFO` (`SK_MEMINFO_VARS` of linux/sock_diag.h).
const MEMINFO_VARS: usize = 9;

/// Datagrams that the kernel has dropped instead of queueing them at `socket`, or since their checksum
/// was wrong, modulo 2^32; 0 if it does not say.
fn dropped(socket: &Socket) -> u32 {
    meminfo(socket)[libc::SK_MEMINFO_DROPS as usize]
}

/// What the kernel says of the queues of `socket`, by `SK_MEMINFO_*`; zeros if it does not.
fn meminfo(socket: &Socket) -> [u32; MEMINFO_VARS] {
    let mut numbers = [0u32; MEMINFO_VARS];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `numbers`.
    let result = unsafe {
        let value = numbers.as_mut_ptr().cast();
        let (level, option) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut len)
    };
    match result {
        0 => numbers,
        _ => [0; MEMINFO_VARS],
    }
}

#[cfg(test)]
mod tests;
