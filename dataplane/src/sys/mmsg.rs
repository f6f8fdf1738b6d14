//! `sendmmsg` and `recvmmsg`: many datagrams in one system call.
//!
//! Both batches take all their memory at construction. Pointers handed to the kernel are
//! formed anew for each call and dead after it, so callers lend plain slices and nothing
//! borrowed outlives the call.
#![allow(unsafe_code)]

use super::cmsg;
use crate::wire::ecn::Ecn;
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Control messages must start at the alignment of `cmsghdr`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control<const N: usize>([u8; N]);

/// One message to send: a datagram, or a train when `stride` is given.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The bytes to gather, in order.
    pub parts: &'a [IoSlice<'a>],
    /// Destination; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// Length of every frame of a train but the last.
    pub stride: Option<u16>,
    /// Outer ECN field, 0 to 3.
    pub ecn: u8,
}

/// The kernel-facing side of up to `capacity` messages.
pub struct SendBatch {
    headers: Box<[libc::mmsghdr]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control<{ cmsg::SEND_SPACE }>]>,
}

// SAFETY: the raw pointers in `headers` are written and read only inside `send`, which holds
// the batch exclusively; between calls they are never dereferenced.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Room for `capacity` messages a call.
    pub fn new(capacity: usize) -> SendBatch {
        // SAFETY: all-zero is a valid value of these plain C structures (null pointers, no lengths).
        let (header, name) = unsafe { (zeroed(), zeroed()) };
        SendBatch {
            headers: vec![header; capacity].into_boxed_slice(),
            names: vec![name; capacity].into_boxed_slice(),
            controls: vec![Control([0; cmsg::SEND_SPACE]); capacity].into_boxed_slice(),
        }
    }

    /// Messages one call can take.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Send the first messages, at most `capacity`, in one `sendmmsg`. Returns how many went;
    /// the error is that of the first message when none did.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: &[Message<'_>],
        flags: i32,
    ) -> io::Result<usize> {
        let count = messages.len().min(self.capacity());
        for (i, message) in messages[..count].iter().enumerate() {
            self.fill(i, message);
        }
        // SAFETY: the first `count` headers were filled above; they point into `self.names`,
        // `self.controls` and the callers' slices, all borrowed until this call returns, and
        // the kernel only reads through them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                flags,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn fill(&mut self, i: usize, message: &Message<'_>) {
        let control = &mut self.controls[i].0;
        let v6 = message.to.is_some_and(|to| to.is_ipv6());
        let used = cmsg::encode_send(control, message.stride, Ecn::of_tos(message.ecn), v6);
        let header = &mut self.headers[i].msg_hdr;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = used as _;
        // IoSlice is guaranteed to have the layout of iovec; the kernel does not write to it.
        header.msg_iov = message.parts.as_ptr().cast_mut().cast();
        header.msg_iovlen = message.parts.len() as _;
        header.msg_flags = 0;
        header.msg_namelen = match message.to {
            Some(to) => write_name(&mut self.names[i], to),
            None => 0,
        };
        header.msg_name = match message.to {
            Some(_) => (&raw mut self.names[i]).cast(),
            None => std::ptr::null_mut(),
        };
    }
}

fn write_name(storage: &mut libc::sockaddr_storage, to: SocketAddr) -> libc::socklen_t {
    let to: socket2::SockAddr = to.into();
    // SAFETY: `as_ptr` points to `len` readable bytes, `len` is at most the size of
    // sockaddr_storage, and the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(
            to.as_ptr().cast::<u8>(),
            (&raw mut *storage).cast::<u8>(),
            to.len() as usize,
        );
    }
    to.len()
}

/// One received datagram, or train when `stride` is given.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Who sent it; `None` for families other than IPv4 and IPv6.
    pub from: Option<SocketAddr>,
    /// Length of every frame but the last, from a `UDP_GRO` control message.
    pub stride: Option<u16>,
    /// Outer ECN field, 0 unless the socket asks for it (`IP_RECVTOS`).
    pub ecn: u8,
    /// The datagram or its control messages did not fit.
    pub truncated: bool,
}

/// Buffers for up to `capacity` datagrams of `buffer_len` bytes each.
pub struct RecvBatch {
    headers: Box<[libc::mmsghdr]>,
    iovecs: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control<{ cmsg::RECEIVE_SPACE }>]>,
    buffers: Box<[u8]>,
    buffer_len: usize,
    received: usize,
}

// SAFETY: the raw pointers in `headers` and `iovecs` point into the batch's own boxes, whose
// heap memory moves with it, and are used only inside `recv`, which holds it exclusively.
unsafe impl Send for RecvBatch {}

impl RecvBatch {
    /// Take memory for `capacity` datagrams of at most `buffer_len` bytes.
    pub fn new(capacity: usize, buffer_len: usize) -> RecvBatch {
        // SAFETY: all-zero is a valid value of these plain C structures (null pointers, no lengths).
        let (header, iovec, name) = unsafe { (zeroed(), zeroed(), zeroed()) };
        RecvBatch {
            headers: vec![header; capacity].into_boxed_slice(),
            iovecs: vec![iovec; capacity].into_boxed_slice(),
            names: vec![name; capacity].into_boxed_slice(),
            controls: vec![Control([0; cmsg::RECEIVE_SPACE]); capacity].into_boxed_slice(),
            buffers: vec![0; capacity * buffer_len].into_boxed_slice(),
            buffer_len,
            received: 0,
        }
    }

    /// Receive into the buffers with one `recvmmsg`, overwriting what they held. Returns how
    /// many datagrams came. `flags` as for recvmmsg: `MSG_WAITFORONE` waits for the first
    /// (up to the socket's receive timeout), `MSG_DONTWAIT` for none.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, flags: i32) -> io::Result<usize> {
        self.received = 0;
        let buffers = self.buffers.chunks_exact_mut(self.buffer_len.max(1));
        for (i, buffer) in buffers.enumerate() {
            self.iovecs[i] = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_iov = &raw mut self.iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = cmsg::RECEIVE_SPACE as _;
            header.msg_flags = 0;
        }
        // SAFETY: every header points to its own name, iovec, control and buffer memory, each
        // with its true length, all owned by `self` and untouched until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as u32,
                flags,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// What the last [`RecvBatch::recv`] brought, in order of arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.received).map(|i| self.datagram(i))
    }

    fn datagram(&self, i: usize) -> Datagram<'_> {
        let header = &self.headers[i];
        let start = i * self.buffer_len;
        let len = (header.msg_len as usize).min(self.buffer_len);
        let control_len = header.msg_hdr.msg_controllen.min(cmsg::RECEIVE_SPACE);
        let control = cmsg::decode_receive(&self.controls[i].0[..control_len]);
        Datagram {
            bytes: &self.buffers[start..start + len],
            from: read_name(&self.names[i]),
            stride: control.gro_size,
            ecn: control.ecn.bits(),
            truncated: header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        }
    }
}

fn read_name(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what the kernel wrote; storage is larger than and
            // aligned for every sockaddr.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn message<'a>(parts: &'a [IoSlice<'a>]) -> Message<'a> {
        Message {
            parts,
            to: None,
            stride: None,
            ecn: 0,
        }
    }

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind(address).unwrap();
        receiver
            .set_read_timeout(Some(std::time::Duration::from_secs(2)))
            .unwrap();
        (UdpSocket::bind(address).unwrap(), receiver)
    }

    fn set(socket: &UdpSocket, level: i32, option: i32, value: i32) {
        // SAFETY: passes a live int and its size.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
    }

    #[test]
    fn gathers_and_keeps_order() {
        let (sender, receiver) = pair("127.0.0.1:0");
        let to = receiver.local_addr().unwrap();
        let first = [IoSlice::new(b"we"), IoSlice::new(b"ft")];
        let second = [IoSlice::new(b"second")];
        let mut messages = [message(&first), message(&second)];
        messages.iter_mut().for_each(|m| m.to = Some(to));
        let mut send = SendBatch::new(8);
        assert_eq!(send.send(sender.as_fd(), &messages, 0).unwrap(), 2);

        let mut recv = RecvBatch::new(4, 100);
        let count = recv.recv(receiver.as_fd(), libc::MSG_WAITFORONE).unwrap();
        assert_eq!(count, 2);
        let got: Vec<_> = recv.datagrams().collect();
        assert_eq!(got[0].bytes, b"weft");
        assert_eq!(got[1].bytes, b"second");
        assert_eq!(got[0].from, Some(sender.local_addr().unwrap()));
        assert!(!got[0].truncated && got[0].stride.is_none());
    }

    #[test]
    fn takes_no_more_than_its_capacity() {
        let (sender, receiver) = pair("127.0.0.1:0");
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let parts = [IoSlice::new(b"x")];
        let messages = [message(&parts); 3];
        let mut send = SendBatch::new(2);
        assert_eq!(send.send(sender.as_fd(), &messages, 0).unwrap(), 2);
    }

    #[test]
    fn a_train_arrives_with_its_stride_and_ecn() {
        let (sender, receiver) = pair("127.0.0.1:0");
        set(&receiver, libc::SOL_UDP, libc::UDP_GRO, 1);
        set(&receiver, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
        let payload = [7u8; 250];
        let parts = [IoSlice::new(&payload)];
        let mut train = message(&parts);
        train.to = Some(receiver.local_addr().unwrap());
        train.stride = Some(100);
        train.ecn = 1;
        SendBatch::new(1).send(sender.as_fd(), &[train], 0).unwrap();
        let mut recv = RecvBatch::new(4, 1000);
        recv.recv(receiver.as_fd(), libc::MSG_WAITFORONE).unwrap();
        let got = recv.datagrams().next().unwrap();
        assert_eq!(got.bytes, payload);
        assert_eq!(got.stride, Some(100));
        assert_eq!(got.ecn, 1);
    }

    #[test]
    fn truncation_shows() {
        let (sender, receiver) = pair("127.0.0.1:0");
        sender
            .send_to(&[1; 50], receiver.local_addr().unwrap())
            .unwrap();
        let mut recv = RecvBatch::new(1, 20);
        recv.recv(receiver.as_fd(), libc::MSG_WAITFORONE).unwrap();
        let got = recv.datagrams().next().unwrap();
        assert_eq!(got.bytes.len(), 20);
        assert!(got.truncated);
    }

    #[test]
    fn an_empty_socket_would_block() {
        let (_, receiver) = pair("127.0.0.1:0");
        let mut recv = RecvBatch::new(2, 20);
        let error = recv.recv(receiver.as_fd(), libc::MSG_DONTWAIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(recv.datagrams().count(), 0);
    }
}
