//! Settings of the host.

use super::facts::{Case, Failure, Fine, Warning, node, set};

pub(super) const CASES: &[Case] = &[
    (
        "forwarding",
        |f| set(f, "net/ipv4/ip_forward", "0"),
        Failure,
        "net.ipv4.ip_forward is 0",
        "sysctl -w net.ipv4.ip_forward=1",
    ),
    (
        "forwarding",
        |f| set(f, "net/ipv6/conf/all/forwarding", "0"),
        Fine,
        "on",
        "",
    ),
    (
        "forwarding",
        |f| {
            node(f).networks.push("fd00::/56".parse().unwrap());
            set(f, "net/ipv6/conf/all/forwarding", "0")
        },
        Failure,
        "net.ipv6.conf.all.forwarding is 0",
        "sysctl -w",
    ),
    (
        "rp-filter",
        |f| set(f, "net/ipv4/conf/flannel.1/rp_filter", "1"),
        Warning,
        "flannel.1 is strict",
        "sysctl -w net/ipv4/conf/flannel.1/rp_filter=2",
    ),
    (
        "rp-filter",
        |f| {
            set(f, "net/ipv4/conf/flannel.1/rp_filter", "0");
            set(f, "net/ipv4/conf/all/rp_filter", "1")
        },
        Warning,
        "flannel.1 is strict",
        "rp_filter=2",
    ),
    (
        "rp-filter",
        |f| set(f, "net/ipv4/conf/all/rp_filter", "1"),
        Fine,
        "loose",
        "",
    ),
    (
        "br-netfilter",
        |f| {
            f.host.sysctls.remove("net/bridge/bridge-nf-call-iptables");
        },
        Warning,
        "not loaded",
        "modprobe br_netfilter",
    ),
    (
        "br-netfilter",
        |f| set(f, "net/bridge/bridge-nf-call-iptables", "0"),
        Warning,
        "is 0",
        "sysctl -w net.bridge",
    ),
    (
        "br-netfilter",
        |f| {
            f.host.links.remove(2);
            f.host.sysctls.clear()
        },
        Fine,
        "no bridge",
        "",
    ),
    (
        "linkdown",
        |f| set(f, "net/ipv4/conf/all/ignore_routes_with_linkdown", "1"),
        Warning,
        "is 1",
        "=0",
    ),
    (
        "ipsec",
        |f| f.host.ipsec = 2,
        Warning,
        "policies: 2",
        "ip xfrm policy",
    ),
    (
        "clock",
        |f| f.host.now = 1_000,
        Failure,
        "before 2026",
        "timedatectl",
    ),
    (
        "clock",
        |f| f.host.subnet_env_written = Some(1_800_001_000),
        Failure,
        "set back",
        "timedatectl",
    ),
    (
        "clock",
        |f| f.host.synchronized = Some(false),
        Warning,
        "follows no server",
        "timedatectl",
    ),
    (
        "clock",
        |f| f.host.synchronized = None,
        Fine,
        "not known",
        "",
    ),
];
