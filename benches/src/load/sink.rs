//! A sink for datagrams: `recvmmsg`, of which only the lengths are looked at.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

/// Datagrams of one call.
const BATCH: usize = 64;

/// Buffers for the datagrams of one call.
pub(super) struct Sink {
    buffers: Box<[u8]>,
    buffer_len: usize,
}

impl Sink {
    /// Room for datagrams of at most `buffer_len` bytes, at least 1; longer ones are cut.
    pub(super) fn new(buffer_len: usize) -> Sink {
        Sink {
            buffers: vec![0; BATCH * buffer_len].into_boxed_slice(),
            buffer_len,
        }
    }

    /// Take what is there in one call; the lengths. Waits for the first, up to the receive
    /// timeout of the socket.
    pub(super) fn take(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> io::Result<impl Iterator<Item = usize> + use<>> {
        let mut buffers = self.buffers.chunks_exact_mut(self.buffer_len);
        let mut iovecs: [libc::iovec; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().unwrap_or_default();
            libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            }
        });
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (header, iovec) in headers.iter_mut().zip(&mut iovecs) {
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to its own iovec, and that to its own part of the buffers,
        // with its true length; all of them are borrowed until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok((0..received).map(move |i| headers[i].msg_len as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn pair() -> (UdpSocket, UdpSocket) {
        let [sender, sink] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        sender.connect(sink.local_addr().unwrap()).unwrap();
        (sender, sink)
    }

    #[test]
    fn lengths_come_in_order_and_no_more_than_a_batch() {
        let (sender, socket) = pair();
        for i in 0..BATCH + 2 {
            sender.send(&[7; BATCH + 2][..=i]).unwrap();
        }
        let mut sink = Sink::new(BATCH + 3);
        let first: Vec<usize> = sink.take(socket.as_fd()).unwrap().collect();
        assert_eq!(first, (1..=BATCH).collect::<Vec<_>>());
        let rest: Vec<usize> = sink.take(socket.as_fd()).unwrap().collect();
        assert_eq!(rest, [BATCH + 1, BATCH + 2]);
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let (sender, socket) = pair();
        sender.send(&[1; 50]).unwrap();
        let lengths: Vec<usize> = Sink::new(20).take(socket.as_fd()).unwrap().collect();
        assert_eq!(lengths, [20]);
    }

    #[test]
    fn an_empty_socket_is_a_timeout() {
        let (_sender, socket) = pair();
        let soon = Duration::from_millis(1);
        socket.set_read_timeout(Some(soon)).unwrap();
        let error = Sink::new(20).take(socket.as_fd()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
