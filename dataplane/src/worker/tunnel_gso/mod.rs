//! Tunnel GSO: whether super-packets may leave uncut through the TAP, and the thread that finds
//! out.
//!
//! What is written to the TAP meets routing and firewall of this node, where much can stop it,
//! now or later, and for one peer alone: a FORWARD chain, `rp_filter` of `all`, a route. So
//! tunnel GSO is probed for each peer before it is used, and again every second in which
//! super-packets flow to that peer: a probe is written to the TAP and must be seen leaving the
//! underlay device. How it leaves also tells whether tunnel GSO pays: in one piece where the
//! device segments, or can pass on, VXLAN by itself; in frames where the kernel must cut it in
//! software, which costs more than sending trains through a socket (see docs/performance.md).
//!
//! Where `rp_filter` is strict, the prober has what the TAP receives redirected past it
//! ([`crate::sys::redirect`]), and so past IPsec and the firewall, too. Then a probe is sent
//! only when the same frame, sent by a socket, was just seen to leave as it is; and what is known
//! of a peer is believed for one round.
//!
//! No send through the TAP is ever refused for its length: the kernel fragments what is too
//! long for the path. So its MTU is asked for by the prober, for
//! [`PathLimits`](super::path_limits::PathLimits) to cut by.

mod peers;
mod probe;
mod prober;
mod redirect;

pub use peers::PeerState;
pub use redirect::RedirectState;

use self::peers::TunnelGsoPeers;
use self::probe::Probing;
use self::prober::Prober;
use self::redirect::RedirectCell;
use super::threads::{Common, Threads};
use crate::offload::tunnel_gso::Origin;
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

/// When tunnel GSO is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelGso {
    /// Where the underlay device takes super-packets.
    #[default]
    Auto,
    /// Wherever super-packets get out, even if the kernel must cut them in software.
    On,
    /// Never.
    Off,
}

/// What is known of tunnel GSO as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelGsoState {
    /// There is no TAP, and none was wanted.
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

impl TunnelGsoState {
    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            TunnelGsoState::Off => "off",
            TunnelGsoState::Refused => "refused",
            TunnelGsoState::Untried => "untried",
            TunnelGsoState::InUse => "in_use",
            TunnelGsoState::Segmented => "segmented",
            TunnelGsoState::Blocked => "blocked",
        }
    }

    fn of(peers: impl Iterator<Item = PeerState>) -> TunnelGsoState {
        let (mut segmented, mut blocked) = (false, false);
        for peer in peers {
            match peer {
                PeerState::Open => return TunnelGsoState::InUse,
                PeerState::Segmented => segmented = true,
                PeerState::Blocked => blocked = true,
                PeerState::Untried => {}
            }
        }
        match (blocked, segmented) {
            (_, true) => TunnelGsoState::Segmented,
            (true, false) => TunnelGsoState::Blocked,
            (false, false) => TunnelGsoState::Untried,
        }
    }
}

/// The TAP, and to whom it is open: what the encap workers and the prober share.
pub struct TunnelGsoGate {
    peers: TunnelGsoPeers,
    /// Wakes the prober.
    wake: WakeEvent,
    /// Nobody may watch what leaves, so that nothing can be tried.
    unwatched: AtomicBool,
    /// Whether what the TAP receives is redirected.
    redirect: RedirectCell,
    origin: Origin,
    tap: Arc<Tap>,
    /// Source port of each send bucket: that of its socket, so that a flow keeps its port
    /// whether its packets leave by tunnel GSO or not.
    ports: Box<[u16]>,
}

impl TunnelGsoGate {
    /// Through `tap` for packets from `local`, with the ports of `senders`; open to nobody yet.
    pub(super) fn new(
        tap: Arc<Tap>,
        local: Ipv4Addr,
        senders: &[Socket],
    ) -> Result<TunnelGsoGate, EngineError> {
        let port = |socket: &Socket| -> io::Result<u16> {
            Ok(socket.local_addr()?.as_socket().map_or(0, |a| a.port()))
        };
        let ports = senders.iter().map(port).collect::<io::Result<_>>();
        Ok(TunnelGsoGate {
            peers: TunnelGsoPeers::new(),
            wake: WakeEvent::new().map_err(failed("eventfd"))?,
            unwatched: AtomicBool::new(false),
            redirect: RedirectCell::default(),
            origin: Origin {
                mac: tap.mac(),
                local,
            },
            tap,
            ports: ports.map_err(failed("getsockname"))?,
        })
    }

    /// What is known of it as a whole.
    pub fn state(&self) -> TunnelGsoState {
        if self.is_refused() {
            return TunnelGsoState::Refused;
        }
        TunnelGsoState::of(self.peers().map(|(_, state)| state))
    }

    /// The peers that super-packets were for of late, and what is known of each.
    pub fn peers(&self) -> impl Iterator<Item = (Ipv4Addr, PeerState)> {
        self.peers.iter()
    }

    /// Whether what the TAP receives is redirected past a strict `rp_filter`.
    pub fn redirect(&self) -> RedirectState {
        self.redirect.get()
    }

    /// Whether a super-packet to `to` may leave through the TAP now. Asking is noted: only then
    /// is the peer probed.
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

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
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

/// Start the prober of `gate` over the device of index `underlay`. It asks `paths` for the MTUs that
/// packets of a TUN of this `mtu`, in bytes, need.
pub(super) fn start(
    threads: &mut Threads,
    publisher: &Publisher,
    gate: Arc<TunnelGsoGate>,
    wanted: TunnelGso,
    (underlay, mtu): (u32, usize),
    paths: PathProbe,
) -> io::Result<()> {
    let longest = FRAME_OVERHEAD + mtu;
    threads.spawn(None, "weft-prober".to_owned(), publisher, move |common| {
        let source = (gate.origin.local, 0).into();
        let socket =
            udp::sender(source, false).map_err(|e| failed("probe socket")(io::Error::other(e)))?;
        let device = Device::of_index(underlay).ok();
        let probing = Probing::new(device, socket, common.stop.clone());
        let probing = probing.map_err(failed("getsockname"))?;
        let mut prober = Prober::new(gate, wanted, probing, paths, longest);
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
    fn it_is_in_use_as_long_as_it_is_open_to_one_peer() {
        use PeerState::{Blocked, Open, Segmented, Untried};
        let cases: [(&[PeerState], TunnelGsoState); 5] = [
            (&[], TunnelGsoState::Untried),
            (&[Untried], TunnelGsoState::Untried),
            (&[Blocked, Untried, Open], TunnelGsoState::InUse),
            (&[Blocked, Segmented], TunnelGsoState::Segmented),
            (&[Untried, Blocked], TunnelGsoState::Blocked),
        ];
        for (peers, state) in cases {
            assert_eq!(
                TunnelGsoState::of(peers.iter().copied()),
                state,
                "{peers:?}"
            );
        }
    }
}
