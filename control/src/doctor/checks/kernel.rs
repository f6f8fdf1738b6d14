//! What the kernel has, and what it grants.

use crate::doctor::facts::Facts;
use crate::doctor::finding::NO_AGENT;
use crate::doctor::finding::{Look, advise, run};

/// Linux with what the ring engine uses.
const IO_URING: (u32, u32) = (6, 7);

/// What came when, as docs/kernel-versions.md has it.
const FEATURES: [((u32, u32), &str); 7] = [
    ((4, 18), "trains by one system call"),
    ((5, 0), "trains received as one"),
    ((5, 13), "the fast path"),
    ((6, 2), "UDP super-packets"),
    ((6, 6), "tcx links"),
    (IO_URING, "io_uring for packets"),
    ((6, 17), "tunnel GSO"),
];

/// Without several queues there is no TUN device.
const LEAST: (u32, u32) = (3, 8);

/// With these weft is about as fast as it can be.
const ENOUGH: (u32, u32) = (6, 7);

/// Major and minor number of a release.
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn version(facts: &Facts) -> Look {
    let release = &facts.host.release;
    let Some(version) = version_of(release) else {
        return Look::unknown(format!("Linux {release:?} has no version that can be read"));
    };
    let lacks = FEATURES.iter().filter(|(since, _)| version < *since);
    let lacks: Vec<String> = lacks
        .map(|((major, minor), what)| format!("{what} ({major}.{minor})"))
        .collect();
    let lacks = lacks.join(", ");
    let mut look = Look::ok(match lacks.is_empty() {
        true => format!("Linux {release} has all of it"),
        false => format!("Linux {release}; later ones have {lacks}"),
    });
    let newer = || advise("a newer kernel, where that can be had: docs/kernel-versions.md");
    if version < LEAST {
        look.fail(
            format!("Linux {release} has no TUN device with several queues (3.8)"),
            newer(),
        );
    } else if version < ENOUGH {
        look.warn(format!("Linux {release} goes without {lacks}"), newer());
    }
    look
}

pub(super) fn udp_gso(facts: &Facts) -> Look {
    let release = &facts.host.release;
    if !facts.host.corrupts_udp_gso {
        return Look::ok(format!("Linux {release} is not one that does"));
    }
    let workers = facts
        .tunnels()
        .iter()
        .filter_map(|tunnel| tunnel.workers.as_ref());
    let state = |name: &str| {
        workers
            .clone()
            .any(|w| w.capabilities.get(name).is_some_and(|s| s != "off"))
    };
    let mut look = Look::ok("");
    match state("udp_gso") {
        true => look.fail(
            format!("Linux {release} corrupts trains on some devices, and -udp-gso is on"),
            advise("-udp-gso=auto, unless the vendor's kernel has the repair"),
        ),
        false => look.warn(
            format!("Linux {release} corrupts trains on some devices: single datagrams are sent, which costs"),
            advise("Linux 7.1.5 or later; on a vendor's kernel that has the repair, -udp-gso=on"),
        ),
    }
    look
}

pub(super) fn tun(facts: &Facts) -> Look {
    let mut look = Look::ok("/dev/net/tun opens");
    if let Some(reason) = &facts.host.tun {
        let why = format!("/dev/net/tun: {reason}");
        look.fail(why, run("modprobe tun"));
        look.or(advise(
            "in a container: pass the device in, and grant CAP_NET_ADMIN",
        ));
    }
    look
}

/// Whether the kernel has io_uring for packets, and its settings do not forbid it.
pub(super) fn allows_io_uring(facts: &Facts) -> bool {
    let version = version_of(&facts.host.release);
    let disabled = facts.sysctl("kernel/io_uring_disabled");
    version.is_some_and(|version| version >= IO_URING) && disabled.is_none_or(|value| value == "0")
}

pub(super) fn io_uring(facts: &Facts) -> Look {
    let mut look = Look::ok("allowed");
    match facts.sysctl("kernel/io_uring_disabled") {
        None | Some("0") => {}
        Some(value) => look.warn(
            format!("kernel.io_uring_disabled is {value}: the poll engine runs, which costs more"),
            advise("leave it where io_uring is forbidden on purpose, as hardening does; else kernel.io_uring_disabled=0 allows it to all processes of the host"),
        ),
    }
    look
}

pub(super) fn offloads(facts: &Facts) -> Look {
    if facts.agent.is_err() {
        return Look::unknown(NO_AGENT);
    }
    let mut look = Look::ok("all of it");
    for tunnel in facts.tunnels() {
        let Some(workers) = &tunnel.workers else {
            continue;
        };
        for (name, state) in &workers.capabilities {
            if state == "limited" || state == "refused" {
                look.warn(
                    format!("{name} of {} is {state}", tunnel.device),
                    advise("packets go on and cost more; the log says what was refused, docs/kernel-versions.md why"),
                );
            }
        }
    }
    look
}

pub(super) fn fast_path(facts: &Facts) -> Look {
    if facts.agent.is_err() {
        return Look::unknown(NO_AGENT);
    }
    let mut look = Look::ok("not wanted, or no tunnel of IPv4");
    if facts.has_fast_path() {
        look = Look::ok("on");
    }
    for tunnel in facts.tunnels() {
        let (path, device) = (&tunnel.fast_path, &tunnel.device);
        let reason = path.reason.as_deref().unwrap_or("it is not said why");
        match path.state.as_str() {
            "refused" => look.warn(
                format!("{device} has none: {reason}; the workers carry everything"),
                advise("docs/fast-path.md, what it needs"),
            ),
            "on" if path.reason.is_some() => {
                look.warn(
                    format!("{device}: {reason}"),
                    match facts.host.bpffs {
                        true => advise("docs/fast-path.md, what passes by"),
                        false => run("mount -t bpf bpf /sys/fs/bpf"),
                    },
                );
            }
            _ => {}
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_versions() {
        assert_eq!(version_of("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version_of("7.1-custom"), Some((7, 1)));
        assert_eq!(version_of("linux"), None);
        assert_eq!(version_of(""), None);
    }
}
