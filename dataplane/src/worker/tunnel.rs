//! Whether super-packets may leave whole through the TAP, and the thread that finds out.
//!
//! The way through the TAP leads through routing and firewall of this node, where much can
//! stand against it, now or later, and for one peer alone: a FORWARD chain, `rp_filter` of
//! `all`, a route. So it is tried for each peer before it is used, and again every second in
//! which super-packets flow to that peer: a probe is written to the TAP and must be seen
//! leaving the underlay device. How it leaves also tells whether the way pays: in one piece
//! where the device segments, or can pass on, VXLAN by itself; in frames where the kernel must
//! cut it in software, which costs more than sending trains through a socket (see
//! docs/performance.md).
//!
//! Where `rp_filter` is strict, the prober lets what the TAP receives go around it
//! ([`crate::sys::redirect`]), and so around IPsec and the firewall, too. Then a probe is sent
//! only when the same frame, sent by a socket, was just seen to leave as it is; and what is known
//! of a peer is believed for one round.
//!
//! No send through the TAP is ever refused for its length: the kernel fragments what is too
//! long for the path. So its MTU is asked for by the prober, for
//! [`Oversize`](super::oversize) to cut by.

mod detour;
mod peers;
mod prober;

pub use detour::Detour;
pub use peers::PeerState;

use self::detour::DetourCell;
use self::peers::Peers;
use self::prober::{Memory, Prober};
use super::Config;
use super::threads::{Common, Threads};
use crate::offload::tunnel::Via;
use crate::publish::Publisher;
use crate::sys::egress::Device;
use crate::sys::engine::{EngineError, failed};
use crate::sys::event::WakeEvent;
use crate::sys::path::PathProbe;
use crate::sys::tap::Tap;
use crate::sys::udp;
use crate::wire::frame::FRAME_OVERHEAD;
use socket2::Socket;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// When super-packets leave whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelGso {
    /// Where the underlay device takes them whole.
    #[default]
    Auto,
    /// Wherever they get out, even if the kernel must cut them in software.
    On,
    /// Never.
    Off,
}

/// What is known of the way through the TAP as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelState {
    /// Switched off, or the underlay is IPv6.
    Off,
    /// The kernel has no such TAP, refuses what is written to it, or lets nobody watch; or there
    /// was no underlay device at the start.
    Refused,
    /// There has been no super-packet of late, or no probe has told yet.
    Untried,
    /// In use for one peer at least.
    InUse,
    /// Probes get out, but in frames: trains are better.
    Segmented,
    /// Probes do not get out, to whomever there are super-packets for.
    Blocked,
}

impl TunnelState {
    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            TunnelState::Off => "off",
            TunnelState::Refused => "refused",
            TunnelState::Untried => "untried",
            TunnelState::InUse => "in_use",
            TunnelState::Segmented => "segmented",
            TunnelState::Blocked => "blocked",
        }
    }

    fn of(peers: impl Iterator<Item = PeerState>) -> TunnelState {
        let (mut segmented, mut blocked) = (false, false);
        for peer in peers {
            match peer {
                PeerState::Open => return TunnelState::InUse,
                PeerState::Segmented => segmented = true,
                PeerState::Blocked => blocked = true,
                PeerState::Untried => {}
            }
        }
        match (blocked, segmented) {
            (_, true) => TunnelState::Segmented,
            (true, false) => TunnelState::Blocked,
            (false, false) => TunnelState::Untried,
        }
    }
}

/// What the encap workers and the prober share.
pub struct TunnelWay {
    peers: Peers,
    /// Wakes the prober.
    wake: WakeEvent,
    /// Nobody may watch what leaves, so that nothing can be tried.
    unwatched: AtomicBool,
    /// The way around a strict `rp_filter`.
    detour: DetourCell,
    via: Via,
    tap: Arc<Tap>,
    /// Source port of each send bucket: that of its socket, so that a flow keeps its port
    /// whichever way its packets take.
    ports: Box<[u16]>,
}

impl TunnelWay {
    /// Create the TAP `name` for packets from `local`, with the ports of `senders`.
    pub(super) fn new(
        name: &str,
        local: Ipv4Addr,
        senders: &[Socket],
    ) -> Result<TunnelWay, EngineError> {
        let tap = Tap::open(name).map_err(EngineError::Tap)?;
        let port = |socket: &Socket| -> io::Result<u16> {
            Ok(socket.local_addr()?.as_socket().map_or(0, |a| a.port()))
        };
        let ports = senders.iter().map(port).collect::<io::Result<_>>();
        Ok(TunnelWay {
            peers: Peers::new(),
            wake: WakeEvent::new().map_err(failed("eventfd"))?,
            unwatched: AtomicBool::new(false),
            detour: DetourCell::default(),
            via: Via {
                mac: tap.mac(),
                local,
            },
            tap: Arc::new(tap),
            ports: ports.map_err(failed("getsockname"))?,
        })
    }

    /// What is known of it as a whole.
    pub fn state(&self) -> TunnelState {
        if self.is_refused() {
            return TunnelState::Refused;
        }
        TunnelState::of(self.peers().map(|(_, state)| state))
    }

    /// The peers that super-packets were for of late, and what is known of each.
    pub fn peers(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.peers.iter()
    }

    /// What is known of the way around a strict `rp_filter`.
    pub fn detour(&self) -> Detour {
        self.detour.get()
    }

    /// Whether a super-packet to `to` may take this way now. Asking is noted: only then is
    /// the way tried.
    pub(super) fn is_open(&self, to: Ipv4Addr) -> bool {
        if self.is_refused() {
            return false;
        }
        let (open, first) = self.peers.ask(to);
        if first {
            self.wake.raise();
        }
        open && !self.tap.is_down()
    }

    fn is_refused(&self) -> bool {
        self.tap.is_refused() || self.unwatched.load(Ordering::Relaxed)
    }

    /// Note why probes could not be sent or watched. What passes is tried again.
    fn note_error(&self, error: &io::Error) {
        let lasting = match error.raw_os_error() {
            None => error.kind() == io::ErrorKind::PermissionDenied,
            Some(errno) => matches!(errno, libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT),
        };
        if lasting {
            self.unwatched.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn via(&self) -> &Via {
        &self.via
    }

    /// Name of the TAP.
    pub(super) fn device(&self) -> &str {
        self.tap.name()
    }

    pub(super) fn tap(&self) -> Arc<Tap> {
        self.tap.clone()
    }

    /// The source port of a bucket.
    pub(super) fn port(&self, bucket: u8) -> u16 {
        let ports = &self.ports;
        ports[usize::from(bucket) % ports.len().max(1)]
    }
}

/// Start the thread that tries `way` as `config` wants it, and asks `paths` for MTUs.
pub(super) fn start(
    threads: &mut Threads,
    publisher: &Publisher,
    way: Arc<TunnelWay>,
    config: &Config,
    paths: PathProbe,
) -> io::Result<()> {
    let (wanted, underlay) = (config.tunnel_gso, config.underlay);
    let longest = FRAME_OVERHEAD + config.mtu;
    threads.spawn("weft-prober".to_owned(), publisher, move |_| {
        let source = (way.via.local, 0).into();
        let socket =
            udp::sender(source, false).map_err(|e| failed("probe socket")(io::Error::other(e)))?;
        let port = socket.local_addr().map_err(failed("getsockname"))?;
        let port = port.as_socket().map_or(0, |a| a.port());
        let mut prober = Prober {
            way,
            wanted,
            device: Device::of_index(underlay).ok(),
            port,
            socket,
            paths,
            longest,
            memory: Memory::new(),
            redirect: None,
        };
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            prober.run(reader, &common.stop, &common.stats);
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_in_use_as_long_as_it_is_for_one_peer() {
        use PeerState::{Blocked, Open, Segmented, Untried};
        let cases: [(&[PeerState], TunnelState); 5] = [
            (&[], TunnelState::Untried),
            (&[Untried], TunnelState::Untried),
            (&[Blocked, Untried, Open], TunnelState::InUse),
            (&[Blocked, Segmented], TunnelState::Segmented),
            (&[Untried, Blocked], TunnelState::Blocked),
        ];
        for (peers, state) in cases {
            assert_eq!(TunnelState::of(peers.iter().copied()), state, "{peers:?}");
        }
    }
}
