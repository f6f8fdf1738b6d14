//! What the kernel answers, in one line.

use futures::{Stream, TryStreamExt};
use rustix::io::Errno;
use std::io;
use std::pin::pin;

/// A netlink request that failed, as one line: what was asked, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}{}", hint(source))]
pub struct NetlinkError {
    pub(super) action: String,
    pub(super) source: io::Error,
}

impl NetlinkError {
    /// Its code, see [`crate::codes`].
    pub const CODE: &str = "W0401";

    /// The kernel's answer.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

fn hint(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::PermissionDenied {
        " (run as root or with CAP_NET_ADMIN)"
    } else {
        ""
    }
}

pub(super) async fn collect<T>(
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, rtnetlink::Error> {
    let mut stream = pin!(stream);
    let mut items = Vec::new();
    while let Some(item) = stream.try_next().await? {
        items.push(item);
    }
    Ok(items)
}

/// Answers to a route look-up where no route, or none that leads anywhere, is found:
/// `unreachable`, `prohibit` and `blackhole` routes give the last three.
pub(super) const UNREACHABLE: [Errno; 4] = [
    Errno::NETUNREACH,
    Errno::HOSTUNREACH,
    Errno::ACCESS,
    Errno::INVAL,
];

/// Answers that say that a thing to be removed is not there, nor the device that it was on.
const GONE: [Errno; 4] = [Errno::SRCH, Errno::NXIO, Errno::NODEV, Errno::ADDRNOTAVAIL];

pub(super) fn is_one_of(error: &io::Error, answers: [Errno; 4]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| answers.contains(&errno))
}

pub(super) fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = &error {
        return message.to_io();
    }
    io::Error::other(error.to_string())
}

pub(super) fn failed(action: impl Into<String>, error: rtnetlink::Error) -> NetlinkError {
    NetlinkError {
        action: action.into(),
        source: to_io(error),
    }
}

pub(super) fn unless_gone(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    let Err(rtnetlink::Error::NetlinkError(message)) = &result else {
        return result;
    };
    match is_one_of(&message.to_io(), GONE) {
        true => Ok(()),
        false => result,
    }
}
