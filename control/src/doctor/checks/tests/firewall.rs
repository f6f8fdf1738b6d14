//! Rules that stand in the way.

use super::facts::{Case, Failure, Fine, Warning, chain, healthy, off, silent};
use super::{look, text};
use crate::doctor::facts::Facts;
use crate::host::firewall::HostChain;

/// Without a fast path and with a node that does not answer, these chains.
fn blocked(facts: &mut Facts, chains: Vec<HostChain>) {
    off(facts);
    silent(facts, 0);
    facts.host.chains = chains;
}

const DROPS: &str = "-A INPUT -p udp -m udp --dport 8472 -j DROP";

pub(super) const CASES: &[Case] = &[
    (
        "firewall",
        |f| blocked(f, vec![chain("filter", "INPUT", "ACCEPT", &[DROPS])]),
        Failure,
        "a rule drops UDP 8472",
        "iptables -D INPUT -p udp -m udp --dport 8472 -j DROP",
    ),
    (
        "firewall",
        |f| f.host.chains = vec![chain("filter", "INPUT", "ACCEPT", &[DROPS])],
        Warning,
        "the fast path passes it by",
        "iptables -D INPUT",
    ),
    (
        "firewall",
        |f| {
            let rule = "-A PREROUTING -p udp -m udp --dport 8472 -j DROP";
            f.host.chains = vec![chain("raw", "PREROUTING", "ACCEPT", &[rule])]
        },
        Warning,
        "a rule drops",
        "iptables -t raw -D PREROUTING",
    ),
    // A rule of iptables hides none of nft, and accepts nothing there.
    (
        "firewall",
        |f| {
            let accept = "-A INPUT -p udp -m udp --dport 8472 -j ACCEPT";
            let chains = vec![
                chain("filter", "INPUT", "DROP", &[accept]),
                chain("inet host", "input", "ACCEPT", &["udp dport 8472 drop"]),
            ];
            blocked(f, chains)
        },
        Failure,
        "a rule drops UDP 8472: `udp dport 8472 drop` (nft)",
        "nft delete rule inet host input handle N",
    ),
    (
        "firewall",
        |f| {
            let accept = "-A INPUT -p udp -m udp --dport 8472 -j ACCEPT";
            let chains = vec![
                chain("filter", "INPUT", "ACCEPT", &[accept]),
                chain("inet host", "input", "DROP", &["iif \"lo\" accept"]),
            ];
            blocked(f, chains)
        },
        Failure,
        "chain input of nft (table inet host) drops",
        "nft insert rule inet host input ip saddr NODES udp dport 8472 accept",
    ),
    (
        "firewall",
        |f| {
            let accept = "-A INPUT -p udp --dport 8472 -j ACCEPT";
            blocked(f, vec![chain("filter", "INPUT", "DROP", &[accept])])
        },
        Fine,
        "no rule",
        "",
    ),
    (
        "firewall",
        |f| {
            let lo = "-A INPUT -i lo -j ACCEPT";
            blocked(f, vec![chain("filter", "INPUT", "DROP", &[lo])])
        },
        Failure,
        "drops what no rule accepts",
        "nobody else",
    ),
    (
        "firewall",
        |f| {
            off(f);
            f.host.chains = vec![chain("filter", "INPUT", "DROP", &[])]
        },
        Fine,
        "no rule",
        "",
    ),
    (
        "forward",
        |f| {
            let jump = "-A FORWARD -j DOCKER";
            f.host.chains = vec![chain("filter", "FORWARD", "DROP", &[jump])]
        },
        Failure,
        "FORWARD of iptables drops",
        "iptables -I FORWARD -s 10.5.0.0/16 -j ACCEPT",
    ),
    (
        "forward",
        |f| {
            let accept = "-A FLANNEL-FWD -s 10.5.0.0/16 -j ACCEPT";
            f.host.chains = vec![
                chain("filter", "FORWARD", "DROP", &["-A FORWARD -j FLANNEL-FWD"]),
                chain("filter", "FLANNEL-FWD", "-", &[accept]),
            ]
        },
        Fine,
        "accepts",
        "",
    ),
    (
        "forward",
        |f| {
            let drop = "-A FORWARD -s 10.5.0.0/16 -j DROP";
            f.host.chains = vec![chain("filter", "FORWARD", "DROP", &[drop])]
        },
        Failure,
        "a rule drops the pods' packets",
        "iptables -D FORWARD -s 10.5.0.0/16",
    ),
    (
        "forward",
        |f| f.host.chains = vec![chain("inet host", "forward", "DROP", &[])],
        Failure,
        "chain forward of nft (table inet host) drops",
        "nft insert rule inet host forward ip saddr 10.5.0.0/16 accept",
    ),
];

#[test]
fn a_chain_that_ends_in_a_drop_is_closed_and_only_its_own_accepts_open_it() {
    let reject = "-A INPUT -j REJECT --reject-with icmp-host-prohibited";
    for (rules, closed) in [
        (vec![reject], true),
        (vec!["-A INPUT -j DROP"], true),
        (
            vec!["-A INPUT -p udp -m udp --sport 8472 -j ACCEPT", reject],
            true,
        ),
        (
            vec!["-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", reject],
            true,
        ),
        (
            vec!["-A INPUT -p udp -m udp --dport 8472 -j ACCEPT", reject],
            false,
        ),
        (vec!["-A INPUT -s 10.0.0.0/24 -j ACCEPT", reject], false),
        (vec!["-A INPUT -s 10.0.9.0/24 -j ACCEPT", reject], true),
        (vec!["-A INPUT -j own", reject], false),
        (
            vec!["-A INPUT -i eth0 -j ACCEPT", "-A INPUT -j DROP"],
            false,
        ),
        (
            vec!["-A INPUT -m conntrack --ctstate INVALID -j DROP"],
            false,
        ),
    ] {
        let mut facts = healthy();
        let own = "-A own -p udp -m udp --dport 8472 -j ACCEPT";
        let output = "-A OUTPUT -p udp -m udp --dport 8472 -j ACCEPT";
        let chains = vec![
            chain("filter", "INPUT", "ACCEPT", &rules),
            chain("filter", "own", "-", &[own]),
            chain("filter", "OUTPUT", "ACCEPT", &[output]),
        ];
        blocked(&mut facts, chains);
        let found = look(&facts, "firewall");
        let verdict = if closed { Failure } else { Fine };
        assert_eq!(found.verdict, verdict, "{rules:?}: {found:?}");
    }
}

#[test]
fn firewalld_is_followed_through_its_zones() {
    let chains = |allow: &[&str]| {
        let input = [
            "ct state { established, related } accept",
            "iifname \"lo\" accept",
            "jump filter_INPUT_ZONES",
            "reject with icmpx admin-prohibited",
        ];
        let table = "inet firewalld";
        vec![
            chain(table, "filter_INPUT", "ACCEPT", &input),
            chain(table, "filter_INPUT_ZONES", "-", &["goto filter_IN_public"]),
            chain(
                table,
                "filter_IN_public",
                "-",
                &["jump filter_IN_public_allow"],
            ),
            chain(table, "filter_IN_public_allow", "-", allow),
        ]
    };
    let open = ["tcp dport 22 accept", "udp dport 8472 ct state new accept"];
    for (allow, verdict) in [(&open[..1], Failure), (&open[..], Fine)] {
        let mut facts = healthy();
        blocked(&mut facts, chains(allow));
        assert_eq!(look(&facts, "firewall").verdict, verdict, "{allow:?}");
    }
}

#[test]
fn no_command_opens_the_port_to_everybody() {
    let mut facts = healthy();
    blocked(&mut facts, vec![chain("filter", "INPUT", "DROP", &[])]);
    let found = look(&facts, "firewall");
    let runs = |r: &&super::Remedy| matches!(r, super::Remedy::Run(_));
    assert_eq!(found.remedies.iter().find(runs).map(text), None);
}
