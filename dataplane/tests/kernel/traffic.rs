//! Transfers through a tunnel whose content the receiver knows and compares.

use crate::commands::run;
use crate::packets::noise;
use crate::tunnel::{Family, Node, inner};
use socket2::{Domain, MsgHdr, Socket, Type};
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use weft_dataplane::sys::cmsg::{SEND_SPACE, encode_send};
use weft_dataplane::wire::ecn::Ecn;
use weft_lab::uninterrupted;

/// How long a receiver waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ping with `len` bytes of payload that must not be fragmented.
pub(crate) fn ping(family: Family, from: &Node, to: &Node, len: usize) {
    let address = inner(family, to.number);
    let words = format!("-c 3 -i 0.02 -W 5 -M do -s {len} {address}");
    from.ns.enter(|| run("ping", &words)).unwrap();
}

/// Send `len` bytes of noise over each of `streams` connections, and compare them.
pub(crate) fn tcp(family: Family, from: &Node, to: &Node, streams: usize, len: usize) {
    let content = &noise(len)[..];
    let pairs: Vec<_> = (0..streams).map(|_| connect(family, from, to)).collect();
    std::thread::scope(|scope| {
        for (mut client, mut server) in pairs {
            scope.spawn(move || {
                // Writes of many lengths, so that segments end at odd places too.
                let mut rest = content;
                for len in (0..).map(|i| 1 + i * 7_919 % (64 << 10)) {
                    let (now, later) = rest.split_at(rest.len().min(len));
                    client.write_all(now).unwrap();
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
            });
            scope.spawn(move || {
                let mut received = Vec::new();
                server.read_to_end(&mut received).unwrap();
                assert!(received == content, "a stream was altered");
            });
        }
    });
}

/// Both ends of a connection, that of `from` first.
pub(crate) fn connect(family: Family, from: &Node, to: &Node) -> (TcpStream, TcpStream) {
    let bind = || TcpListener::bind((inner(family, to.number), 0)).unwrap();
    let listener = to.ns.enter(bind).unwrap();
    let address = listener.local_addr().unwrap();
    let client = from
        .ns
        .enter(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap())
        .unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

/// Two UDP sockets, the first connected to the second.
pub(crate) fn udp_pair(family: Family, from: &Node, to: &Node) -> (Socket, UdpSocket) {
    let bind = || UdpSocket::bind((inner(family, to.number), 0)).unwrap();
    let receiver = to.ns.enter(bind).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = udp_sender(from, receiver.local_addr().unwrap());
    (sender, receiver)
}

/// A UDP socket connected to `to`.
pub(crate) fn udp_sender(from: &Node, to: SocketAddr) -> Socket {
    let new = || Socket::new(Domain::for_address(to), Type::DGRAM, None);
    let sender = from.ns.enter(new).unwrap().unwrap();
    sender.connect(&to.into()).unwrap();
    sender
}

/// Send datagrams of each of `sizes`, and compare what arrives.
pub(crate) fn udp(family: Family, from: &Node, to: &Node, sizes: &[usize]) {
    let (sender, receiver) = udp_pair(family, from, to);
    for &size in sizes {
        let content = noise(size);
        for _ in 0..10 {
            sender.send(&content).unwrap();
            receive(&receiver, &content);
        }
    }
}

/// Send super-packets of `segments` datagrams of `size` bytes and one of `rest`, and compare
/// what arrives.
pub(crate) fn udp_super(
    family: Family,
    from: &Node,
    to: &Node,
    (size, segments, rest): (usize, usize, usize),
) {
    let (sender, receiver) = udp_pair(family, from, to);
    let mut control = [0; SEND_SPACE];
    let used = encode_send(
        &mut control,
        Some(size as u16),
        Ecn::NotEct,
        family == Family::V6,
    );
    let content = noise(segments * size + rest);
    for _ in 0..8 {
        let pieces = [IoSlice::new(&content)];
        let message = MsgHdr::new()
            .with_buffers(&pieces)
            .with_control(&control[..used]);
        assert_eq!(sender.sendmsg(&message, 0).unwrap(), content.len());
        for datagram in content.chunks(size) {
            receive(&receiver, datagram);
        }
    }
}

fn receive(receiver: &UdpSocket, expected: &[u8]) {
    let mut buffer = vec![0; 65_536];
    let len = uninterrupted(|| receiver.recv(&mut buffer));
    let len = len.unwrap_or_else(|e| panic!("a datagram of {} bytes: {e}", expected.len()));
    assert!(
        buffer[..len] == *expected,
        "a datagram of {} bytes was altered",
        expected.len()
    );
}
