//! Rules that stand in the way.

use super::facts::{Case, Failure, Fine, Warning, closed, off, silent};

pub(super) const CASES: &[Case] = &[
    (
        "firewall",
        |f| {
            off(f);
            f.host.port_rules =
                vec!["`-A INPUT -p udp -m udp --dport 8472 -j DROP` (iptables)".to_owned()]
        },
        Failure,
        "a rule drops UDP 8472",
        "iptables -D INPUT -p udp -m udp --dport 8472 -j DROP",
    ),
    (
        "firewall",
        |f| {
            f.host.port_rules =
                vec!["`-A INPUT -p udp -m udp --dport 8472 -j DROP` (iptables)".to_owned()]
        },
        Warning,
        "the fast path passes it by",
        "iptables -D INPUT",
    ),
    (
        "firewall",
        |f| f.host.port_rules = vec!["`udp dport 8472 drop` (nft)".to_owned()],
        Warning,
        "udp dport 8472 drop",
        "nft -a list",
    ),
    (
        "firewall",
        |f| {
            f.host.port_rules =
                vec!["`-A INPUT -p udp --dport 8472 -j ACCEPT` (iptables)".to_owned()]
        },
        Fine,
        "no rule",
        "",
    ),
    (
        "firewall",
        |f| {
            off(f);
            silent(f, 0);
            f.host.closed = vec![closed("input", &["-A INPUT -i lo -j ACCEPT"])]
        },
        Failure,
        "drops what no rule accepts",
        "iptables -I INPUT -p udp --dport 8472 -j ACCEPT",
    ),
    (
        "firewall",
        |f| {
            off(f);
            f.host.closed = vec![closed("input", &[])]
        },
        Fine,
        "no rule",
        "",
    ),
    (
        "forward",
        |f| f.host.closed = vec![closed("forward", &["-A FORWARD -j DOCKER"])],
        Failure,
        "FORWARD of iptables drops",
        "iptables -I FORWARD -s 10.5.0.0/16 -j ACCEPT",
    ),
    (
        "forward",
        |f| f.host.closed = vec![closed("forward", &["-A FORWARD -j FLANNEL-FWD"])],
        Fine,
        "accepts",
        "",
    ),
];
