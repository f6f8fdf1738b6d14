//! Telling the service manager how far the agent is (sd_notify(3)), and having it keep descriptors
//! (sd_pid_notify_with_fds(3)).
//!
//! The crate `sd-notify` does not know abstract socket names, which containers are given.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tracing::warn;

/// How long one that does not read may hold the agent up with each message. On a busy machine ten
/// messages (`net.unix.max_dgram_qlen`) wait for it soon.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The node is up.
    Ready,
    /// The node goes down.
    Stopping,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            State::Ready => "READY=1",
            State::Stopping => "STOPPING=1",
        }
    }
}

/// Send `state` to the socket that `NOTIFY_SOCKET` names, if there is one. A failure is
/// logged: the service manager then acts by its own time-out.
pub fn notify(state: State) {
    let Some(socket) = socket() else {
        return;
    };
    if let Err(error) = send(&socket, state.text(), None) {
        let (text, socket) = (state.text(), socket.to_string_lossy());
        warn!(
            code = "W0107",
            "cannot send {text} to NOTIFY_SOCKET {socket}: {error}"
        );
    }
}

/// How many descriptors the service manager keeps for the next process, as it says in `FDSTORE`
/// (systemd 254, or a line of the unit); 0 if there is none.
pub fn stores() -> usize {
    let said = env::var("FDSTORE").ok().filter(|_| socket().is_some());
    said.and_then(|most| most.parse().ok()).unwrap_or(0)
}

/// Have the service manager keep a duplicate of a descriptor under this name, in place of none: one
/// that it has already stays. It does not look what becomes of it.
pub fn store(name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
    send_to_manager(&text, Some(descriptor))
}

/// Have the service manager close what it keeps under this name.
pub fn unstore(name: &str) -> io::Result<()> {
    send_to_manager(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)
}

fn send_to_manager(text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    match socket() {
        Some(socket) => send(&socket, text, descriptor),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

/// `socket` is a path, or an abstract name after `@`.
fn send(socket: &OsStr, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            let rule = "must be a path, or a name that starts with @";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, rule));
        }
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.connect_addr(&address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(&sender, &text, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let len = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready.text(), None).unwrap();
        assert_eq!(received(&socket), "READY=1");

        let name = format!("weft-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let text = State::Stopping.text();
        send(format!("@{name}").as_ref(), text, None).unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_reads_late_gets_everything_and_one_that_never_reads_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let tell = |number: usize| send(path.as_os_str(), &number.to_string(), None);
        // More than wait for a socket at once.
        let refused = (0..1_000).find_map(|number| tell(number).err().map(|error| (number, error)));
        let (full, error) = refused.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let told = std::thread::scope(|scope| {
            let told = scope.spawn(|| (full..3 * full).try_for_each(tell));
            for number in 0..3 * full {
                assert_eq!(received(&socket), number.to_string());
            }
            told.join().unwrap()
        });
        told.unwrap();
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        for socket in ["/nowhere/notify", "@", "notify", "vsock:2:1234"] {
            let sent = send(socket.as_ref(), State::Ready.text(), None);
            assert!(sent.is_err(), "{socket}");
        }
    }
}
