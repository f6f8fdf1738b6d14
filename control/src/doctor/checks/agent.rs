//! The agent, its lease and its store.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Look, NO_AGENT, advise};
use crate::status::TunnelStatus;
use crate::text::span;
use std::time::Duration;

/// The least time in seconds before its end at which a lease is renewed (`-subnet-lease-renew-margin`).
const SHORT: u64 = 60;

/// In so many seconds a store that does not answer is to be brought back.
const SHORT_WITHOUT_STORE: u64 = 1800;

/// Capabilities by number and name, and whether packets flow without.
const CAPABILITIES: [(u32, &str, bool); 4] = [
    (NET_ADMIN, "CAP_NET_ADMIN", false),
    (PERFMON, "CAP_PERFMON", true),
    (BPF, "CAP_BPF", true),
    (13, "CAP_NET_RAW", true),
];

/// What the fast path takes.
const NET_ADMIN: u32 = 12;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// All but `CAP_NET_ADMIN` and `CAP_NET_RAW` are part of it.
const SYS_ADMIN: u32 = 21;

pub(super) fn runs(facts: &Facts) -> Look {
    match &facts.agent {
        Ok(agent) => {
            let status = &agent.status;
            let (version, pid) = (&status.version, status.pid);
            let up = span(Duration::from_secs(status.uptime_seconds));
            Look::ok(format!("weft {version}, process {pid}, up {up}"))
        }
        Err(reason) => {
            let mut look = Look::ok("");
            look.fail(
                reason,
                advise("start it: systemctl start weft, or `weft agent` with your flags; why it has ended: journalctl -eu weft"),
            );
            look.or(advise(
                "if it runs with another -socket-dir: weft doctor --socket-dir DIR",
            ));
            look
        }
    }
}

pub(super) fn ready(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let mut look = Look::ok("ready");
    if !status.ready {
        look.fail(
            "not ready: subnet.env cannot be written, peers are not known, or the underlay's address is gone",
            advise("the log says which: journalctl -eu weft"),
        );
    }
    let underlay = &status.underlay;
    if !underlay.there {
        look.fail(
            format!(
                "{} has not the addresses that packets leave from",
                underlay.name
            ),
            advise(format!(
                "give them back: ip address show dev {}",
                underlay.name
            )),
        );
    }
    look
}

pub(super) fn lease(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let subnets: Vec<String> = status
        .lease
        .subnets
        .iter()
        .map(ToString::to_string)
        .collect();
    let subnets = subnets.join(" and ");
    let renew = || advise("bring the store back: another node may take the subnet; see `store`");
    let mut look = Look::ok(match status.lease.seconds_left {
        Some(left) => format!("{subnets}, {} left", span(Duration::from_secs(left))),
        None => format!("{subnets}, for ever"),
    });
    let health = status.store.health.as_ref();
    let short = match health.is_some_and(|health| !health.reachable) {
        true => SHORT_WITHOUT_STORE,
        false => SHORT,
    };
    match status.lease.seconds_left {
        Some(0) => look.fail(format!("the lease of {subnets} has ended"), renew()),
        Some(left) if left < short => {
            let left = span(Duration::from_secs(left));
            look.warn(format!("the lease of {subnets} ends in {left}"), renew());
        }
        _ => {}
    }
    if let Some(age) = status.store.remembered_seconds {
        let age = span(Duration::from_secs(age));
        look.warn(
            format!(
                "the node goes by what the store said {age} ago, and misses nodes that are new"
            ),
            renew(),
        );
    }
    look
}

pub(super) fn conflicts(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let mut look = Look::ok("none");
    let list = || {
        advise(
            "weft leases list; then stop one of the two, and weft leases release SUBNET of what is left",
        )
    };
    for peer in &facts.leases {
        let (subnet, public) = (peer.subnet, peer.public);
        if status.lease.public.contains(&public) {
            look.fail(
                format!("the lease of {subnet} has this node's address, {public}"),
                advise("give each node its own -public-ip or -iface, or release what is left of an earlier lease: weft leases list"),
            );
        }
        let around = facts.leases.iter().find(|other| {
            other.public != public && other.subnet != subnet && other.subnet.contains(&subnet)
        });
        if let Some(other) = around {
            let (outer, of) = (other.subnet, other.public);
            look.warn(
                format!("{subnet} of {public} lies inside {outer} of {of}, which gets none of its packets"),
                list(),
            );
        }
    }
    look
}

pub(super) fn store(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let store = status.store.called();
    let Some(health) = &status.store.health else {
        return Look::ok("a file");
    };
    let mut look = Look::ok(format!("{store} answers"));
    if !health.reachable {
        let ago = health
            .answered_seconds_ago
            .map_or("never".to_owned(), |ago| {
                format!("{} ago", span(Duration::from_secs_f64(ago.max(0.0))))
            });
        look.fail(
            format!("{store} does not answer; it last did {ago}"),
            advise(format!(
                "bring it back: {}; packets go on meanwhile, new nodes are missing",
                probe_of(store)
            )),
        );
    }
    look
}

/// How its operator sees whether a store answers.
fn probe_of(store: &str) -> &'static str {
    match store {
        "etcd" => "etcdctl endpoint health",
        _ => "kubectl get --raw /readyz",
    }
}

pub(super) fn capabilities(facts: &Facts) -> Look {
    let process = facts.agent.as_ref().ok().and_then(|agent| agent.process);
    let Some(process) = process else {
        return Look::unknown("the agent's process cannot be seen from here");
    };
    let has = |number: u32| process.capabilities & 1 << number != 0;
    let mut look = Look::ok("all");
    for (number, name, passes) in CAPABILITIES {
        if has(number) || (has(SYS_ADMIN) && name != "CAP_NET_ADMIN" && name != "CAP_NET_RAW") {
            continue;
        }
        let grant = advise(format!(
            "grant {name}: AmbientCapabilities= in the unit, or capabilities.add of the container"
        ));
        match (passes, name) {
            (false, _) => look.fail(
                format!("{name} is missing: devices and routes cannot be kept"),
                grant,
            ),
            (true, "CAP_NET_RAW") => {}
            (true, _) => look.warn(format!("{name} is missing: no fast path"), grant),
        }
    }
    look
}

pub(super) fn seccomp(facts: &Facts) -> Look {
    let process = facts.agent.as_ref().ok().and_then(|agent| agent.process);
    let Some(process) = process else {
        return Look::unknown("the agent's process cannot be seen from here");
    };
    if process.seccomp == 0 {
        return Look::ok("none");
    }
    let mut look = Look::ok("a filter, which lets pass what is needed");
    let workers = facts
        .tunnels()
        .iter()
        .filter_map(|tunnel| tunnel.workers.as_ref());
    // Asked for and refused, with nothing else to refuse it.
    let refused = |state: &String| state == "refused";
    let mut workers = workers.filter_map(|workers| workers.capabilities.get("io_uring"));
    if workers.any(refused) && super::kernel::allows_io_uring(facts) {
        look.warn(
            "a filter of system calls, and no io_uring",
            advise(
                "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile",
            ),
        );
    }
    // So says the agent when the kernel answers EPERM or EACCES.
    let forbidden = |tunnel: &TunnelStatus| {
        let reason = tunnel.fast_path.reason.as_deref().unwrap_or_default();
        tunnel.fast_path.state == "refused" && reason.contains("seccomp")
    };
    let has = |number: u32| {
        process.capabilities & 1 << number != 0
            || number != NET_ADMIN && process.capabilities & 1 << SYS_ADMIN != 0
    };
    let may = [NET_ADMIN, PERFMON, BPF].into_iter().all(has);
    if may && facts.tunnels().iter().any(forbidden) {
        look.warn(
            "a filter of system calls, and no fast path",
            advise("allow bpf in the seccomp profile"),
        );
    }
    look
}
