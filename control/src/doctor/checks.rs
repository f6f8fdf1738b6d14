//! All checks, by topic.

mod agent;
mod containers;
mod device;
mod firewall;
mod host;
mod kernel;
mod peers;
mod traffic;

use super::facts::Facts;
use super::finding::{Finding, Look};

/// A check.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub id: &'static str,
    /// What it looks at.
    pub title: &'static str,
    look: fn(&Facts) -> Look,
}

const fn check(id: &'static str, title: &'static str, look: fn(&Facts) -> Look) -> Check {
    Check { id, title, look }
}

/// All checks, in the order in which people read them: what explains others comes first.
pub const CHECKS: &[Check] = &[
    check("agent", "an agent runs", agent::runs),
    check("ready", "the node can be used", agent::ready),
    check("lease", "the lease lives", agent::lease),
    check(
        "lease-conflicts",
        "nobody else has this node's addresses",
        agent::conflicts,
    ),
    check("store", "the store of leases answers", agent::store),
    check(
        "capabilities",
        "the agent may do what it needs",
        agent::capabilities,
    ),
    check(
        "seccomp",
        "no filter of system calls stands in the way",
        agent::seccomp,
    ),
    check("kernel", "the kernel has what weft uses", kernel::version),
    check(
        "udp-gso",
        "the kernel does not corrupt trains",
        kernel::udp_gso,
    ),
    check("tun", "TUN devices can be made", kernel::tun),
    check("io-uring", "io_uring is allowed", kernel::io_uring),
    check(
        "offloads",
        "the kernel grants what was asked for",
        kernel::offloads,
    ),
    check(
        "fast-path",
        "eBPF programs carry packets",
        kernel::fast_path,
    ),
    check(
        "device",
        "the tunnel device is as it should be",
        device::device,
    ),
    check("mtu", "outer packets fit the underlay", device::mtu),
    check(
        "port",
        "nobody else has the overlay's UDP port",
        device::port,
    ),
    check(
        "programs",
        "no BPF program of others comes first",
        device::programs,
    ),
    check("gro", "the underlay merges what it receives", device::gro),
    check(
        "forwarding",
        "the kernel forwards packets",
        host::forwarding,
    ),
    check(
        "rp-filter",
        "sources are not judged by their route",
        host::rp_filter,
    ),
    check(
        "br-netfilter",
        "the firewall sees what bridges pass on",
        host::br_netfilter,
    ),
    check("linkdown", "routes outlive the agent", host::linkdown),
    check(
        "ipsec",
        "nothing is to be encrypted on the way",
        host::ipsec,
    ),
    check("clock", "the clock is right", host::clock),
    check(
        "firewall",
        "the firewall lets the overlay's datagrams in",
        firewall::input,
    ),
    check(
        "forward",
        "the firewall lets pods' packets through",
        firewall::forward,
    ),
    check(
        "subnet-env",
        "subnet.env says what the lease says",
        containers::subnet_env,
    ),
    check(
        "conflist",
        "the container runtime uses flannel's plugin",
        containers::conflist,
    ),
    check(
        "bridge",
        "the pods' bridge fits the tunnel",
        containers::bridge,
    ),
    check("peers", "there are other nodes", peers::known),
    check(
        "routes",
        "packets to other nodes go into the tunnel",
        peers::routes,
    ),
    check(
        "reach",
        "other nodes answer through the tunnel",
        peers::reach,
    ),
    check(
        "workers",
        "what workers carry reaches other nodes, too",
        peers::workers,
    ),
    check("peer-agents", "agents run on other nodes", peers::agents),
    check(
        "path-mtu",
        "packets of full length pass in one piece",
        peers::path_mtu,
    ),
    check("fragments", "packets that are cut arrive", peers::fragments),
    check("drops", "nothing is being dropped", traffic::drops),
    check("lost", "frames can leave", traffic::lost),
    check("checksums", "what arrives is intact", traffic::checksums),
];

/// What all checks make of the facts.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let finding = |check: &Check| {
        let look = (check.look)(facts);
        Finding {
            id: check.id.to_owned(),
            title: check.title.to_owned(),
            verdict: look.verdict,
            why: look.why,
            remedies: look.remedies,
        }
    };
    CHECKS.iter().map(finding).collect()
}

/// The first few of many.
fn some<T: std::fmt::Display>(all: &[T]) -> String {
    const NAMED: usize = 4;
    let named: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests;
