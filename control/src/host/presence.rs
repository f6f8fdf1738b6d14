//! That an agent runs on this host: its name among the kernel's abstract sockets (unix(7)). Like
//! devices and rules it is one of the network namespace, and it is free when the process is gone.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What all names begin with.
const PREFIX: &str = "weft-agent ";

/// The longest name of an abstract socket in bytes (`sun_path`, less the zero before it).
const NAME_MAX: usize = 107;

/// What is left of a longer one: the end, less a hash and a space.
const KEPT: usize = NAME_MAX - PREFIX.len() - 17;

/// Held for as long as the agent runs.
#[derive(Debug)]
pub struct Presence {
    _socket: UnixDatagram,
}

impl Presence {
    /// Be the one agent called `name`; `None` if there is one already.
    pub fn claim(name: &str) -> io::Result<Option<Presence>> {
        let address = SocketAddr::from_abstract_name(socket_name(name))?;
        match UnixDatagram::bind_addr(&address) {
            Ok(_socket) => Ok(Some(Presence { _socket })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the agents on this host but the one called `own`, long ones cut.
    pub fn others(own: &str) -> Vec<String> {
        let sockets = fs::read("/proc/thread-self/net/unix").unwrap_or_default();
        let sockets = String::from_utf8_lossy(&sockets);
        let own = socket_name(own);
        let names = sockets.lines().filter_map(|line| {
            let at = line.find('@')?;
            let name = line[at + 1..].strip_prefix(PREFIX)?;
            (line[at + 1..] != own).then(|| name.to_owned())
        });
        names.collect()
    }
}

/// Whether `name`, one of [`Presence::others`], has `end` as its last word.
pub fn ends_in(name: &str, end: &str) -> bool {
    let end = format!(" {end}");
    name.ends_with(&end[end.ceil_char_boundary(end.len().saturating_sub(KEPT))..])
}

/// A name that is too long has a hash of all of it (FNV-1a) in the place of its beginning.
fn socket_name(name: &str) -> String {
    if PREFIX.len() + name.len() <= NAME_MAX {
        return format!("{PREFIX}{name}");
    }
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let end = name.ceil_char_boundary(name.len() - KEPT);
    format!("{PREFIX}{hash:016x} {}", &name[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use crate::release;

    #[test]
    fn one_at_a_time_has_a_name_and_others_are_seen() {
        netns::run(async |_| {
            let file = "/run/flannel/subnet.env";
            let long = "/x".repeat(150);
            for (network, file) in [
                ("/coreos.com/network", file),
                (long.as_str(), file),
                ("/coreos.com/network", &long),
            ] {
                let name = &format!("{network} {file}");
                let held = Presence::claim(name).unwrap();
                assert!(held.is_some());
                assert!(Presence::claim(name).unwrap().is_none());
                assert!(Presence::claim(&format!("{name}y")).unwrap().is_some());
                assert_eq!(Presence::others(name), [""; 0]);
                let others = Presence::others("me");
                assert_eq!(others.len(), 1);
                assert!(ends_in(&others[0], file), "{others:?}");
                for other in ["/other.env", "subnet.env", &format!("/x{file}")] {
                    assert!(
                        !ends_in(&others[0], other) || other.len() > 300,
                        "{others:?}"
                    );
                }
                drop(held);
                // A process that a test beside this one starts has all descriptors for a moment.
                let claim = async || Presence::claim(name).unwrap();
                let again = release::wait(release::GRACE, claim, Option::is_some);
                assert!(again.await.is_some());
            }
        });
    }
}
