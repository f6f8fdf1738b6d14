//! The kinds of knobs: what each is for, what it does to weft, and how that is known.
//!
//! `docs/tuning.md` has the same list, which a test holds to this one.

mod entries;

use crate::cpus::CpuSet;
use entries::ENTRIES;
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
