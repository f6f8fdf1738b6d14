//! The agent, its lease and its store.

use super::facts::{Case, Failure, Fine, Unknown, Warning, agent, node, set, tunnel, workers};
use crate::doctor::facts::Facts;
use crate::status::StoreHealth;

pub(super) const CASES: &[Case] = &[
    (
        "agent",
        |f| f.agent = Err("no agent answers in /run/weft".to_owned()),
        Failure,
        "no agent answers in",
        "systemctl start weft",
    ),
    (
        "ready",
        |f| f.agent = Err(String::new()),
        Unknown,
        "no agent",
        "",
    ),
    (
        "ready",
        |f| node(f).ready = false,
        Failure,
        "not ready",
        "journalctl",
    ),
    (
        "ready",
        |f| node(f).underlay.there = false,
        Failure,
        "eth0 has not the addresses",
        "ip address",
    ),
    (
        "lease",
        |f| node(f).lease.seconds_left = Some(0),
        Failure,
        "has ended",
        "bring the store back",
    ),
    (
        "lease",
        |f| node(f).lease.seconds_left = Some(59),
        Warning,
        "ends in 59s",
        "bring the store back",
    ),
    // With -subnet-lease-renew-margin=1 that is as it should be.
    (
        "lease",
        |f| node(f).lease.seconds_left = Some(61),
        Fine,
        "1m01s left",
        "",
    ),
    (
        "lease",
        |f| {
            node(f).lease.seconds_left = Some(1799);
            node(f).store.health.as_mut().unwrap().reachable = false
        },
        Warning,
        "ends in 29m59s",
        "bring the store back",
    ),
    (
        "lease",
        |f| node(f).lease.seconds_left = None,
        Fine,
        "for ever",
        "",
    ),
    (
        "lease",
        |f| node(f).store.remembered_seconds = Some(60),
        Warning,
        "1m00s ago",
        "bring the store back",
    ),
    (
        "lease-conflicts",
        |f| f.leases[0].public = [10, 0, 0, 1].into(),
        Failure,
        "10.5.2.0/24 has this node's address, 10.0.0.1",
        "-public-ip",
    ),
    (
        "lease-conflicts",
        |f| f.leases[1].subnet = "10.5.2.128/25".parse().unwrap(),
        Warning,
        "10.5.2.128/25 of 10.0.0.3 lies inside 10.5.2.0/24",
        "weft leases",
    ),
    ("store", |f| node(f).store.health = None, Fine, "a file", ""),
    (
        "store",
        |f| {
            node(f).store.health = Some(StoreHealth {
                answered_seconds_ago: Some(61.5),
                ..StoreHealth::default()
            })
        },
        Failure,
        "etcd does not answer; it last did 1m01s ago",
        "etcdctl",
    ),
    (
        "store",
        |f| {
            node(f).store.name = "the API server".to_owned();
            node(f).store.health = Some(StoreHealth::default());
        },
        Failure,
        "the API server does not answer; it last did never",
        "kubectl get --raw /readyz",
    ),
    (
        "capabilities",
        |f| agent(f).process = None,
        Unknown,
        "cannot be seen",
        "",
    ),
    (
        "capabilities",
        |f| agent(f).process.as_mut().unwrap().capabilities = 0,
        Failure,
        "CAP_NET_ADMIN is missing",
        "AmbientCapabilities",
    ),
    (
        "capabilities",
        |f| agent(f).process.as_mut().unwrap().capabilities = 1 << 12,
        Warning,
        "CAP_BPF is missing",
        "CAP_PERFMON",
    ),
    (
        "capabilities",
        |f| agent(f).process.as_mut().unwrap().capabilities = 1 << 12 | 1 << 21,
        Fine,
        "all",
        "",
    ),
    (
        "seccomp",
        |f| agent(f).process.as_mut().unwrap().seccomp = 2,
        Fine,
        "lets pass what is needed",
        "",
    ),
    (
        "seccomp",
        |f| {
            filtered(
                f,
                "refused",
                "loading: Operation not permitted: it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a seccomp profile that allows bpf",
            )
        },
        Warning,
        "no fast path",
        "allow bpf",
    ),
    (
        "seccomp",
        |f| {
            filtered(
                f,
                "refused",
                "this host has IPsec policies, which the fast path would pass by",
            )
        },
        Fine,
        "lets pass",
        "",
    ),
    (
        "seccomp",
        |f| {
            filtered(
                f,
                "refused",
                "loading: EPERM: a seccomp profile that allows bpf",
            );
            agent(f).process.as_mut().unwrap().capabilities = 1 << 12
        },
        Fine,
        "lets pass",
        "",
    ),
    (
        "seccomp",
        |f| without_ring(f, "refused"),
        Warning,
        "no io_uring",
        "io_uring_setup",
    ),
    // With -engine=poll nobody has asked for it.
    ("seccomp", |f| without_ring(f, "off"), Fine, "lets pass", ""),
    (
        "seccomp",
        |f| {
            without_ring(f, "refused");
            f.host.release = "6.1.0-40-amd64".to_owned()
        },
        Fine,
        "lets pass",
        "",
    ),
    (
        "seccomp",
        |f| {
            without_ring(f, "refused");
            set(f, "kernel/io_uring_disabled", "2")
        },
        Fine,
        "lets pass",
        "",
    ),
];

/// A filter of system calls, and this fast path.
fn filtered(facts: &mut Facts, state: &str, reason: &str) {
    agent(facts).process.as_mut().unwrap().seccomp = 2;
    tunnel(facts).fast_path.state = state.to_owned();
    tunnel(facts).fast_path.reason = Some(reason.to_owned());
}

/// A filter of system calls, and the poll engine.
fn without_ring(facts: &mut Facts, state: &str) {
    agent(facts).process.as_mut().unwrap().seccomp = 2;
    workers(facts).engine = "poll".to_owned();
    let capabilities = &mut workers(facts).capabilities;
    capabilities.insert("io_uring".to_owned(), state.to_owned());
}
