//! The kinds of knobs: what each is for, what it does to weft, and how that is known.
//!
//! `docs/tuning.md` has the same list, which a test holds to this one.

use crate::cpus::CpuSet;
use serde::{Serialize, Serializer};
use std::fmt;

/// A kind of knob, of which a host may have several: one for each queue, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Queues of the card.
    Channels,
    /// Receive rings.
    RxRing,
    /// Send rings.
    TxRing,
    /// Merging what comes in.
    Gro,
    /// Cutting late.
    Gso,
    /// Cutting by the card.
    Tso,
    /// Cutting trains by the card.
    UdpGso,
    /// Merging datagrams that are forwarded.
    UdpGroForwarding,
    /// Spreading what comes in over CPUs.
    Rps,
    /// The same, to the CPU of who receives.
    Rfs,
    /// Which CPU sends by which queue.
    Xps,
    /// Which CPU is interrupted.
    Irq,
    /// CPU frequency.
    Governor,
    /// Packets that wait for a CPU.
    Backlog,
    /// Packets in one round of the softirq.
    Budget,
    /// Looking instead of sleeping.
    BusyPoll,
    /// Receive buffers.
    RmemMax,
    /// Send buffers.
    WmemMax,
    /// Compiling eBPF.
    BpfJit,
}

/// How it is known what a knob does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Measured in the lab; where the figures are.
    Measured(&'static str),
    /// The lab has nothing to measure it on; who says so.
    NotMeasurable(&'static str),
}

/// Values that a kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// `on` or `off`.
    Switch,
    /// A number.
    Number { least: u64, most: u64 },
    /// 0 or a power of two, to which the kernel would round.
    PowerOfTwo { most: u64 },
    /// CPUs.
    Cpus,
    /// Letters, digits, `_` and `-`.
    Word,
}

/// What is said of a kind.
struct Entry {
    kind: Kind,
    name: &'static str,
    values: Values,
    why: &'static str,
    effect: &'static str,
    evidence: Evidence,
}

const SCALING: Evidence = Evidence::NotMeasurable("Documentation/networking/scaling.rst");
const ETHTOOL: Evidence = Evidence::NotMeasurable("Documentation/networking/ethtool-netlink.rst");
const SYSCTL: Evidence = Evidence::NotMeasurable("Documentation/admin-guide/sysctl/net.rst");
const KNOBS: Evidence = Evidence::Measured("docs/tuning.md, Measured");

/// The most that a number may be where the kernel has no bound of its own.
const MANY: u64 = 1 << 20;

const ENTRIES: &[Entry] = &[
    Entry {
        kind: Kind::Channels,
        name: "channels",
        values: Values::Number {
            least: 1,
            most: 1024,
        },
        why: "packets of one queue are taken in by one core",
        effect: "as many cores take packets in as are near the card; the link may go down for a moment",
        evidence: SCALING,
    },
    Entry {
        kind: Kind::RxRing,
        name: "rx-ring",
        values: Values::Number {
            least: 1,
            most: MANY,
        },
        why: "a ring that is full while its core is busy drops what comes",
        effect: "longer bursts fit, at the price of memory; the link may go down for a moment",
        evidence: ETHTOOL,
    },
    Entry {
        kind: Kind::TxRing,
        name: "tx-ring",
        values: Values::Number {
            least: 1,
            most: MANY,
        },
        why: "a train is up to 128 frames, each with a slot or more, and what does not fit waits in the qdisc",
        effect: "the card has work while the sender is busy elsewhere, at the price of memory; the link may go down for a moment",
        evidence: ETHTOOL,
    },
    Entry {
        kind: Kind::Gro,
        name: "gro",
        values: Values::Switch,
        why: "what has not been merged is received, looked up and written one by one",
        effect: "a stream's segments reach the workers, or the pods, as trains and super-packets",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::Gso,
        name: "gso",
        values: Values::Switch,
        why: "without it packets are cut before the stack instead of behind it",
        effect: "none that the lab could tell from noise; the kernel begins with it",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::Tso,
        name: "tso",
        values: Values::Switch,
        why: "a core cuts what the card could",
        effect: "super-packets that leave as TCP, by direct routes, are cut by the card",
        evidence: Evidence::NotMeasurable("Documentation/networking/segmentation-offloads.rst"),
    },
    Entry {
        kind: Kind::UdpGso,
        name: "udp-gso",
        values: Values::Switch,
        why: "a core cuts the workers' trains where the card could",
        effect: "trains leave whole, and the card cuts them",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::UdpGroForwarding,
        name: "udp-gro-forwarding",
        values: Values::Switch,
        why: "merges datagrams that no socket here has asked for; the workers' sockets do ask",
        effect: "none on weft's own datagrams",
        evidence: Evidence::NotMeasurable("Documentation/networking/segmentation-offloads.rst"),
    },
    Entry {
        kind: Kind::Rps,
        name: "rps",
        values: Values::Cpus,
        why: "handing packets to another core wakes it, and what is small waits behind a stream there",
        effect: "shorter round trips beside streams and more small packets than with it; a stream is as fast",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::Rfs,
        name: "rfs",
        values: Values::PowerOfTwo { most: MANY },
        why: "steers to the core of a socket, and what is tunnelled has the socket of its worker, or none",
        effect: "shorter round trips beside streams and more small packets than with it; a stream is as fast",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::Xps,
        name: "xps",
        values: Values::Cpus,
        why: "senders on several cores meet at the lock of one send queue",
        effect: "each core has a send queue to itself, as far as there are so many",
        evidence: SCALING,
    },
    Entry {
        kind: Kind::Irq,
        name: "irq",
        values: Values::Cpus,
        why: "interrupts on a worker's core keep it from its packets, and those far from the card cross nodes of memory",
        effect: "one core near the card for each queue, none of them a pinned worker's",
        evidence: Evidence::NotMeasurable("Documentation/core-api/irq/irq-affinity.rst"),
    },
    Entry {
        kind: Kind::Governor,
        name: "governor",
        values: Values::Word,
        why: "a worker sleeps between packets, and a core that has slowed down meanwhile takes time to be fast again",
        effect: "the highest frequency at once, at the price of power",
        evidence: Evidence::NotMeasurable("Documentation/admin-guide/pm/cpufreq.rst"),
    },
    Entry {
        kind: Kind::Backlog,
        name: "netdev_max_backlog",
        values: Values::Number {
            least: 1,
            most: MANY,
        },
        why: "what RPS, veth pairs and the fast path hand to a core waits in its backlog, and this host has dropped packets there",
        effect: "bursts that were dropped wait instead",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::Budget,
        name: "netdev_budget",
        values: Values::Number {
            least: 1,
            most: MANY,
        },
        why: "how many packets a core takes in before it looks at anything else",
        effect: "none that the lab could tell from noise",
        evidence: KNOBS,
    },
    Entry {
        kind: Kind::BusyPoll,
        name: "busy_poll",
        values: Values::Number {
            least: 0,
            most: MANY,
        },
        why: "all programs of the host that wait for sockets would spin; weft's workers have -spin-us of their own",
        effect: "none on weft, whose sockets ask for nothing of the kind",
        evidence: SYSCTL,
    },
    Entry {
        kind: Kind::RmemMax,
        name: "rmem_max",
        values: Values::Number {
            least: 4096,
            most: u32::MAX as u64 >> 1,
        },
        why: "bounds what programs without CAP_NET_ADMIN ask for; weft has it, and asks beyond the bound (SO_RCVBUFFORCE)",
        effect: "none on weft",
        evidence: Evidence::NotMeasurable("man 7 socket"),
    },
    Entry {
        kind: Kind::WmemMax,
        name: "wmem_max",
        values: Values::Number {
            least: 4096,
            most: u32::MAX as u64 >> 1,
        },
        why: "the same for send buffers (SO_SNDBUFFORCE)",
        effect: "none on weft",
        evidence: Evidence::NotMeasurable("man 7 socket"),
    },
    Entry {
        kind: Kind::BpfJit,
        name: "bpf_jit_enable",
        values: Values::Number { least: 0, most: 1 },
        why: "the fast path, and the program that shares out datagrams, are interpreted without it",
        effect: "eBPF as machine code",
        evidence: SYSCTL,
    },
];

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 19] = [
        Kind::Channels,
        Kind::RxRing,
        Kind::TxRing,
        Kind::Gro,
        Kind::Gso,
        Kind::Tso,
        Kind::UdpGso,
        Kind::UdpGroForwarding,
        Kind::Rps,
        Kind::Rfs,
        Kind::Xps,
        Kind::Irq,
        Kind::Governor,
        Kind::Backlog,
        Kind::Budget,
        Kind::BusyPoll,
        Kind::RmemMax,
        Kind::WmemMax,
        Kind::BpfJit,
    ];

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Kind> {
        let entry = ENTRIES.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.kind)
    }

    /// Its name, in profiles and on pages.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Why weft cares.
    pub fn why(self) -> &'static str {
        self.entry().why
    }

    /// What is to be expected of the change.
    pub fn effect(self) -> &'static str {
        self.entry().effect
    }

    /// How that is known.
    pub fn evidence(self) -> Evidence {
        self.entry().evidence
    }

    pub(crate) fn values(self) -> Values {
        self.entry().values
    }

    fn entry(self) -> &'static Entry {
        // `every_kind_has_its_entry` holds the two lists together.
        let entry = ENTRIES.iter().find(|entry| entry.kind == self);
        entry.unwrap_or(&ENTRIES[0])
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Measured(place) => write!(f, "measured: {place}"),
            Evidence::NotMeasurable(source) => write!(f, "not measurable here: {source}"),
        }
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Values {
    /// A value in the form that [`crate::Knobs`] has it in, if it is one of these.
    pub(crate) fn read(self, text: &str) -> Option<String> {
        let number = || text.parse::<u64>().ok();
        let fits = match self {
            Values::Switch => text == "on" || text == "off",
            Values::Number { least, most } => number().is_some_and(|n| (least..=most).contains(&n)),
            Values::PowerOfTwo { most } => {
                number().is_some_and(|n| n <= most && (n == 0 || n.is_power_of_two()))
            }
            Values::Cpus => {
                let cpus = (!text.is_empty()).then(|| text.parse::<CpuSet>());
                return Some(cpus?.ok()?.to_string());
            }
            Values::Word => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                !text.is_empty() && text.chars().all(is_part)
            }
        };
        fits.then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_entry() {
        assert_eq!(ENTRIES.len(), Kind::ALL.len());
        for (entry, kind) in ENTRIES.iter().zip(Kind::ALL) {
            assert_eq!(entry.kind, kind);
            assert_eq!(Kind::of(entry.name), Some(kind));
            assert!(!entry.why.is_empty() && !entry.effect.is_empty());
        }
    }

    #[test]
    fn values_are_taken_in_their_form_only() {
        for (kind, good, bad) in [
            (Kind::Gro, "on", "1"),
            (Kind::RxRing, "1024", "0"),
            (Kind::Rfs, "4096", "4095"),
            (Kind::Rps, "0-3", ""),
            (Kind::Governor, "performance", "per formance"),
            (Kind::BpfJit, "1", "2"),
        ] {
            assert_eq!(kind.values().read(good).as_deref(), Some(good), "{kind}");
            assert_eq!(kind.values().read(bad), None, "{kind}");
        }
    }
}
