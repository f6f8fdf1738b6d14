//! What the kernel has granted, for the workers of all devices.
//!
//! A capability is asked for once, by use. Where the kernel takes it back while packets flow, the
//! worker that meets the refusal notes it here, with an atomic and nothing else, and all workers
//! go by it. Control looks now and then, and tells.

pub mod trains;

use crate::offload::coalesce::MergeRefusals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use trains::Trains;

/// How far the kernel lets a capability be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// Nobody wants it.
    #[default]
    Off,
    /// It is in use.
    On,
    /// It is in use but for what the kernel refused: for some peers, or for packets of a kind.
    Limited,
    /// The kernel does not have it, or took it back.
    Refused,
}

impl Grant {
    /// One word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Grant::Off => "off",
            Grant::On => "on",
            Grant::Limited => "limited",
            Grant::Refused => "refused",
        }
    }

    /// Whether less is granted than was asked for.
    pub fn is_fallen(self) -> bool {
        matches!(self, Grant::Limited | Grant::Refused)
    }
}

const OFF: u8 = 0;
const ON: u8 = 1;
const REFUSED: u8 = 2;

/// A capability that is granted as a whole or not at all. It can be refused once, for good.
#[derive(Debug, Default)]
pub struct Capability(AtomicU8);

impl Capability {
    /// Ask for it by `attempt`, whose failure is the kernel's refusal. What was refused before is
    /// not tried again. Tells whether it is granted.
    pub fn ask<E>(&self, attempt: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        if self.0.load(Ordering::Relaxed) == REFUSED {
            return Ok(false);
        }
        match attempt() {
            Ok(()) => {
                // Not if another thread was refused meanwhile.
                let _ = self
                    .0
                    .compare_exchange(OFF, ON, Ordering::Relaxed, Ordering::Relaxed);
                Ok(true)
            }
            Err(refusal) => {
                self.refuse();
                Err(refusal)
            }
        }
    }

    /// Note that the kernel refused it; whether that is new.
    pub fn refuse(&self) -> bool {
        self.0.swap(REFUSED, Ordering::Relaxed) != REFUSED
    }

    /// How far it is granted.
    pub fn grant(&self) -> Grant {
        match self.0.load(Ordering::Relaxed) {
            OFF => Grant::Off,
            ON => Grant::On,
            _ => Grant::Refused,
        }
    }
}

/// The name of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Packets are moved by io_uring.
    IoUring,
    /// The TUN hands over TCP super-packets.
    Tso,
    /// The TUN hands over UDP super-packets (Linux 6.2).
    Uso,
    /// Trains leave by one send (`UDP_SEGMENT`).
    UdpGso,
    /// Trains are received as such (`UDP_GRO`).
    UdpGro,
    /// The TUN takes super-packets.
    MergedWrites,
    /// A program chooses the TUN's queue for each packet, by its pod.
    Steering,
}

impl Cap {
    /// All of them, in the order in which they are told of.
    pub const ALL: [Cap; 7] = [
        Cap::IoUring,
        Cap::Tso,
        Cap::Uso,
        Cap::UdpGso,
        Cap::UdpGro,
        Cap::MergedWrites,
        Cap::Steering,
    ];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cap::IoUring => "io_uring",
            Cap::Tso => "tso",
            Cap::Uso => "uso",
            Cap::UdpGso => "udp_gso",
            Cap::UdpGro => "udp_gro",
            Cap::MergedWrites => "merged_writes",
            Cap::Steering => "steering",
        }
    }
}

/// All capabilities of a dataplane.
#[derive(Default)]
pub struct Caps {
    /// See [`Cap::IoUring`].
    pub io_uring: Capability,
    /// See [`Cap::Tso`].
    pub tso: Capability,
    /// See [`Cap::Uso`].
    pub uso: Capability,
    /// See [`Cap::UdpGso`].
    pub trains: Trains,
    /// See [`Cap::UdpGro`].
    pub udp_gro: Capability,
    /// See [`Cap::MergedWrites`]. They are always wanted.
    pub merges: Arc<MergeRefusals>,
    /// See [`Cap::Steering`].
    pub steering: Capability,
}

impl Caps {
    /// How far a capability is granted at `now`, in milliseconds.
    pub fn grant(&self, cap: Cap, now: u64) -> Grant {
        match cap {
            Cap::IoUring => self.io_uring.grant(),
            Cap::Tso => self.tso.grant(),
            Cap::Uso => self.uso.grant(),
            Cap::UdpGso => self.trains.grant(now),
            Cap::UdpGro => self.udp_gro.grant(),
            Cap::MergedWrites if self.merges.any() => Grant::Limited,
            Cap::MergedWrites => Grant::On,
            Cap::Steering => self.steering.grant(),
        }
    }
}

/// What `granted` says of something that was `wanted`, as an attempt.
pub(crate) fn as_wanted(wanted: bool, granted: bool) -> io::Result<()> {
    match wanted && !granted {
        true => Err(io::ErrorKind::Unsupported.into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_once_is_neither_tried_nor_granted_again() {
        let capability = Capability::default();
        assert_eq!(capability.grant(), Grant::Off);
        assert_eq!(capability.ask(|| Ok::<_, ()>(())), Ok(true));
        assert_eq!(capability.grant(), Grant::On);
        assert_eq!(capability.ask(|| Err("no")), Err("no"));
        assert_eq!(capability.grant(), Grant::Refused);
        assert!(!capability.refuse(), "that is known");
        let again = capability.ask(|| -> Result<(), ()> { panic!("it is tried again") });
        assert_eq!(again, Ok(false));
        assert_eq!(capability.grant(), Grant::Refused);
    }

    #[test]
    fn a_refusal_of_any_worker_shows_at_once() {
        let caps = Caps::default();
        let all = |now| Cap::ALL.map(|cap| caps.grant(cap, now));
        use Grant::{Limited, Off, On, Refused};
        assert_eq!(all(0), [Off, Off, Off, Off, Off, On, Off]);
        for capability in [
            &caps.io_uring,
            &caps.tso,
            &caps.uso,
            &caps.udp_gro,
            &caps.steering,
        ] {
            capability.ask(|| Ok::<_, ()>(())).unwrap();
        }
        caps.trains.ask(Some(128));
        assert_eq!(all(0), [On; 7]);
        caps.uso.refuse();
        caps.trains.note([10, 0, 0, 1].into(), 0);
        assert_eq!(all(0), [On, On, Refused, Limited, On, On, On]);
        assert!(Limited.is_fallen() && Refused.is_fallen());
        assert!(!On.is_fallen() && !Off.is_fallen());
    }
}
