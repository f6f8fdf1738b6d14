//! How long trains may be, found out by sending them.

use super::cmsg::{self, SEND_SPACE};
use super::refusals::OLD_MAX_FRAMES;
use crate::offload::plan::MAX_FRAMES;
use crate::wire::ecn::Ecn;
use socket2::{Domain, MsgHdr, SockAddr, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};

/// Length of each frame of a probe in bytes.
const STRIDE: u16 = 8;

/// The most frames that the kernel takes in one train, 1 if it takes none. `None` where it could
/// not be asked, as in a namespace whose loopback is down.
pub fn probe() -> Option<u16> {
    let here = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let receiver = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    receiver.bind(&here).ok()?;
    let to = receiver.local_addr().ok()?;
    let sender = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    sender.bind(&here).ok()?;
    longest(|frames| send(&sender, &to, frames))
}

/// The longest train that `send` takes, of those that kernels differ in.
fn longest(send: impl Fn(u16) -> io::Result<()>) -> Option<u16> {
    for frames in [MAX_FRAMES as u16, OLD_MAX_FRAMES] {
        match send(frames) {
            Ok(()) => return Some(frames),
            Err(error) if is_refusal(&error) => {}
            Err(_) => return None,
        }
    }
    Some(1)
}

/// Whether the kernel says by it that it does not send such a train.
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [libc::EINVAL, libc::EIO, libc::EOPNOTSUPP, libc::ENOPROTOOPT];
    error
        .raw_os_error()
        .is_some_and(|errno| refusals.contains(&errno))
}

fn send(socket: &Socket, to: &SockAddr, frames: u16) -> io::Result<()> {
    let mut control = [0; SEND_SPACE];
    let control_len = cmsg::encode_send(&mut control, Some(STRIDE), Ecn::NotEct, false);
    let bytes = [0; MAX_FRAMES * STRIDE as usize];
    let train = [IoSlice::new(&bytes[..usize::from(frames * STRIDE)])];
    let message = MsgHdr::new()
        .with_addr(to)
        .with_buffers(&train)
        .with_control(&control[..control_len]);
    socket.sendmsg(&message, libc::MSG_DONTWAIT).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::udp::tests::disable_checksums;

    #[test]
    fn the_longest_train_that_is_taken_counts() {
        let refused = |errno| Err(io::Error::from_raw_os_error(errno));
        assert_eq!(longest(|_| Ok(())), Some(128));
        let old = |frames| {
            if frames > 64 {
                refused(libc::EINVAL)
            } else {
                Ok(())
            }
        };
        assert_eq!(longest(old), Some(64));
        assert_eq!(longest(|_| refused(libc::EINVAL)), Some(1));
        assert_eq!(longest(|_| refused(libc::ENETUNREACH)), None);
    }

    #[test]
    fn this_kernel_says_what_it_takes() {
        assert!(matches!(probe(), Some(64 | 128)), "{:?}", probe());
    }

    #[test]
    fn a_socket_that_takes_none_is_told_from_one_that_does() {
        let here = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let socket = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.bind(&here).unwrap();
            socket
        };
        let (receiver, sender) = (socket(), socket());
        let to = receiver.local_addr().unwrap();
        disable_checksums(&sender);
        assert_eq!(longest(|frames| send(&sender, &to, frames)), Some(1));
    }
}
