//! Probes: how a tiny super-packet to each of some peers leaves the node.

use super::TunnelGsoGate;
use crate::offload::tunnel_gso::{self, Origin, Outer};
use crate::sys::egress::{Device, EgressWatch};
use crate::sys::event::StopEvent;
use crate::wire::ecn::Ecn;
use crate::wire::frame::FRAME_OVERHEAD;
use socket2::Socket;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a probe may take to leave. It mostly has when the write to the TAP returns.
const PROBE_TIME: Duration = Duration::from_millis(20);

/// How a probe fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    Segmented,
    Lost,
    /// It could not be tried, as while the TAP or the underlay device is away.
    Unknown,
}

/// One probe of a round.
pub(super) struct Probe {
    /// The peer's slot.
    pub(super) slot: usize,
    to: SocketAddrV4,
    frame: [u8; FRAME_OVERHEAD],
    pub(super) outcome: Outcome,
    /// It was sent and not yet seen.
    in_flight: bool,
}

impl Probe {
    /// Of the peer in `slot`, to which frames go at `to` and begin with `frame`.
    pub(super) fn new(slot: usize, to: SocketAddrV4, frame: [u8; FRAME_OVERHEAD]) -> Probe {
        Probe {
            slot,
            to,
            frame,
            outcome: Outcome::Unknown,
            in_flight: false,
        }
    }

    fn is_sent(&mut self) {
        (self.outcome, self.in_flight) = (Outcome::Lost, true);
    }

    fn packet(&self, origin: &Origin, port: u16) -> [u8; tunnel_gso::PROBE_LEN] {
        let outer = Outer {
            src_port: port,
            to: self.to,
            ecn: Ecn::NotEct,
            ident: 0,
        };
        tunnel_gso::probe(origin, &outer, &self.frame)
    }
}

/// Sends probes and sees them leave.
pub(super) struct Probing {
    /// None if the underlay device was away at the start: then nothing can be probed.
    pub(super) device: Option<Device>,
    socket: Socket,
    /// Source port of probes, which is nobody else's while the socket is open.
    port: u16,
    /// Ends the wait for what leaves.
    stop: Arc<StopEvent>,
}

impl Probing {
    /// With the source port of `socket`, past `device`, until `stop` is raised.
    pub(super) fn new(
        device: Option<Device>,
        socket: Socket,
        stop: Arc<StopEvent>,
    ) -> io::Result<Probing> {
        let port = socket.local_addr()?.as_socket().map_or(0, |a| a.port());
        Ok(Probing {
            device,
            socket,
            port,
            stop,
        })
    }

    /// Send `probes` through the TAP of `gate`, and see how each leaves. If what the TAP receives
    /// is `redirected` past the checks of forwarding, only those are sent whose frame, sent by a
    /// socket, leaves as it is.
    pub(super) fn send(
        &self,
        gate: &TunnelGsoGate,
        probes: &mut [Probe],
        redirected: bool,
    ) -> io::Result<()> {
        let Some(device) = &self.device else {
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        let watch = EgressWatch::new(device, self.port)?;
        for probe in probes.iter_mut() {
            (probe.outcome, probe.in_flight) = (Outcome::Unknown, false);
        }
        if redirected {
            self.send_frames(&watch, &gate.origin, probes)?;
        }
        let untried = |probe: &&mut Probe| probe.outcome == Outcome::Unknown;
        for probe in probes.iter_mut().filter(untried) {
            gate.tap.write(&probe.packet(&gate.origin, self.port))?;
            probe.is_sent();
        }
        self.await_seen(&watch, probes, |len| match len {
            tunnel_gso::PROBE_IP_LEN => Outcome::Whole,
            _ => Outcome::Segmented,
        })
    }

    /// Send the frame of each probe by the socket. What is redirected must not be what the checks
    /// would stop or change, as IPsec does: frames of sockets meet them, and must leave as they
    /// are. Those that do are still unknown.
    fn send_frames(
        &self,
        watch: &EgressWatch,
        origin: &Origin,
        probes: &mut [Probe],
    ) -> io::Result<()> {
        for probe in probes.iter_mut() {
            probe.is_sent();
            let packet = probe.packet(origin, self.port);
            let (frame, to) = (tunnel_gso::datagram(&packet), probe.to.into());
            let send = || {
                let flags = libc::MSG_DONTWAIT;
                self.socket.send_to_with_flags(frame, &to, flags)
            };
            // The first error may be about an earlier one, of which an ICMP message told.
            probe.in_flight = send().or_else(|_| send()).is_ok();
        }
        self.await_seen(watch, probes, |_| Outcome::Unknown)
    }

    /// Wait for the probes in flight. The length in bytes of the IP packet that is seen of one tells
    /// its outcome.
    fn await_seen(
        &self,
        watch: &EgressWatch,
        probes: &mut [Probe],
        outcome: fn(usize) -> Outcome,
    ) -> io::Result<()> {
        let deadline = Instant::now() + PROBE_TIME;
        while probes.iter().any(|probe| probe.in_flight) {
            let Some(seen) = watch.next(deadline, &self.stop)? else {
                break;
            };
            let mut probes = probes.iter_mut();
            // Of one that leaves in frames, the first tells.
            if let Some(probe) = probes.find(|probe| probe.in_flight && *probe.to.ip() == seen.to) {
                (probe.outcome, probe.in_flight) = (outcome(seen.len), false);
            }
        }
        for probe in probes {
            probe.in_flight = false;
        }
        Ok(())
    }
}
