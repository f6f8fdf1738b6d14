//! Plans for hosts that are made up.

use super::*;
use crate::facts::{Backlog, Cores, Device, Reading, Tunnel, Workers};
use crate::profile::Wish;
use std::collections::BTreeMap;

fn set(list: &str) -> CpuSet {
    list.parse().unwrap()
}

/// A host with a card of `queues` queues and as many interrupts, and all knobs at the values that
/// the kernel and the driver begin with.
fn host(cores: &str, queues: u32) -> Facts {
    let mut facts = Facts {
        device: Device {
            name: "eth0".to_owned(),
            rx_queues: queues,
            tx_queues: queues,
            irqs: (40..40 + queues).collect(),
            ..Device::default()
        },
        cores: Cores {
            online: set(cores),
            allowed: set(cores),
            near: set(cores),
            nodes: 1,
        },
        workers: Workers {
            queues: 1,
            ..Workers::default()
        },
        ..Facts::default()
    };
    let values = [
        (Kind::Channels, "1", Some(64)),
        (Kind::RxRing, "256", Some(8192)),
        (Kind::TxRing, "256", Some(1024)),
        (Kind::Gro, "on", None),
        (Kind::Gso, "on", None),
        (Kind::Tso, "on", None),
        (Kind::UdpGso, "off", None),
        (Kind::UdpGroForwarding, "off", None),
        (Kind::Rps, "none", None),
        (Kind::Rfs, "0", None),
        (Kind::Xps, "none", None),
        (Kind::Irq, cores, None),
        (Kind::Governor, "schedutil", None),
        (Kind::Backlog, "1000", None),
        (Kind::Budget, "300", None),
        (Kind::BusyPoll, "0", None),
        (Kind::RmemMax, "212992", None),
        (Kind::WmemMax, "212992", None),
        (Kind::BpfJit, "1", None),
    ];
    for (kind, now, most) in values {
        for knob in facts.knobs_of(kind) {
            let reading = Reading {
                now: now.to_owned(),
                most,
                fixed: false,
            };
            facts.knobs.insert(knob, reading);
        }
    }
    facts
}

fn wishes(profile: Profile) -> Wishes {
    Wishes {
        profile,
        ..Wishes::default()
    }
}

fn put(facts: &mut Facts, kind: Kind, value: &str) {
    for knob in facts.knobs_of(kind) {
        facts.knobs.get_mut(&knob).unwrap().now = value.to_owned();
    }
}

/// What is changed, as `knob: to`.
fn changes(facts: &Facts, wishes: &Wishes) -> Vec<String> {
    let plan = plan(facts, wishes);
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let changes = plan.changes.iter();
    changes
        .map(|change| format!("{}: {}", change.knob, change.to))
        .collect()
}

#[test]
fn throughput_takes_queues_rings_and_cores() {
    let facts = host("0-3", 2);
    let wanted = [
        "eth0 combined queues: 4",
        "eth0 tx ring: 1024",
        "eth0 rx ring: 4096",
        "eth0 tx-udp-segmentation: on",
        "eth0 tx-0 xps_cpus: 0,2",
        "eth0 tx-1 xps_cpus: 1,3",
        "irq 40 smp_affinity_list: 0",
        "irq 41 smp_affinity_list: 1",
        "cpu0 scaling_governor: performance",
        "cpu1 scaling_governor: performance",
        "cpu2 scaling_governor: performance",
        "cpu3 scaling_governor: performance",
    ];
    assert_eq!(changes(&facts, &wishes(Profile::Throughput)), wanted);
}

#[test]
fn what_is_right_already_is_no_change() {
    for profile in Profile::ALL {
        let mut facts = host("0-7", 4);
        for change in plan(&facts, &wishes(profile)).changes {
            facts.knobs.get_mut(&change.knob).unwrap().now = change.to;
        }
        assert_eq!(changes(&facts, &wishes(profile)), [""; 0], "{profile}");
    }
}

#[test]
fn latency_takes_spreading_back_and_leaves_rings_alone() {
    let mut facts = host("0-3", 1);
    put(&mut facts, Kind::Rps, "0-3");
    put(&mut facts, Kind::Rfs, "4096");
    let changed = changes(&facts, &wishes(Profile::Latency));
    assert!(
        changed.contains(&"eth0 rx-0 rps_cpus: none".to_owned()),
        "{changed:?}"
    );
    assert!(
        changed.contains(&"eth0 rx-0 rps_flow_cnt: 0".to_owned()),
        "{changed:?}"
    );
    assert!(
        !changed.iter().any(|change| change.contains("ring")),
        "{changed:?}"
    );
    // One queue for four cores: whether to spread is not known here.
    let changed = changes(&facts, &wishes(Profile::Throughput));
    assert!(
        !changed.iter().any(|change| change.contains("rps")),
        "{changed:?}"
    );
}

#[test]
fn a_small_host_gives_neither_cores_nor_memory() {
    let mut facts = host("0-1", 1);
    facts.workers.queues = 2;
    let plan = plan(&facts, &wishes(Profile::SmallHost));
    let changed: Vec<Kind> = plan.changes.iter().map(|change| change.kind).collect();
    assert_eq!(changed, [Kind::UdpGso]);
    assert_eq!(plan.advice[0].about, "-queues");
    assert!(plan.advice[0].text.contains("-queues=1"));
}

#[test]
fn nothing_is_lowered_and_what_the_driver_chose_stays() {
    let mut facts = host("0-7", 8);
    put(&mut facts, Kind::RxRing, "8192");
    put(&mut facts, Kind::Xps, "0");
    facts.backlog = Backlog {
        dropped: 9,
        squeezed: 0,
    };
    put(&mut facts, Kind::Backlog, "30000");
    let changed = changes(&facts, &wishes(Profile::Throughput));
    for part in ["rx ring", "xps", "backlog"] {
        assert!(
            !changed.iter().any(|change| change.contains(part)),
            "{changed:?}"
        );
    }
}

#[test]
fn a_backlog_that_has_dropped_is_made_longer() {
    let mut facts = host("0-1", 1);
    let of = |facts: &Facts| changes(facts, &wishes(Profile::Throughput)).join(" ");
    assert!(!of(&facts).contains("backlog"), "{}", of(&facts));
    facts.backlog.dropped = 1;
    assert!(
        of(&facts).contains("net.core.netdev_max_backlog: 4000"),
        "{}",
        of(&facts)
    );
}

#[test]
fn interrupts_keep_away_from_pinned_workers_and_near_the_card() {
    let mut facts = host("0-15", 4);
    facts.cores.near = set("8-15");
    facts.workers = Workers {
        queues: 2,
        cpus: set("12-15"),
        running: true,
    };
    let changed = changes(&facts, &wishes(Profile::Latency));
    let irqs: Vec<&String> = changed
        .iter()
        .filter(|change| change.starts_with("irq"))
        .collect();
    let wanted = ["irq 40 smp_affinity_list: 8", "irq 41 smp_affinity_list: 9"];
    assert_eq!(irqs[..2], wanted);
    assert_eq!(irqs[3], "irq 43 smp_affinity_list: 11");
    // Five queues in four cores: they share.
    facts.workers.cpus = set("9-15");
    let changed = changes(&facts, &wishes(Profile::Latency));
    assert!(
        changed.contains(&"irq 43 smp_affinity_list: 8".to_owned()),
        "{changed:?}"
    );
}

#[test]
fn what_cannot_be_changed_is_not_planned() {
    let mut facts = host("0-3", 1);
    for knob in facts.knobs_of(Kind::UdpGso) {
        facts.knobs.get_mut(&knob).unwrap().fixed = true;
    }
    for knob in facts.knobs_of(Kind::Channels) {
        facts.knobs.remove(&knob);
    }
    let changed = changes(&facts, &wishes(Profile::Throughput));
    assert!(
        !changed
            .iter()
            .any(|change| change.contains("udp") || change.contains("combined"))
    );
}

fn wish(kind: Kind, value: Option<&str>) -> Wishes {
    let wish = Wish {
        value: value.map(str::to_owned),
        place: "tune.toml:3".to_owned(),
    };
    Wishes {
        profile: Profile::Throughput,
        own: BTreeMap::from([(kind, wish)]),
    }
}

#[test]
fn a_file_departs_from_its_profile() {
    let facts = host("0-1", 1);
    let changed = changes(&facts, &wish(Kind::RxRing, Some("512")));
    assert!(
        changed.contains(&"eth0 rx ring: 512".to_owned()),
        "{changed:?}"
    );
    let changed = changes(&facts, &wish(Kind::RxRing, None));
    assert!(
        !changed.iter().any(|change| change.contains("rx ring")),
        "{changed:?}"
    );
    let plan = plan(&facts, &wish(Kind::BusyPoll, Some("50")));
    let change = plan
        .changes
        .iter()
        .find(|change| change.kind == Kind::BusyPoll);
    assert_eq!(change.unwrap().reason, "tune.toml:3 says so");
}

#[test]
fn a_wish_that_cannot_be_says_where_and_why() {
    let mut facts = host("0-1", 1);
    let complaint = |kind: Kind, value: &str| {
        let plan = plan(&facts, &wish(kind, Some(value)));
        assert!(plan.changes.iter().all(|change| change.kind != kind));
        let [problem] = &plan.problems[..] else {
            panic!("{:?}", plan.problems);
        };
        problem.clone()
    };
    assert_eq!(
        complaint(Kind::RxRing, "9000"),
        "tune.toml:3: rx-ring: eth0 takes 8192 at most, not 9000"
    );
    assert_eq!(
        complaint(Kind::Rps, "1-3"),
        "tune.toml:3: rps: there is no CPU 2-3, only 0-1"
    );
    assert!(complaint(Kind::Irq, "none").ends_with("an interrupt needs a CPU"));
    for knob in facts.knobs_of(Kind::Gro) {
        facts.knobs.get_mut(&knob).unwrap().fixed = true;
    }
    facts
        .knobs
        .retain(|knob, _| !matches!(knob, Knob::Governor { .. }));
    let problem = |kind, value| plan(&facts, &wish(kind, Some(value))).problems.concat();
    assert!(problem(Kind::Gro, "off").contains("eth0 has it on and lets nobody change it"));
    assert!(problem(Kind::Governor, "powersave").contains("there is no such knob"));
    assert_eq!(problem(Kind::Gro, "on"), "", "it is so already");
}

#[test]
fn flags_and_surroundings_are_advised() {
    let mut facts = host("0-3", 2);
    let about = |facts: &Facts, profile| {
        let advice = plan(facts, &wishes(profile)).advice.into_iter();
        advice.map(|advice| advice.about).collect::<Vec<_>>()
    };
    assert!(about(&facts, Profile::Throughput).is_empty());
    facts.workers.cpus = set("2-3");
    facts.workers.queues = 2;
    facts.cores.near = set("0-1");
    facts.cores.allowed = set("0-2");
    facts.irqbalance = true;
    facts.tunnels = vec![Tunnel {
        name: "flannel.1".to_owned(),
        length: 100,
    }];
    assert_eq!(
        about(&facts, Profile::Latency),
        ["-cpus", "-cpus", "cpuset", "irqbalance", "txqueuelen"]
    );
}
