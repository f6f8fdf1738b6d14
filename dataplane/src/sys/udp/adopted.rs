//! Sockets that another process opened and handed over.

use super::{discovery, get_int, wildcard};
use crate::sys::adopt::{SIOCGSKNS, close_on_exec, is_at_home};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// The socket `fd` and its number among all sockets, if it is one of those that
/// [`receivers`](super::receivers) gives for `ip` and `port`; otherwise what it is.
pub(crate) fn adopt_receiver(fd: OwnedFd, ip: IpAddr, port: u16) -> Result<(Socket, u64), String> {
    let address = SocketAddr::new(wildcard(ip), port);
    let file = File::from(fd);
    let number = file.metadata().map(|found| found.ino());
    let socket = adopt(file.into(), address)?;
    match bound_to(&socket)? {
        bound if bound == address => Ok((socket, number.map_err(|error| error.to_string())?)),
        bound => Err(format!("bound to {bound}, not to {address}")),
    }
}

/// The socket `fd` and its port, if it is one of those that [`senders`](super::senders) gives for
/// `source` and `df`; otherwise what it is.
pub(crate) fn adopt_sender(
    fd: OwnedFd,
    source: SocketAddr,
    df: bool,
) -> Result<(Socket, u16), String> {
    let socket = adopt(fd, source)?;
    let bound = bound_to(&socket)?;
    let mut address = bound;
    address.set_port(source.port());
    if address != source || bound.port() == 0 {
        return Err(format!("bound to {bound}, not to {}", source.ip()));
    }
    let (level, option, value) = discovery(source, df);
    match get_int(&socket, level, option) {
        Ok(set) if set == value => Ok((socket, bound.port())),
        _ if df => Err("it does not set DF".to_owned()),
        _ => Err("it sets DF".to_owned()),
    }
}

/// The socket `fd`, if it is one of UDP in the family of `address`, in this network namespace, with no
/// other device than that of the address and no other end.
fn adopt(fd: OwnedFd, address: SocketAddr) -> Result<Socket, String> {
    let socket = Socket::from(fd);
    let domain = socket.domain().map_err(|_| "no socket".to_owned())?;
    let is_udp = || -> io::Result<bool> {
        Ok(socket.r#type()? == Type::DGRAM && socket.protocol()? == Some(Protocol::UDP))
    };
    if !is_udp().is_ok_and(|is| is) {
        return Err("no UDP socket".to_owned());
    }
    if domain != Domain::for_address(address) {
        let family = match address {
            SocketAddr::V4(_) => "IPv6, not IPv4",
            SocketAddr::V6(_) => "IPv4, not IPv6",
        };
        return Err(format!("of {family}"));
    }
    is_at_home(socket.as_fd(), SIOCGSKNS)?;
    let device = match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    // Before Linux 5.1 nobody tells.
    let bound = get_int(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX);
    let bound = bound.map_or(device, i32::cast_unsigned);
    if bound != device {
        return Err(format!("bound to the device of index {bound}"));
    }
    if let Some(other) = socket.peer_addr().ok().and_then(|a| a.as_socket()) {
        return Err(format!("connected to {other}"));
    }
    close_on_exec(socket.as_fd()).map_err(|error| error.to_string())?;
    Ok(socket)
}

fn bound_to(socket: &Socket) -> Result<SocketAddr, String> {
    let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
    bound.ok_or_else(|| "bound to no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{receivers, senders};
    use super::*;
    use std::fs::File;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ANY: SocketAddr = SocketAddr::new(LOOPBACK, 0);

    #[test]
    fn sockets_of_the_own_making_are_adopted() {
        let port = UdpSocket::bind(ANY).unwrap().local_addr().unwrap().port();
        let mut numbers = Vec::new();
        for socket in receivers(LOOPBACK, port, 2, None).unwrap() {
            numbers.push(adopt_receiver(socket.into(), LOOPBACK, port).unwrap().1);
        }
        assert_ne!(numbers[0], numbers[1]);
        for df in [false, true] {
            let mut ports = Vec::new();
            for socket in senders(ANY, 3, df).unwrap() {
                ports.push(adopt_sender(socket.into(), ANY, df).unwrap().1);
            }
            ports.dedup();
            assert_eq!(ports.len(), 3);
        }
    }

    #[test]
    fn what_is_no_such_socket_is_refused_by_what_it_is() {
        let refusal = |fd: OwnedFd| adopt_receiver(fd, LOOPBACK, 8_472).unwrap_err();
        assert_eq!(
            refusal(File::open("/dev/null").unwrap().into()),
            "no socket"
        );
        let tcp = TcpListener::bind(ANY).unwrap();
        assert_eq!(refusal(tcp.into()), "no UDP socket");
        let ipv6 = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        assert_eq!(refusal(ipv6.into()), "of IPv6, not IPv4");
        let other = UdpSocket::bind(ANY).unwrap();
        let bound = other.local_addr().unwrap();
        let expected = format!("bound to {bound}, not to 0.0.0.0:8472");
        assert_eq!(refusal(other.into()), expected);
        let on_device = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        on_device.bind_device(Some(b"lo")).unwrap();
        let refused = refusal(on_device.into());
        assert!(
            refused.starts_with("bound to the device of index "),
            "{refused}"
        );
        let connected = UdpSocket::bind(ANY).unwrap();
        connected.connect((LOOPBACK, 9)).unwrap();
        assert_eq!(refusal(connected.into()), "connected to 127.0.0.1:9");
    }

    #[test]
    fn a_sender_must_have_the_address_a_port_and_df_as_told() {
        let sender = |df| senders(ANY, 1, df).unwrap().remove(0).into();
        let refusal = |fd, df| adopt_sender(fd, ANY, df).unwrap_err();
        assert_eq!(refusal(sender(true), false), "it sets DF");
        assert_eq!(refusal(sender(false), true), "it does not set DF");
        let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let expected = "bound to 0.0.0.0:0, not to 127.0.0.1";
        assert_eq!(refusal(unbound.into(), false), expected);
    }
}
