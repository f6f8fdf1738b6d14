//! Transfers between pods whose content the receiver knows beforehand and compares byte for
//! byte.

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, MsgHdr, Socket, Type};
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use weft_dataplane::sys::cmsg::{SEND_SPACE, encode_send};
use weft_dataplane::wire::ecn::Ecn;
use weft_lab::{Pod, uninterrupted};

/// How long a receiver waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// Receive buffer of UDP in bytes. A datagram of 9,000 may take 32,768 of it, once it has been given
/// room for outer headers.
const BUFFER: usize = 2 << 20;

/// Fill `buffer` with what the stream `seed` holds from byte `offset` on.
pub(crate) fn content(seed: u64, offset: usize, buffer: &mut [u8]) {
    for (i, byte) in (offset..).zip(buffer) {
        // One step of splitmix64 per eight bytes.
        let mut word = seed ^ ((i / 8) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        *byte = (word >> (i % 8 * 8)) as u8;
    }
}

/// Send `bytes` on each of `streams` TCP connections at once, and compare what arrives.
pub(crate) fn tcp(from: &Pod, to: &Pod, streams: u64, bytes: usize) {
    tcp_over(from, to, to.address, streams, bytes);
}

/// As [`tcp`], to another address that leads to the pod.
pub(crate) fn tcp_over(from: &Pod, to: &Pod, address: Ipv4Addr, streams: u64, bytes: usize) {
    let pairs = (0..streams).map(|_| connect_over(from, to, address));
    transfer(pairs, bytes);
}

/// As [`tcp`], from the ends that have accepted: those in `to` send.
pub(crate) fn tcp_back(from: &Pod, to: &Pod, streams: u64, bytes: usize) {
    let pairs = (0..streams).map(|_| connect(from, to));
    transfer(pairs.map(|(client, server)| (server, client)), bytes);
}

/// Send `bytes` from the first end of each pair to the second, and compare what arrives.
fn transfer(pairs: impl Iterator<Item = (TcpStream, TcpStream)>, bytes: usize) {
    let pairs: Vec<_> = pairs.collect();
    std::thread::scope(|scope| {
        for (seed, (sender, receiver)) in pairs.into_iter().enumerate() {
            scope.spawn(move || send_stream(sender, seed as u64, bytes));
            scope.spawn(move || receive_stream(receiver, seed as u64, bytes));
        }
    });
}

/// A TCP connection: the end in `from`, which opened it, and the end in `to`.
pub(crate) fn connect(from: &Pod, to: &Pod) -> (TcpStream, TcpStream) {
    connect_over(from, to, to.address)
}

fn connect_over(from: &Pod, to: &Pod, address: Ipv4Addr) -> (TcpStream, TcpStream) {
    let listener = to
        .ns
        .enter(|| TcpListener::bind((to.address, 0)))
        .unwrap()
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = SocketAddr::from((address, port));
    let client = from
        .ns
        .enter(|| TcpStream::connect_timeout(&address, PATIENCE));
    let client = client.unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

fn send_stream(mut stream: TcpStream, seed: u64, bytes: usize) {
    let mut sent = 0;
    let mut buffer = vec![0; 64 << 10];
    // Writes of many lengths, so that segments end at odd places too.
    for len in (0..).map(|i: usize| 1 + (i * 7_919 + seed as usize * 104_729) % (64 << 10)) {
        let len = len.min(bytes - sent);
        if len == 0 {
            break;
        }
        content(seed, sent, &mut buffer[..len]);
        stream.write_all(&buffer[..len]).unwrap();
        sent += len;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let end = uninterrupted(|| stream.read(&mut buffer)).unwrap();
    assert_eq!(end, 0, "the receiver of stream {seed} sent something");
}

fn receive_stream(mut stream: TcpStream, seed: u64, bytes: usize) {
    let mut received = 0;
    let mut buffer = vec![0; 64 << 10];
    let mut expected = buffer.clone();
    loop {
        let len = uninterrupted(|| stream.read(&mut buffer)).unwrap();
        if len == 0 {
            break;
        }
        content(seed, received, &mut expected[..len]);
        assert!(
            buffer[..len] == expected[..len],
            "stream {seed} differs within {len} bytes from {received} on"
        );
        received += len;
    }
    assert_eq!(received, bytes, "bytes of stream {seed}");
}

/// Two UDP sockets, the first in `from`, connected to the second in `to`.
fn udp_pair(from: &Pod, to: &Pod) -> (Socket, UdpSocket) {
    let receiver = to
        .ns
        .enter(|| UdpSocket::bind((to.address, 0)))
        .unwrap()
        .unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    set_socket_recv_buffer_size_force(&receiver, BUFFER).unwrap();
    let address = receiver.local_addr().unwrap();
    let sender = from
        .ns
        .enter(|| Socket::new(Domain::IPV4, Type::DGRAM, None));
    let sender = sender.unwrap().unwrap();
    sender.connect(&address.into()).unwrap();
    (sender, receiver)
}

/// Datagrams and bytes sent before the next wait for their arrival: few enough for every
/// queue on the way, so that none may be lost.
const WINDOW: (usize, usize) = (16, 64_000);

/// Send at least `count` datagrams of each size and compare what arrives: all of it, in order.
pub(crate) fn udp(from: &Pod, to: &Pod, sizes: &[usize], count: usize) {
    let (sender, receiver) = udp_pair(from, to);
    let mut seed = 0;
    for &size in sizes {
        let window = (WINDOW.1 / size.max(1)).clamp(1, WINDOW.0);
        for _ in 0..count.div_ceil(window) {
            for seed in seed..seed + window as u64 {
                let mut payload = vec![0; size];
                content(seed, 0, &mut payload);
                sender.send(&payload).unwrap();
            }
            for seed in seed..seed + window as u64 {
                receive_datagram(&receiver, seed, size);
            }
            seed += window as u64;
        }
    }
}

/// Send super-packets that the kernel takes for `segments` datagrams of `size` bytes and
/// one of `rest`, and compare what arrives.
pub(crate) fn udp_super(from: &Pod, to: &Pod, size: usize, segments: usize, rest: usize) {
    let (sender, receiver) = udp_pair(from, to);
    let mut control = [0; SEND_SPACE];
    let used = encode_send(&mut control, Some(size as u16), Ecn::NotEct, false);
    for round in 0..8 {
        let mut payload = vec![0; segments * size + rest];
        for (i, datagram) in payload.chunks_mut(size).enumerate() {
            content(round << 16 | i as u64, 0, datagram);
        }
        let pieces = [IoSlice::new(&payload)];
        let message = MsgHdr::new()
            .with_buffers(&pieces)
            .with_control(&control[..used]);
        assert_eq!(sender.sendmsg(&message, 0).unwrap(), payload.len());
        for (i, datagram) in payload.chunks(size).enumerate() {
            receive_datagram(&receiver, round << 16 | i as u64, datagram.len());
        }
    }
}

fn receive_datagram(receiver: &UdpSocket, seed: u64, size: usize) {
    let mut buffer = vec![0; 65_536];
    let len = uninterrupted(|| receiver.recv(&mut buffer));
    let len = len.unwrap_or_else(|e| panic!("datagram {seed} of {size} bytes: {e}"));
    let mut expected = vec![0; size];
    content(seed, 0, &mut expected);
    assert_eq!(len, size, "length of datagram {seed}");
    assert!(
        buffer[..len] == expected,
        "datagram {seed} of {size} bytes differs"
    );
}

/// A socket in a pod at which nothing may arrive.
pub(crate) fn silent_socket(pod: &Pod) -> (UdpSocket, SocketAddr) {
    let address = IpAddr::V4(pod.address);
    let socket = pod
        .ns
        .enter(|| UdpSocket::bind((address, 0)))
        .unwrap()
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
