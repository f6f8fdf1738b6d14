//! Telling the service manager how far the agent is (sd_notify(3)).
//!
//! The crate `sd-notify` does not know abstract socket names, which containers are given.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use tracing::warn;

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
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        let (text, socket) = (state.text(), socket.to_string_lossy());
        warn!("cannot send {text} to NOTIFY_SOCKET {socket}: {error}");
    }
}

/// `socket` is a path, or an abstract name after `@`.
fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            let rule = "must be a path, or a name that starts with @";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, rule));
        }
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the agent up.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.text().as_bytes(), &address)?;
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
        send(path.as_os_str(), State::Ready).unwrap();
        assert_eq!(received(&socket), "READY=1");

        let name = format!("weft-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_ref(), State::Stopping).unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        for socket in ["/nowhere/notify", "@", "notify", "vsock:2:1234"] {
            let sent = send(socket.as_ref(), State::Ready);
            assert!(sent.is_err(), "{socket}");
        }
    }
}
