//! Rules that stand in the way.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{CheckVerdict, Look, Remedy, advise, run};
use crate::host::firewall::ClosedChain;

pub(super) fn input(facts: &Facts) -> Look {
    let port = facts.port();
    let mut look = Look::ok(format!("no rule against UDP {port}"));
    // What passes the firewall by is not stopped by it; what the workers carry is.
    let verdict = match facts.has_fast_path() {
        true => CheckVerdict::Warning,
        false => CheckVerdict::Failure,
    };
    let passes = match verdict {
        CheckVerdict::Warning => "; the fast path passes it by, the workers' packets are dropped",
        _ => "",
    };
    for rule in facts.host.port_rules.iter().filter(|rule| drops(rule)) {
        look.add(
            verdict,
            &format!("a rule drops UDP {port}: {rule}{passes}"),
            without(rule),
        );
    }
    let of_input = |chain: &&ClosedChain| chain.hook == "input";
    for chain in facts.host.closed.iter().filter(of_input) {
        if accepts_port(&facts.host.port_rules, chain) || all_answer(facts) {
            continue;
        }
        let program = &chain.program;
        look.add(
            verdict,
            &format!(
                "INPUT of {program} drops what no rule accepts, and none names UDP {port}{passes}"
            ),
            run(format!("iptables -I INPUT -p udp --dport {port} -j ACCEPT")),
        );
        look.or(advise(
            "make it last: write it down where the host's firewall has its rules",
        ));
    }
    look
}

/// Whether a rule stops what it matches. A rule is `what` (program).
fn drops(rule: &str) -> bool {
    let text = rule.trim_start_matches('`');
    let (text, _) = text.rsplit_once('`').unwrap_or((text, ""));
    // Where it is answered: what this node sends has the port as well.
    let mut words = text.split_whitespace();
    words.any(|word| matches!(word, "DROP" | "REJECT" | "drop" | "reject"))
}

/// How such a rule is removed.
fn without(rule: &str) -> Remedy {
    let listed = rule
        .strip_prefix('`')
        .and_then(|rest| rest.rsplit_once("` ("));
    match listed {
        Some((text, program)) => match text.strip_prefix("-A ") {
            Some(rest) => {
                let program = program.trim_end_matches(')');
                // A listing does not tell the table of a chain; all but this are of `filter`.
                let table = match rest.starts_with("PREROUTING") || rest.starts_with("POSTROUTING")
                {
                    true => "-t raw ",
                    false => "",
                };
                run(format!("{program} {table}-D {rest}"))
            }
            None => advise("nft -a list ruleset; nft delete rule ... handle N"),
        },
        None => advise("remove it"),
    }
}

/// Whether a rule of the chain, or one that names the port, lets the overlay's datagrams in.
fn accepts_port(named: &[String], chain: &ClosedChain) -> bool {
    let accepts = |rule: &str| rule.contains("ACCEPT") || rule.contains("accept");
    let mut any = chain.rules.iter().map(|rule| rule.trim());
    named.iter().any(|rule| accepts(rule))
        || any.any(|rule| matches!(rule, "-A INPUT -j ACCEPT" | "accept"))
}

/// Whether all nodes that were asked have answered through the tunnel, so that no rule is against
/// it. On the fast path answers say nothing of the firewall.
fn all_answer(facts: &Facts) -> bool {
    let mut peers = facts.peers.iter();
    !facts.has_fast_path() && !facts.peers.is_empty() && peers.all(|peer| peer.tunnel.is_answered())
}

pub(super) fn forward(facts: &Facts) -> Look {
    let mut look = Look::ok("FORWARD accepts them");
    let networks = facts.status().map_or(&[][..], |status| &status.networks);
    let of_forward = |chain: &&ClosedChain| chain.hook == "forward";
    for chain in facts.host.closed.iter().filter(of_forward) {
        let lets_pass = |rule: &String| {
            rule.contains("FLANNEL-FWD")
                || rule.trim() == "-A FORWARD -j ACCEPT"
                || networks
                    .iter()
                    .any(|network| rule.contains(&network.trunc().to_string()))
        };
        if chain.rules.iter().any(lets_pass) {
            continue;
        }
        let program = &chain.program;
        look.fail(
            format!("FORWARD of {program} drops what no rule accepts, and none accepts the pods' packets"),
            advise("let the agent look after it: -iptables-forward-rules=true, the default"),
        );
        for network in networks.iter().filter(|network| network.addr().is_ipv4()) {
            let network = network.trunc();
            look.or(run(format!("iptables -I FORWARD -s {network} -j ACCEPT")));
            look.or(run(format!("iptables -I FORWARD -d {network} -j ACCEPT")));
        }
    }
    look
}
