//! The sockets.

use super::message::{self, Heard};
use crate::family::Family;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The longest packet that is heard.
const PACKET_MAX: usize = 65_535;

/// What the socket that hears asks for, in bytes; root gets it whatever the host's limit is.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why nobody can be asked. One line.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No raw socket.
    #[error("cannot send echo requests over {family}: {source}; they need root or CAP_NET_RAW")]
    Raw {
        /// The family.
        family: Family,
        /// What the kernel says.
        source: io::Error,
    },
    /// Nothing can be sent from there.
    #[error("cannot send from {from}: {source}")]
    From {
        /// The address.
        from: IpAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// What is heard cannot be read.
    #[error("cannot receive answers: {0}")]
    Receive(io::Error),
}

/// Who asks in one address family.
#[derive(Debug)]
pub struct Pinger {
    pub(super) family: Family,
    /// By which answers are known as ours.
    pub(super) id: u16,
    /// The number of the next request.
    next: u16,
    hears: Socket,
    /// By source address and whether requests may be fragmented.
    asks: BTreeMap<(Option<IpAddr>, bool), Socket>,
    /// Datagrams leave here.
    datagrams: BTreeMap<Option<IpAddr>, Socket>,
    buffer: Vec<u8>,
}

impl Pinger {
    /// One that has sent nothing yet.
    pub fn new(family: Family) -> Result<Pinger, ProbeError> {
        let failed = |source| ProbeError::Raw { family, source };
        let hears = raw(family).map_err(failed)?;
        // The host's limit serves as well, with fewer answers at a time.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&hears, RECEIVE_BUFFER);
        Ok(Pinger {
            family,
            id: rand::random(),
            next: 0,
            hears,
            asks: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            buffer: vec![0; PACKET_MAX],
        })
    }

    /// Have one of each family `ask` those of `all` that are of it, `at_a_time` of them and then the
    /// next; all that came of it.
    pub fn in_turns<P, T>(
        all: &[P],
        family_of: impl Fn(&P) -> Family,
        at_a_time: usize,
        mut ask: impl FnMut(&mut Pinger, &[&P]) -> Result<Vec<T>, ProbeError>,
    ) -> Result<Vec<T>, ProbeError> {
        let mut found = Vec::with_capacity(all.len());
        for family in Family::BOTH {
            let these: Vec<&P> = all.iter().filter(|one| family_of(one) == family).collect();
            if these.is_empty() {
                continue;
            }
            let mut pinger = Pinger::new(family)?;
            for some in these.chunks(at_a_time) {
                found.extend(ask(&mut pinger, some)?);
            }
        }
        Ok(found)
    }

    /// A number that no request of late has.
    pub(super) fn number(&mut self) -> u16 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Send an echo request of this number as an IP packet of `len` bytes. `Err` inside: the
    /// kernel does not let it out.
    pub(super) fn ask(
        &mut self,
        (from, to): (Option<IpAddr>, IpAddr),
        df: bool,
        seq: u16,
        len: usize,
    ) -> Result<io::Result<()>, ProbeError> {
        let message = message::echo(self.family, self.id, seq, len);
        self.send((from, to), df, &message)
    }

    /// Send a request for the time, likewise.
    pub(super) fn ask_time(
        &mut self,
        (from, to): (Option<IpAddr>, IpAddr),
        seq: u16,
        len: usize,
    ) -> Result<io::Result<()>, ProbeError> {
        let message = message::timestamp(self.id, seq, len);
        self.send((from, to), false, &message)
    }

    fn send(
        &mut self,
        (from, to): (Option<IpAddr>, IpAddr),
        df: bool,
        message: &[u8],
    ) -> Result<io::Result<()>, ProbeError> {
        let socket = match self.asks.entry((from, df)) {
            Entry::Occupied(socket) => socket.into_mut(),
            Entry::Vacant(place) => place.insert(asking(self.family, from, df)?),
        };
        let sent = socket.send_to(message, &SocketAddr::new(to, 0).into());
        Ok(sent.map(drop))
    }

    /// Send a datagram; the port that it has left from.
    pub(super) fn datagram(
        &mut self,
        (from, to): (Option<IpAddr>, SocketAddr),
        bytes: &[u8],
    ) -> Result<io::Result<u16>, ProbeError> {
        let socket = match self.datagrams.entry(from) {
            Entry::Occupied(socket) => socket.into_mut(),
            Entry::Vacant(place) => {
                place.insert(bound(Type::DGRAM, Protocol::UDP, self.family, from)?)
            }
        };
        let sent = socket.send_to(bytes, &to.into());
        let port = || socket.local_addr().map(|addr| addr.as_socket());
        Ok(sent
            .and_then(|_| port())
            .map(|addr| addr.map_or(0, |addr| addr.port())))
    }

    /// The next that is heard of anything of anybody's, until `limit`.
    pub(super) fn hear(&mut self, limit: Instant) -> Result<Option<(Heard, Instant)>, ProbeError> {
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            // Zero would be for ever.
            let wait = left.max(Duration::from_micros(1));
            self.hears
                .set_read_timeout(Some(wait))
                .map_err(ProbeError::Receive)?;
            let flags = match left.is_zero() {
                true => RecvFlags::DONTWAIT,
                false => RecvFlags::empty(),
            };
            let received = recvfrom(&self.hears, &mut self.buffer[..], flags);
            let (len, from) = match received.map_err(io::Error::from) {
                Ok((_, len, from)) => (len, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match left.is_zero() {
                    true => return Ok(None),
                    false => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ProbeError::Receive(error)),
            };
            let now = Instant::now();
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            let Some(from) = from.map(|from| from.ip()) else {
                continue;
            };
            let len = len.min(self.buffer.len());
            if let Some(heard) = message::hear(self.family, from, &self.buffer[..len]) {
                return Ok(Some((heard, now)));
            }
            // What others get would keep us here.
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

fn raw(family: Family) -> io::Result<Socket> {
    match family {
        Family::V4 => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
        Family::V6 => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
    }
}

/// A socket for requests, which hears next to nothing itself.
fn asking(family: Family, from: Option<IpAddr>, df: bool) -> Result<Socket, ProbeError> {
    let protocol = match family {
        Family::V4 => Protocol::ICMPV4,
        Family::V6 => Protocol::ICMPV6,
    };
    let socket = bound(Type::RAW, protocol, family, from)?;
    let failed = |source| ProbeError::Raw { family, source };
    socket.set_recv_buffer_size(1).map_err(failed)?;
    let discovery = match (family, df) {
        // What is known of the path does not count: this is to find it out.
        (Family::V4, true) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE),
        (Family::V4, false) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT),
        (Family::V6, true) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE),
        (Family::V6, false) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT),
    };
    discovery.map_err(|error| failed(error.into()))?;
    Ok(socket)
}

fn bound(
    kind: Type,
    protocol: Protocol,
    family: Family,
    from: Option<IpAddr>,
) -> Result<Socket, ProbeError> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, kind, Some(protocol));
    let socket = socket.map_err(|source| ProbeError::Raw { family, source })?;
    if let Some(from) = from {
        let bound = socket.bind(&SocketAddr::new(from, 0).into());
        bound.map_err(|source| ProbeError::From { from, source })?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    #[test]
    fn past_the_limit_what_others_get_ends_it() {
        netns::run(async |_| {
            netns::ip(&["link", "set", "lo", "up"]);
            let mut pinger = Pinger::new(Family::V4).unwrap();
            let to = IpAddr::from([127, 0, 0, 1]);
            pinger.ask((None, to), false, 7, 84).unwrap().unwrap();
            // On loopback the request is heard before its answer.
            let past = Instant::now();
            assert!(pinger.hear(past).unwrap().is_none());
            let soon = Instant::now() + Duration::from_secs(10);
            assert!(pinger.hear(soon).unwrap().is_some());
        });
    }
}
