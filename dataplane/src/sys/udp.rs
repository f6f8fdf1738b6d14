//! UDP sockets: one to receive on the overlay's port, a pool to send from.
#![allow(unsafe_code)]

mod adopted;

pub(crate) use adopted::{adopt_receiver, adopt_sender};

use crate::caps::Capability;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use thiserror::Error;

/// Bytes of buffer asked for a socket that receives: about 10 ms at 6 Gbit/s.
const RECEIVE_BUFFER: usize = 8 << 20;

/// The same while nobody reads: what 50,000 small datagrams a second come to in two and a half seconds.
const WAITING_ROOM: usize = 64 << 20;

/// Bytes of buffer asked for a socket that sends: more than the queue of any device holds.
///
/// What a queue holds for one peer is charged to the socket, which all peers share, so a buffer
/// that fills before the queue does would refuse the others. The kernel's own VXLAN charges no
/// socket: there as here the queues of the devices bound the memory.
const SEND_BUFFER: usize = 256 << 20;

/// Why a socket could not be had; the text says what to do.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The port is taken.
    #[error(
        "UDP port {0} is in use by a kernel VXLAN device (look with `ip -d link show type vxlan`) or another agent (`ss -lunp`): if it is another network's, give one of the two another Backend.Port; a left-over device goes with `ip link del NAME`"
    )]
    PortInUse(u16),
    /// Anything else.
    #[error("UDP socket on {address}: {step}: {error}")]
    Other {
        /// Local address.
        address: SocketAddr,
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

fn fail(address: SocketAddr, step: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    move |error| SocketError::Other {
        address,
        step,
        error,
    }
}

fn new_socket(address: SocketAddr) -> Result<Socket, SocketError> {
    let domain = Domain::for_address(address);
    let socket =
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(fail(address, "socket"))?;
    if address.is_ipv6() {
        socket
            .set_only_v6(true)
            .map_err(fail(address, "IPV6_V6ONLY"))?;
    }
    Ok(socket)
}

fn set_int(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, one int, from `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get_int(socket: &Socket, level: i32, option: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, one int, to `value`.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut len)
    };
    match result {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Past the sysctl limit if we may, up to it otherwise.
fn set_buffer(socket: &Socket, force: i32, plain: i32, bytes: usize) {
    let bytes = bytes as i32;
    if set_int(socket, libc::SOL_SOCKET, force, bytes).is_err() {
        // A smaller buffer works too; it just drops earlier in bursts.
        let _ = set_int(socket, libc::SOL_SOCKET, plain, bytes);
    }
}

/// Have room in a socket that receives for what comes while nobody reads, or as much as ever.
pub(super) fn make_room(socket: &Socket, more: bool) {
    let bytes = if more { WAITING_ROOM } else { RECEIVE_BUFFER };
    set_buffer(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes);
}

fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether somebody holds `port` of the family of `ip`. Other trouble than this is for the
/// one who binds the port for good.
pub fn is_taken(ip: IpAddr, port: u16) -> bool {
    let address = SocketAddr::new(wildcard(ip), port);
    let bound = new_socket(address).and_then(|socket| bind(&socket, address));
    matches!(bound, Err(SocketError::PortInUse(_)))
}

/// Sockets that receive on the wildcard address and `port`, one per worker.
///
/// They are not connected: a connected socket filters by source port, and senders hash
/// theirs. The wildcard is what kernel VXLAN listens on, too. Trains are received as such if `gro`
/// is asked for and granted.
pub fn receivers(
    ip: IpAddr,
    port: u16,
    count: usize,
    gro: Option<&Capability>,
) -> Result<Vec<Socket>, SocketError> {
    let address = SocketAddr::new(wildcard(ip), port);
    if count > 1 {
        // SO_REUSEPORT would share the port with another agent of the same user and steal half
        // of its packets, so first see whether the port is free without it.
        bind(&new_socket(address)?, address)?;
    }
    (0..count)
        .map(|_| receiver(address, count > 1, gro))
        .collect()
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    socket
        .bind(&address.into())
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => SocketError::PortInUse(address.port()),
            _ => fail(address, "bind")(error),
        })
}

fn receiver(
    address: SocketAddr,
    shared: bool,
    gro: Option<&Capability>,
) -> Result<Socket, SocketError> {
    let socket = new_socket(address)?;
    if shared {
        socket
            .set_reuse_port(true)
            .map_err(fail(address, "SO_REUSEPORT"))?;
    }
    make_room(&socket, false);
    receive_trains(&socket, gro);
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVTOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    };
    set_int(&socket, level, option, 1).map_err(fail(address, "IP_RECVTOS"))?;
    bind(&socket, address)?;
    Ok(socket)
}

/// Let `socket` receive trains as such if `gro` is asked for and granted. Without it they arrive frame
/// by frame.
pub(crate) fn receive_trains(socket: &Socket, gro: Option<&Capability>) {
    let set = |on: bool| set_int(socket, libc::SOL_UDP, libc::UDP_GRO, on.into());
    let _ = match gro {
        Some(gro) => gro.ask(|| set(true)).map(drop),
        None => set(false),
    };
}

/// Where to send from: `ip` with a port of the kernel's choice. A link-local address is that of
/// the device with this index, as others may have the same; all that is sent from it leaves by
/// that device.
pub fn source(ip: IpAddr, device: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, device).into(),
        ip => SocketAddr::new(ip, 0),
    }
}

/// `count` sockets to send from, each with a source port of its own from the local port
/// range, so that the outer source port can follow the inner flow. With `df` nothing they
/// send may be fragmented.
pub fn senders(source: SocketAddr, count: usize, df: bool) -> Result<Vec<Socket>, SocketError> {
    (0..count).map(|_| sender(source, df)).collect()
}

/// Bytes that were sent by `socket` and have left no device yet, with what the kernel adds to
/// each; 0 if it does not say.
pub(super) fn waiting(socket: &Socket) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int to `bytes`.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match asked {
        0 => usize::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// The send buffer of `socket` in bytes, if it is smaller than it should be: whoever may not
/// go past `net.core.wmem_max` gets that.
pub fn short_send_buffer(socket: &Socket) -> Option<usize> {
    // The kernel doubles what is asked for, to have room for its own.
    let granted = socket.send_buffer_size().ok()? / 2;
    (granted < SEND_BUFFER).then_some(granted)
}

/// A socket that sends from `address`; see [`senders`].
pub fn sender(address: SocketAddr, df: bool) -> Result<Socket, SocketError> {
    let socket = unread(address)?;
    set_buffer(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER);
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    // Without it the kernel keeps to itself that the queue of the device was full
    // (`udp_send_skb` in net/ipv4/udp.c). With it a send may fail because of an ICMP message about
    // another one: see `refusals`.
    set_int(&socket, level, option, 1).map_err(fail(address, "IP_RECVERR"))?;
    // Clear by default, as kernel VXLAN sends. Set, the kernel holds sends against what it has
    // heard from routers and refuses longer ones.
    let (level, option, value) = discovery(address, df);
    set_int(&socket, level, option, value).map_err(fail(address, "IP_MTU_DISCOVER"))?;
    bind(&socket, address)?;
    Ok(socket)
}

/// Level, name and value of the option that sets DF on what is sent from `address`, or not.
fn discovery(address: SocketAddr, df: bool) -> (i32, i32, i32) {
    let (level, option, clear, set) = match address {
        SocketAddr::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
            libc::IP_PMTUDISC_DO,
        ),
        SocketAddr::V6(_) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
            libc::IPV6_PMTUDISC_DO,
        ),
    };
    (level, option, if df { set } else { clear })
}

/// A socket that neither sends nor receives, to ask the kernel for its routes from `source`.
pub(super) fn probe(source: SocketAddr) -> Result<Socket, SocketError> {
    let socket = unread(source)?;
    bind(&socket, source)?;
    Ok(socket)
}

/// A socket that nobody reads from: strays are to fill as little memory as possible.
fn unread(address: SocketAddr) -> Result<Socket, SocketError> {
    let socket = new_socket(address)?;
    set_buffer(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, 0);
    Ok(socket)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sys) fn disable_checksums(socket: &Socket) {
        set_int(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    }

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_in_use_is_named() {
        let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = receivers(LOOPBACK, port, 2, None).unwrap_err();
        assert!(matches!(error, SocketError::PortInUse(p) if p == port));
        assert!(error.to_string().contains(&port.to_string()));
    }

    #[test]
    fn a_second_agent_cannot_share_the_port() {
        // No other process's address, and a port that no socket gets by chance.
        let [.., high, low] = std::process::id().to_be_bytes();
        let (own, port) = (IpAddr::from([127, high, low, 2]), 18_472);
        let first = receivers(own, port, 2, None).unwrap();
        assert_eq!(first.len(), 2);
        assert!(matches!(
            receivers(own, port, 2, None),
            Err(SocketError::PortInUse(_))
        ));
    }

    #[test]
    fn trains_are_received_where_that_is_asked_for_and_was_never_refused() {
        let free = || {
            let socket = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap();
            socket.local_addr().unwrap().port()
        };
        let receives_trains = |gro: Option<&Capability>| {
            let socket = receivers(LOOPBACK, free(), 1, gro).unwrap().remove(0);
            get_int(&socket, libc::SOL_UDP, libc::UDP_GRO).unwrap() != 0
        };
        let gro = Capability::default();
        assert!(receives_trains(Some(&gro)));
        assert_eq!(gro.grant(), crate::caps::Grant::On);
        assert!(!receives_trains(None));
        gro.refuse();
        assert!(!receives_trains(Some(&gro)));
    }

    #[test]
    fn a_short_send_buffer_is_told() {
        let socket = new_socket((LOOPBACK, 0).into()).unwrap();
        socket.set_send_buffer_size(65_536).unwrap();
        assert_eq!(short_send_buffer(&socket), Some(65_536));
    }

    #[test]
    fn senders_have_ports_of_their_own() {
        let sockets = senders((LOOPBACK, 0).into(), 8, false).unwrap();
        let mut ports: Vec<_> = sockets
            .iter()
            .map(|s| s.local_addr().unwrap().as_socket().unwrap().port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
        assert!(sockets.iter().all(|s| short_send_buffer(s).is_none()));
    }
}
