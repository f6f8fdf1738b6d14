//! Whether super-packets may leave whole through the TAP, and the thread that finds out.
//!
//! The way through the TAP leads through routing and firewall of this node, where much can
//! stand against it (a FORWARD policy, `rp_filter` of `all`), now or later. So it is tried
//! before it is used, and again every second in which super-packets flow: a probe is written
//! to the TAP and must be seen leaving the underlay device. How it leaves also tells whether
//! the way pays: in one piece where the device segments, or can pass on, VXLAN by itself;
//! in frames where the kernel must cut it in software, which costs more than sending
//! trains through a socket (see docs/performance.md).
//!
//! No send through the TAP is ever refused for its length: the kernel fragments what is too
//! long for the path. So its MTU is asked for here, for [`Oversize`](super::oversize) to cut
//! by.

use super::Config;
use super::threads::{Common, Threads};
use crate::offload::tunnel::{self, Outer, Via};
use crate::route::publish::{Publisher, Reader};
use crate::route::table::Table;
use crate::stats::WorkerStats;
use crate::sys::egress::{Device, EgressWatch};
use crate::sys::engine::{EngineError, failed};
use crate::sys::event::StopEvent;
use crate::sys::path::PathProbe;
use crate::sys::tap::Tap;
use crate::sys::udp;
use crate::wire::frame::{FRAME_OVERHEAD, FrameHeader};
use socket2::Socket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

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

/// What is known of the way through the TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TunnelState {
    /// Switched off, or the underlay is IPv6.
    Off,
    /// The kernel has no such TAP, refuses what is written to it, or lets nobody watch; or there
    /// was no underlay device at the start.
    Refused,
    /// No super-packet has come yet, or no answer.
    Untried,
    /// In use.
    InUse,
    /// Probes get out, but in frames: trains are better.
    Segmented,
    /// The last probe did not get out.
    Lost,
    /// Several probes in a row did not get out; seldom tried from then on.
    GivenUp,
}

impl TunnelState {
    const ALL: [TunnelState; 7] = [
        TunnelState::Off,
        TunnelState::Refused,
        TunnelState::Untried,
        TunnelState::InUse,
        TunnelState::Segmented,
        TunnelState::Lost,
        TunnelState::GivenUp,
    ];

    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            TunnelState::Off => "off",
            TunnelState::Refused => "refused",
            TunnelState::Untried => "untried",
            TunnelState::InUse => "in_use",
            TunnelState::Segmented => "segmented",
            TunnelState::Lost => "lost",
            TunnelState::GivenUp => "given_up",
        }
    }
}

/// Probes lost in a row after which the way is given up.
const LOST_MAX: u32 = 3;

/// How often the way is tried while super-packets flow.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The same once it is given up: a firewall may be mended.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// How soon after the first super-packet the way is tried.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a probe may take to leave. It mostly has when the write to the TAP returns.
const PROBE_TIME: Duration = Duration::from_millis(20);

/// Peers that can be noted between two tries. A further one may have to wait for the next.
const PLACES: usize = 64;

/// The peers that super-packets were for since the last try.
struct Wanted([AtomicU32; PLACES]);

impl Wanted {
    fn note(&self, peer: Ipv4Addr) {
        // Neighbours, and those with a subnet each, must not share a place.
        let mixed = peer.to_bits().wrapping_mul(0x9e37_79b1);
        let place = &self.0[(mixed >> 26) as usize % PLACES];
        if place.load(Ordering::Relaxed) == 0 {
            place.store(peer.to_bits(), Ordering::Relaxed);
        }
    }

    fn take(&self) -> impl Iterator<Item = Ipv4Addr> {
        let places = self.0.iter();
        let peers = places.filter(|place| place.load(Ordering::Relaxed) != 0);
        peers.map(|place| Ipv4Addr::from_bits(place.swap(0, Ordering::Relaxed)))
    }
}

/// What the encap workers and the prober share.
pub struct TunnelWay {
    state: AtomicU8,
    wanted: Wanted,
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
            state: AtomicU8::new(TunnelState::Untried as u8),
            wanted: Wanted([const { AtomicU32::new(0) }; PLACES]),
            via: Via {
                mac: tap.mac(),
                local,
            },
            tap: Arc::new(tap),
            ports: ports.map_err(failed("getsockname"))?,
        })
    }

    /// What is known of it.
    pub fn state(&self) -> TunnelState {
        if self.tap.is_refused() {
            return TunnelState::Refused;
        }
        let state = usize::from(self.state.load(Ordering::Relaxed));
        TunnelState::ALL
            .get(state)
            .copied()
            .unwrap_or(TunnelState::Off)
    }

    /// Whether a super-packet to `to` may take this way now. Asking is noted: only then is
    /// the way tried.
    pub(super) fn is_open(&self, to: Ipv4Addr) -> bool {
        self.wanted.note(to);
        self.state.load(Ordering::Relaxed) == TunnelState::InUse as u8 && !self.tap.is_refused()
    }

    pub(super) fn via(&self) -> &Via {
        &self.via
    }

    pub(super) fn tap(&self) -> Arc<Tap> {
        self.tap.clone()
    }

    /// The source port of a bucket.
    pub(super) fn port(&self, bucket: u8) -> u16 {
        let ports = &self.ports;
        ports[usize::from(bucket) % ports.len().max(1)]
    }

    fn set(&self, state: TunnelState) {
        self.state.store(state as u8, Ordering::Relaxed);
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
        let socket = udp::senders(source, 1, false)
            .map_err(|e| failed("probe socket")(io::Error::other(e)))?;
        let port = socket[0].local_addr().map_err(failed("getsockname"))?;
        let port = port.as_socket().map_or(0, |a| a.port());
        let mut prober = Prober {
            way,
            wanted,
            device: Device::of_index(underlay).ok(),
            port,
            _socket: socket,
            paths,
            longest,
        };
        Ok(move |common: Common| {
            let reader = common.subscription.into_reader();
            prober.run(reader, &common.stop, &common.stats);
            Ok(())
        })
    })
}

/// How a probe fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Segmented,
    Lost,
    /// There is no device to leave by at the moment.
    NoDevice,
}

/// The state after a probe, and how many were lost in a row.
fn judge(outcome: Outcome, wanted: TunnelGso, lost: u32) -> (TunnelState, u32) {
    match outcome {
        Outcome::Whole => (TunnelState::InUse, 0),
        Outcome::Segmented if wanted == TunnelGso::On => (TunnelState::InUse, 0),
        Outcome::Segmented => (TunnelState::Segmented, 0),
        Outcome::Lost if lost + 1 >= LOST_MAX => (TunnelState::GivenUp, lost + 1),
        Outcome::Lost => (TunnelState::Lost, lost + 1),
        Outcome::NoDevice => (TunnelState::Untried, lost),
    }
}

struct Prober {
    way: Arc<TunnelWay>,
    wanted: TunnelGso,
    /// None if it was away at the start: then the way stays closed.
    device: Option<Device>,
    /// Source port of probes, which is nobody else's while the socket is open.
    port: u16,
    _socket: Vec<Socket>,
    paths: PathProbe,
    /// Length in bytes of the frame of a packet that fills the overlay's MTU.
    longest: usize,
}

impl Prober {
    fn run(&mut self, mut reader: Reader, stop: &StopEvent, stats: &WorkerStats) {
        let mut lost = 0;
        let mut next = Instant::now();
        while !reader.wait(|| stop.wait(LOOK_EVERY)) {
            if Instant::now() < next {
                continue;
            }
            let Some(outcome) = self.look(reader.table(), stats) else {
                continue;
            };
            let (state, lost_now) = match outcome {
                Ok(outcome) => judge(outcome, self.wanted, lost),
                Err(_) => (TunnelState::Refused, lost),
            };
            lost = lost_now;
            self.way.set(state);
            next = match state {
                TunnelState::Refused => break,
                TunnelState::GivenUp => Instant::now() + TRY_AGAIN_EVERY,
                _ => Instant::now() + TRY_EVERY,
            };
        }
        // A thread that ends counts as failed, so it waits for the end like all others.
        while !reader.wait(|| stop.wait(Duration::MAX)) {}
    }

    /// Try the way to one of the peers that super-packets were for, and ask for the MTU of the
    /// path to each of them. `None` if there are none.
    fn look(&mut self, table: &Table, stats: &WorkerStats) -> Option<io::Result<Outcome>> {
        let way = self.way.clone();
        let peers = way.wanted.take().filter_map(|to| {
            let peer = table.peer(table.peer_by_addr(to.into())?);
            match (peer.addr, &peer.header_v4) {
                (SocketAddr::V4(addr), FrameHeader::Vxlan(frame)) => Some((addr, frame)),
                _ => None,
            }
        });
        let mut outcome = None;
        for (addr, frame) in peers {
            outcome.get_or_insert_with(|| self.probe(addr, frame));
            self.paths.is_too_long(addr.into(), self.longest, stats);
        }
        outcome
    }

    /// Send a probe to a peer and see how it leaves.
    fn probe(&self, to: SocketAddrV4, frame: &[u8; FRAME_OVERHEAD]) -> io::Result<Outcome> {
        let Some(device) = &self.device else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let watch = match EgressWatch::new(device, self.port) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                return Ok(Outcome::NoDevice);
            }
            watch => watch?,
        };
        let outer = Outer {
            src_port: self.port,
            to,
            ecn: 0,
            ident: 0,
        };
        let packet = tunnel::probe(&self.way.via, &outer, frame);
        self.way.tap.write(&packet)?;
        let deadline = Instant::now() + PROBE_TIME;
        loop {
            match watch.next() {
                Some(tunnel::PROBE_IP_LEN) => return Ok(Outcome::Whole),
                Some(_) => return Ok(Outcome::Segmented),
                None if Instant::now() > deadline => return Ok(Outcome::Lost),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_leaves_whole_opens_the_way_and_one_in_frames_only_on_demand() {
        use TunnelGso::{Auto, On};
        assert_eq!(judge(Outcome::Whole, Auto, 2), (TunnelState::InUse, 0));
        assert_eq!(
            judge(Outcome::Segmented, Auto, 1),
            (TunnelState::Segmented, 0)
        );
        assert_eq!(judge(Outcome::Segmented, On, 1), (TunnelState::InUse, 0));
    }

    #[test]
    fn a_lost_probe_closes_the_way_at_once_and_several_for_long() {
        let mut lost = 0;
        let states = [(); 3].map(|()| {
            let (state, now) = judge(Outcome::Lost, TunnelGso::Auto, lost);
            lost = now;
            state
        });
        let closed = TunnelState::Lost;
        assert_eq!(states, [closed, closed, TunnelState::GivenUp]);
        let whole = judge(Outcome::Whole, TunnelGso::Auto, lost);
        assert_eq!(whole, (TunnelState::InUse, 0), "it is tried again");
    }

    #[test]
    fn a_device_that_is_away_says_nothing_of_the_way() {
        let away = judge(Outcome::NoDevice, TunnelGso::Auto, LOST_MAX - 1);
        assert_eq!(away, (TunnelState::Untried, LOST_MAX - 1));
    }

    #[test]
    fn all_peers_are_noted_once() {
        let wanted = Wanted([const { AtomicU32::new(0) }; PLACES]);
        let mut peers: Vec<Ipv4Addr> = (1..=30).map(|n| [10, 0, 0, n].into()).collect();
        for peer in peers.iter().chain(&peers) {
            wanted.note(*peer);
        }
        let mut taken: Vec<Ipv4Addr> = wanted.take().collect();
        taken.sort();
        peers.sort();
        assert_eq!(taken, peers);
        assert_eq!(wanted.take().count(), 0);
    }

    #[test]
    fn states_are_in_the_order_of_their_numbers() {
        for (i, state) in TunnelState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, i);
        }
    }
}
