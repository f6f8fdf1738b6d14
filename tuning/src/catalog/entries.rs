//! What is said of each kind.

use super::{Entry, Evidence, Kind, Values};

const SCALING: Evidence = Evidence::NotMeasurable("Documentation/networking/scaling.rst");
const ETHTOOL: Evidence = Evidence::NotMeasurable("Documentation/networking/ethtool-netlink.rst");
const SYSCTL: Evidence = Evidence::NotMeasurable("Documentation/admin-guide/sysctl/net.rst");
const KNOBS: Evidence = Evidence::Measured("docs/tuning.md, Measured");

/// The most that a number may be where the kernel has no bound of its own.
const MANY: u64 = 1 << 20;

/// An entry for each kind, in the order of [`Kind::ALL`].
pub(super) const ENTRIES: &[Entry] = &[
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
