//! Asking the kernel for the MTU of a path.
//!
//! The kernel keeps what routers report for every destination (RFC 1191, RFC 8201), believes
//! it for ten minutes, and holds every send against it. So the refusal of a send says that
//! there is something to learn; while it is of use the kernel is asked again every few seconds,
//! as nothing is refused when a path has become better. Nobody has to read the error queue of a
//! socket.
#![allow(unsafe_code)]

use super::clock::Clock;
use super::udp::{self, SocketError};
use crate::mtu::limits::outer_headers;
use crate::mtu::paths::PathMtus;
use crate::stats::{Count, WorkerStats};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Asks for the MTUs of routes. It sends nothing: connected to a peer, a socket knows the route and
/// so the MTU to it.
pub struct RouteProbe(Socket);

/// Asks for the MTUs of paths, for one worker.
pub struct PathProbe {
    routes: RouteProbe,
    paths: Arc<PathMtus>,
    clock: Clock,
}

impl PathProbe {
    /// A probe of the paths from `source`, which tells `paths` the time by `clock`.
    pub fn new(
        source: SocketAddr,
        paths: Arc<PathMtus>,
        clock: Clock,
    ) -> Result<PathProbe, SocketError> {
        Ok(PathProbe {
            routes: RouteProbe::new(source)?,
            paths,
            clock,
        })
    }

    /// Ask the kernel whether what was learned of the path to `to` still holds: the MTU from
    /// now on, and none if a frame of `longest` bytes fits. Where the kernel cannot say,
    /// as without a route, `known` stands until its time is over.
    pub(crate) fn ask_again(&mut self, to: SocketAddr, longest: usize, known: u16) -> Option<u16> {
        let now = self.clock.now_ms();
        let Ok(mtu) = self.routes.ask(to) else {
            return Some(known);
        };
        if longest + outer_headers(to.ip()) <= usize::from(mtu) {
            self.paths.forget(to.ip(), now);
            return None;
        }
        self.paths.learn(to.ip(), mtu, now);
        self.paths.get(to.ip(), now)
    }

    /// Whether a frame of `frame_len` bytes exceeds the MTU of the path to `to`. What is not
    /// known is asked for and learned.
    pub(crate) fn is_too_long(
        &mut self,
        to: SocketAddr,
        frame_len: usize,
        stats: &WorkerStats,
    ) -> bool {
        let now = self.clock.now_ms();
        let packet = frame_len + outer_headers(to.ip());
        let exceeds = |mtu: u16| packet > usize::from(mtu);
        if self.paths.get(to.ip(), now).is_some_and(exceeds) {
            return true;
        }
        // Where the kernel cannot say, as without a route, nothing is learned.
        let Some(mtu) = self.routes.ask(to).ok().filter(|&mtu| exceeds(mtu)) else {
            return false;
        };
        self.paths.learn(to.ip(), mtu, now);
        stats.add(Count::PathMtusLearned, 1);
        true
    }
}

impl RouteProbe {
    /// A probe of the routes from `source`.
    pub fn new(source: SocketAddr) -> Result<RouteProbe, SocketError> {
        Ok(RouteProbe(udp::probe(source)?))
    }

    /// The MTU of the path to `to` as the kernel knows it.
    pub fn ask(&self, to: SocketAddr) -> io::Result<u16> {
        self.0.connect(&to.into())?;
        let (level, option) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let mut mtu: libc::c_int = 0;
        let mut len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes, one int, to `mtu`.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                (&raw mut mtu).cast(),
                &mut len,
            )
        };
        match result {
            0 => Ok(u16::try_from(mtu).unwrap_or(u16::MAX)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A probe on loopback that nobody else learns from.
    pub(in crate::sys) fn probe() -> PathProbe {
        PathProbe::new((LOOPBACK, 0).into(), Arc::default(), Clock::start()).unwrap()
    }

    #[test]
    fn the_kernel_knows_the_mtu_of_loopback() {
        // 65,536 by default, which is more than a datagram can use.
        assert_eq!(probe().routes.ask((LOOPBACK, 9).into()).unwrap(), 65_535);
    }

    #[test]
    fn nothing_is_learned_from_a_frame_that_fits_or_a_peer_without_a_route() {
        let mut probe = probe();
        let stats = WorkerStats::default();
        assert!(!probe.is_too_long((LOOPBACK, 9).into(), 60_000, &stats));
        // Bound to loopback, it can have no route to there.
        assert!(!probe.is_too_long(([240, 0, 0, 1], 9).into(), 60_000, &stats));
        assert!(probe.paths.is_empty());
        assert_eq!(stats.get(Count::PathMtusLearned), 0);
    }

    #[test]
    fn what_no_longer_holds_is_forgotten_and_the_rest_confirmed() {
        let mut probe = probe();
        let to = (LOOPBACK, 9).into();
        probe.paths.learn(LOOPBACK, 1400, 0);
        // Loopback does not carry this in one packet, but more than was learned.
        assert_eq!(probe.ask_again(to, 65_508, 1400), Some(65_535));
        assert_eq!(probe.paths.get(LOOPBACK, 0), Some(65_535));
        assert_eq!(probe.ask_again(to, 65_507, 65_535), None);
        assert_eq!(probe.paths.get(LOOPBACK, 0), None);
        // Without an answer what was known stands.
        let nowhere = ([240, 0, 0, 1], 9).into();
        assert_eq!(probe.ask_again(nowhere, 100, 1400), Some(1400));
    }

    #[test]
    fn what_is_too_long_is_learned_once() {
        let mut probe = probe();
        let stats = WorkerStats::default();
        for _ in 0..2 {
            assert!(probe.is_too_long((LOOPBACK, 9).into(), 65_508, &stats));
        }
        assert_eq!(probe.paths.get(LOOPBACK, 0), Some(65_535));
        assert_eq!(stats.get(Count::PathMtusLearned), 1);
    }
}
