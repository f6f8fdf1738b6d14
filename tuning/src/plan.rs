//! What is to be changed on a host, and why: a function of facts and wishes alone.

mod advice;

use crate::catalog::{Evidence, Kind};
use crate::cpus::CpuSet;
use crate::facts::Facts;
use crate::knob::Knob;
use crate::profile::{Profile, Wishes};
pub use advice::Advice;
use serde::Serialize;

/// Slots of a ring beyond which a burst is the host's own fault.
const RING_MOST: u64 = 4096;

/// Packets in the backlog of a core that has dropped some.
const BACKLOG: u64 = 4000;

/// Cores up to which there is none to move interrupts to.
const FEW_CORES: usize = 2;

/// What is to be changed, and what else is to be known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What weft's flags, or the host's owner, can do.
    pub advice: Vec<Advice>,
    /// Wishes that cannot be: a line each, which says where the wish is.
    pub problems: Vec<String>,
}

/// A knob that is to have another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub knob: Knob,
    /// Of which kind.
    pub kind: Kind,
    /// What it is without weft.
    pub from: String,
    /// What it is to be.
    pub to: String,
    /// Why.
    pub reason: String,
    /// What is to be expected.
    pub effect: &'static str,
    /// How that is known.
    pub evidence: Evidence,
}

fn as_text<S: serde::Serializer>(knob: &Knob, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(knob)
}

/// Plan for a host that is as `facts` say when nothing has been changed by an earlier plan.
pub fn plan(facts: &Facts, wishes: &Wishes) -> Plan {
    let mut plan = Plan {
        advice: advice::of(facts, wishes.profile),
        ..Plan::default()
    };
    for kind in Kind::ALL {
        let (values, place) = match wishes.own.get(&kind) {
            None => (by_profile(kind, wishes.profile, facts), None),
            Some(wish) => {
                let value = wish.value.as_ref();
                let value = value.map(|value| each(kind, facts, |_| Some(value.clone())));
                (value.unwrap_or_default(), Some(&wish.place))
            }
        };
        if let (Some(place), Some(Some(value))) = (place, wishes.own.get(&kind).map(|w| &w.value))
            && let Some(problem) = problem(kind, value, facts)
        {
            plan.problems.push(format!("{place}: {kind}: {problem}"));
            continue;
        }
        for (knob, to) in values {
            let Some(reading) = facts.knobs.get(&knob).filter(|reading| reading.now != to) else {
                continue;
            };
            plan.changes.push(Change {
                from: reading.now.clone(),
                to,
                kind,
                reason: match place {
                    None => kind.why().to_owned(),
                    Some(place) => format!("{place} says so"),
                },
                effect: kind.effect(),
                evidence: kind.evidence(),
                knob,
            });
        }
    }
    plan.changes.sort_by(|a, b| a.knob.cmp(&b.knob));
    plan
}

/// Why a wish cannot be, if so.
fn problem(kind: Kind, value: &str, facts: &Facts) -> Option<String> {
    let device = &facts.device.name;
    let mut readings = facts.knobs_of(kind).into_iter();
    let mut readings = readings.by_ref().filter_map(|knob| facts.knobs.get(&knob));
    let Some(reading) = readings.next() else {
        return Some(format!(
            "there is no such knob on this host, or on {device}"
        ));
    };
    if reading.fixed && reading.now != value {
        return Some(format!(
            "{device} has it {} and lets nobody change it",
            reading.now
        ));
    }
    if let (Some(most), Ok(wanted)) = (reading.most, value.parse::<u64>())
        && wanted > most
    {
        return Some(format!("{device} takes {most} at most, not {wanted}"));
    }
    if let (true, Ok(cpus)) = (is_of_cpus(kind), value.parse::<CpuSet>()) {
        let beyond = cpus.without(&facts.cores.online);
        if !beyond.is_empty() {
            return Some(format!(
                "there is no CPU {beyond}, only {}",
                facts.cores.online
            ));
        }
        if kind == Kind::Irq && cpus.is_empty() {
            return Some("an interrupt needs a CPU".to_owned());
        }
    }
    None
}

fn is_of_cpus(kind: Kind) -> bool {
    matches!(kind, Kind::Rps | Kind::Xps | Kind::Irq)
}

/// The knobs of a kind that can be set, with the value that `value` has for them.
fn each(
    kind: Kind,
    facts: &Facts,
    mut value: impl FnMut(&Knob) -> Option<String>,
) -> Vec<(Knob, String)> {
    let knobs = facts.knobs_of(kind).into_iter();
    let there = knobs.filter(|knob| facts.knobs.get(knob).is_some_and(|reading| !reading.fixed));
    there
        .filter_map(|knob| Some((knob.clone(), value(&knob)?)))
        .collect()
}

/// What a profile wants of a kind; nothing where it leaves it alone.
fn by_profile(kind: Kind, profile: Profile, facts: &Facts) -> Vec<(Knob, String)> {
    let all = |value: &str| each(kind, facts, |_| Some(value.to_owned()));
    let is_small = profile == Profile::SmallHost;
    match kind {
        Kind::Gro | Kind::Gso | Kind::Tso | Kind::UdpGso => all("on"),
        Kind::BpfJit => all("1"),
        Kind::Rps if profile != Profile::Throughput || is_spread(facts) => all("none"),
        Kind::Rfs if profile != Profile::Throughput || is_spread(facts) => all("0"),
        Kind::Governor if !is_small => all("performance"),
        Kind::Channels if !is_small => each(kind, facts, |knob| {
            let most = facts.knobs.get(knob)?.most?;
            Some(most.min(facts.cores.near.len() as u64).max(1).to_string())
        }),
        Kind::RxRing | Kind::TxRing if profile == Profile::Throughput => {
            each(kind, facts, |knob| {
                let reading = facts.knobs.get(knob)?;
                let now: u64 = reading.now.parse().ok()?;
                Some(reading.most?.min(RING_MOST).max(now).to_string())
            })
        }
        Kind::Backlog if profile == Profile::Throughput && facts.backlog.dropped > 0 => {
            each(kind, facts, |knob| {
                let now: u64 = facts.now(knob)?.parse().ok()?;
                Some(now.max(BACKLOG).to_string())
            })
        }
        Kind::Xps if !is_small => xps(facts),
        Kind::Irq if !is_small => irqs(facts),
        // Left alone: as it is by default, or where it does weft no good.
        Kind::Rps
        | Kind::Rfs
        | Kind::Governor
        | Kind::Channels
        | Kind::RxRing
        | Kind::TxRing
        | Kind::Backlog
        | Kind::Xps
        | Kind::Irq
        | Kind::UdpGroForwarding
        | Kind::Budget
        | Kind::BusyPoll
        | Kind::RmemMax
        | Kind::WmemMax => Vec::new(),
    }
}

/// Whether spreading in software has nothing to add: the card spreads, or there is hardly a core
/// to spread to.
fn is_spread(facts: &Facts) -> bool {
    facts.device.rx_queues > 1 || facts.cores.online.len() <= FEW_CORES
}

/// A send queue for each core in turn, unless somebody, such as the driver, has chosen.
fn xps(facts: &Facts) -> Vec<(Knob, String)> {
    let knobs = facts.knobs_of(Kind::Xps);
    let chosen = knobs
        .iter()
        .any(|knob| facts.now(knob).is_none_or(|cpus| cpus != "none"));
    let cpus: Vec<u32> = facts.cores.online.iter().collect();
    if chosen || knobs.len() < 2 || cpus.len() < 2 {
        return Vec::new();
    }
    let queues = knobs.len().min(cpus.len());
    let mut number = 0..;
    each(Kind::Xps, facts, |_| {
        let queue = number.next()? % queues;
        let own = cpus.iter().skip(queue).step_by(queues);
        Some(own.copied().collect::<CpuSet>().to_string())
    })
}

/// A core near the card for each queue, and none that a worker is pinned to.
fn irqs(facts: &Facts) -> Vec<(Knob, String)> {
    let near = &facts.cores.near;
    let room = near.without(&facts.workers.cpus);
    let cpus: Vec<u32> = room.or(near).iter().collect();
    if cpus.is_empty() || facts.cores.online.len() <= FEW_CORES {
        return Vec::new();
    }
    let mut next = cpus.iter().cycle();
    each(Kind::Irq, facts, |_| Some(next.next()?.to_string()))
}

#[cfg(test)]
mod tests;
