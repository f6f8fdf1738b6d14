//! Settings of the host.

use crate::doctor::facts::{Facts, LinkFacts};
use crate::doctor::finding::{Look, advise, run};

/// No clock of a host that runs this is earlier: it was written then (2026-01-01).
const WRITTEN: u64 = 1_767_225_600;

/// How far a file may be ahead of the clock: network file systems have clocks of their own.
const AHEAD: u64 = 300;

/// A command that sets a value, by a path that may have dots in a device's name.
fn set(path: &str, value: u8) -> String {
    format!("sysctl -w {path}={value}")
}

pub(super) fn forwarding(facts: &Facts) -> Look {
    let networks = facts.status().map_or(&[][..], |status| &status.networks);
    let has_v6 = networks.iter().any(|network| network.addr().is_ipv6());
    let has_v4 = networks.is_empty() || networks.iter().any(|network| network.addr().is_ipv4());
    let mut look = Look::ok("on");
    for (wanted, path) in [
        (has_v4, "net/ipv4/ip_forward"),
        (has_v6, "net/ipv6/conf/all/forwarding"),
    ] {
        if wanted && facts.sysctl(path) == Some("0") {
            let name = path.replace('/', ".");
            look.fail(
                format!("{name} is 0: packets between pods and other nodes are not forwarded"),
                run(set(&name, 1)),
            );
        }
    }
    look
}

pub(super) fn rp_filter(facts: &Facts) -> Look {
    let mut look = Look::ok("loose, or off");
    let devices = facts.tunnels().iter().map(|tunnel| &tunnel.device);
    for device in devices {
        let path = format!("net/ipv4/conf/{device}/rp_filter");
        let own = facts.sysctl(&path);
        // The kernel takes the greater of both, of which 1 is the strict one.
        let all = facts.sysctl("net/ipv4/conf/all/rp_filter");
        if own.max(all) == Some("1") {
            look.warn(
                format!("rp_filter of {device} is strict: what other nodes themselves send to pods of this node is dropped, as it has sources of the underlay"),
                run(set(&path, 2)),
            );
        }
    }
    look
}

/// Bridges that pods or containers hang on.
fn bridges(facts: &Facts) -> impl Iterator<Item = &LinkFacts> {
    let links = facts.host.links.iter();
    links.filter(|link| link.kind.as_deref() == Some("bridge"))
}

pub(super) fn br_netfilter(facts: &Facts) -> Look {
    if bridges(facts).next().is_none() {
        return Look::ok("no bridge");
    }
    let mut look = Look::ok("on");
    match facts.sysctl("net/bridge/bridge-nf-call-iptables") {
        None => look.warn(
            "the kernel module br_netfilter is not loaded: the firewall does not see what pods on one bridge send to each other",
            run("modprobe br_netfilter"),
        ),
        Some("0") => look.warn(
            "net.bridge.bridge-nf-call-iptables is 0: the firewall does not see what pods on one bridge send to each other",
            run(set("net.bridge.bridge-nf-call-iptables", 1)),
        ),
        Some(_) => {}
    }
    look
}

pub(super) fn linkdown(facts: &Facts) -> Look {
    let mut look = Look::ok("they do");
    let path = "net/ipv4/conf/all/ignore_routes_with_linkdown";
    if facts.sysctl(path) == Some("1") {
        let name = path.replace('/', ".");
        look.warn(
            format!(
                "{name} is 1: when the agent ends packets stop, although the fast path would go on"
            ),
            run(set(&name, 0)),
        );
    }
    look
}

pub(super) fn ipsec(facts: &Facts) -> Look {
    let mut look = Look::ok("no IPsec policy");
    match facts.host.ipsec {
        0 => {}
        policies => look.warn(
            format!("IPsec policies: {policies}; there is no fast path beside them, as it would pass them by"),
            advise("ip xfrm policy; if they are left over: ip xfrm policy flush"),
        ),
    }
    look
}

pub(super) fn clock(facts: &Facts) -> Look {
    let host = &facts.host;
    let mut look = match host.synchronized {
        Some(true) => Look::ok("it follows a server"),
        Some(false) | None => Look::ok("it is plausible; whether it follows a server is not known"),
    };
    let follow = || advise("have it follow a server: timedatectl set-ntp true, or chronyd");
    if host.now < WRITTEN {
        look.fail(
            "it is before 2026: certificates and leases are judged wrongly",
            follow(),
        );
    }
    if let Some(written) = host.subnet_env_written
        && written > host.now + AHEAD
    {
        let ahead = written - host.now;
        look.fail(
            format!("it was set back: subnet.env was written {ahead} s from now"),
            follow(),
        );
    }
    if host.synchronized == Some(false) {
        look.warn("it follows no server", follow());
    }
    look
}
