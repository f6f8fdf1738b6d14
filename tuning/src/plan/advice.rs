//! What is not the host's to set: weft's flags, and other programs.

use crate::catalog::Evidence;
use crate::facts::Facts;
use crate::profile::Profile;
use serde::Serialize;

/// Packets that each queue of weft's TUN devices holds by itself.
const TUN_LENGTH: u32 = 1000;

const CORES: &str = "docs/threads-and-memory.md, Cores";

/// Something to do, or to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The flag or thing that it is about.
    pub about: &'static str,
    /// What to do, and why: one sentence.
    pub text: String,
    /// How that is known.
    pub evidence: Evidence,
}

pub(super) fn of(facts: &Facts, profile: Profile) -> Vec<Advice> {
    let all = [
        queues(facts, profile),
        pinned(facts),
        near(facts),
        cpuset(facts),
        irqbalance(facts, profile),
    ];
    all.into_iter().flatten().chain(lengths(facts)).collect()
}

fn queues(facts: &Facts, profile: Profile) -> Option<Advice> {
    let queues = facts.workers.queues;
    (profile == Profile::SmallHost && queues > 1).then(|| Advice {
        about: "-queues",
        text: format!(
            "start the agent with -queues=1 instead of {queues}: on 2 cores one stream is 10 to 20 % faster with one queue"
        ),
        evidence: Evidence::Measured("docs/performance.md, What was tried"),
    })
}

fn pinned(facts: &Facts) -> Option<Advice> {
    let workers = 2 * facts.workers.queues;
    let cores = facts.cores.allowed.len();
    let crowded = cores < workers + workers.max(2);
    (!facts.workers.cpus.is_empty() && crowded).then(|| Advice {
        about: "-cpus",
        text: format!(
            "start the agent with -cpus=none: {workers} workers are pinned where there are {cores} CPUs, so that pods and interrupts have nowhere to go"
        ),
        evidence: Evidence::Measured(CORES),
    })
}

fn near(facts: &Facts) -> Option<Advice> {
    let far = facts.workers.cpus.without(&facts.cores.near);
    let near = &facts.cores.near;
    (!far.is_empty()).then(|| Advice {
        about: "-cpus",
        text: format!(
            "workers on CPUs {far} are far from {}, whose node of memory has {near}: fewer -queues, or -cpus with some of these",
            facts.device.name
        ),
        evidence: Evidence::NotMeasurable("Documentation/admin-guide/mm/numaperf.rst"),
    })
}

fn cpuset(facts: &Facts) -> Option<Advice> {
    let (allowed, online) = (&facts.cores.allowed, &facts.cores.online);
    (!online.without(allowed).is_empty()).then(|| Advice {
        about: "cpuset",
        text: format!(
            "of CPUs {online} only {allowed} may be used here (cgroup cpuset, taskset): an agent that is started alike counts and pins to these alone"
        ),
        evidence: Evidence::NotMeasurable("Documentation/admin-guide/cgroup-v2.rst"),
    })
}

fn irqbalance(facts: &Facts, profile: Profile) -> Option<Advice> {
    let moves = facts.irqbalance && !facts.device.irqs.is_empty();
    (moves && profile != Profile::SmallHost).then(|| Advice {
        about: "irqbalance",
        text: format!(
            "irqbalance runs, and moves the interrupts of {} again: stop it, or ban them there",
            facts.device.name
        ),
        evidence: Evidence::NotMeasurable("man 1 irqbalance"),
    })
}

fn lengths(facts: &Facts) -> impl Iterator<Item = Advice> {
    let other = facts
        .tunnels
        .iter()
        .filter(|tunnel| tunnel.length != TUN_LENGTH);
    other.map(|tunnel| Advice {
        about: "txqueuelen",
        text: format!(
            "the queue of {} holds {} packets instead of {TUN_LENGTH}; shorter ones lost packets, and to change one that is up loses some, so let the agent make the device anew",
            tunnel.name, tunnel.length
        ),
        evidence: Evidence::Measured("docs/performance.md, What was tried"),
    })
}
