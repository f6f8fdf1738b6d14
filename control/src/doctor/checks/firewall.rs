//! Rules that stand in the way.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{CheckVerdict, Look, Remedy, advise, run};
use crate::host::firewall::{Fate, HostChain, PacketKind, fate};
use ipnet::IpNet;

/// Chains that the overlay's datagrams come by, and that they leave by.
const INWARDS: [&str; 2] = ["prerouting", "input"];
const OUTWARDS: [&str; 2] = ["output", "postrouting"];

pub(super) fn input(facts: &Facts) -> Look {
    let port = facts.port();
    let mut look = Look::ok(format!("no rule against UDP {port}"));
    // What passes the firewall by is not stopped by it; what the workers carry is.
    let (verdict, passes) = match facts.has_fast_path() {
        true => (
            CheckVerdict::Warning,
            "; the fast path passes it by, the workers' packets are dropped",
        ),
        false => (CheckVerdict::Failure, ""),
    };
    for (base, inwards) in bases(facts, &INWARDS, true).chain(bases(facts, &OUTWARDS, false)) {
        let name = name(base);
        match fate(&facts.host.chains, base, &datagrams(facts, inwards)) {
            Fate::Dropped {
                chain,
                rule,
                named: true,
            } => look.add(
                verdict,
                &format!(
                    "a rule drops UDP {port}: `{rule}` ({}){passes}",
                    base.program
                ),
                without(base, &chain, &rule),
            ),
            fate if inwards && is_closed(base, &fate) && !all_answer(facts) => {
                look.add(
                    verdict,
                    &format!(
                        "{name} drops what no rule accepts, and none accepts UDP {port}{passes}"
                    ),
                    let_in(base, port),
                );
                look.or(advise(
                    "make it last: write it down where the host's firewall has its rules",
                ));
            }
            _ => {}
        }
    }
    look
}

fn bases<'a>(
    facts: &'a Facts,
    hooks: &'a [&str],
    inwards: bool,
) -> impl Iterator<Item = (&'a HostChain, bool)> {
    let chains = facts.host.chains.iter();
    chains
        .filter(|chain| {
            chain
                .hook
                .as_deref()
                .is_some_and(|hook| hooks.contains(&hook))
        })
        .map(move |chain| (chain, inwards))
}

/// The datagrams of other nodes, or to them.
fn datagrams(facts: &Facts, inwards: bool) -> PacketKind {
    let nodes = facts.leases.iter().map(|lease| lease.public.into());
    let nodes: Vec<IpNet> = nodes.collect();
    let own = facts
        .status()
        .map_or(&[][..], |status| &status.lease.public);
    let own: Vec<IpNet> = own.iter().map(|&public| public.into()).collect();
    let (from, to) = if inwards { (nodes, own) } else { (own, nodes) };
    PacketKind {
        port: Some(facts.port()),
        from,
        to,
        device: facts
            .status()
            .filter(|_| inwards)
            .map(|status| status.underlay.name.clone()),
    }
}

/// The chain, for people.
fn name(chain: &HostChain) -> String {
    let HostChain {
        program,
        table,
        name,
        ..
    } = chain;
    match program.as_str() {
        "nft" => format!("chain {name} of nft (table {table})"),
        _ => format!("{name} of {program}"),
    }
}

/// Whether a base chain drops what is left, by its policy or by its last rule.
fn is_closed(base: &HostChain, fate: &Fate) -> bool {
    match fate {
        Fate::Accepted => false,
        Fate::Dropped { .. } => true,
        Fate::Passed => base.drops,
    }
}

/// How a rule is removed.
fn without(base: &HostChain, chain: &str, rule: &str) -> Remedy {
    let (program, table) = (&base.program, &base.table);
    match rule.strip_prefix("-A ") {
        Some(rest) => run(format!("{program}{} -D {rest}", of_table(table))),
        None => advise(format!(
            "nft -a list chain {table} {chain}; nft delete rule {table} {chain} handle N"
        )),
    }
}

fn of_table(table: &str) -> String {
    match table {
        "filter" => String::new(),
        table => format!(" -t {table}"),
    }
}

/// How datagrams to the port are let into a chain. Whoever can send them is in the pods' network.
fn let_in(base: &HostChain, port: u16) -> Remedy {
    let (table, chain) = (&base.table, &base.name);
    let command = match base.program.as_str() {
        "nft" => format!("nft insert rule {table} {chain} ip saddr NODES udp dport {port} accept"),
        program => {
            let table = of_table(table);
            format!("{program}{table} -I {chain} -s NODES -p udp --dport {port} -j ACCEPT")
        }
    };
    advise(format!(
        "let the nodes' addresses in, and nobody else, as whoever can send to the port can send to pods: {command}"
    ))
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
    for (base, _) in bases(facts, &["forward"], false) {
        for network in networks.iter().filter(|network| network.addr().is_ipv4()) {
            let network = network.trunc();
            let packets = PacketKind {
                from: vec![network],
                to: vec![network],
                ..PacketKind::default()
            };
            match fate(&facts.host.chains, base, &packets) {
                Fate::Dropped {
                    chain,
                    rule,
                    named: true,
                } => look.fail(
                    format!(
                        "a rule drops the pods' packets: `{rule}` ({})",
                        base.program
                    ),
                    without(base, &chain, &rule),
                ),
                fate if is_closed(base, &fate) => {
                    look.fail(
                        format!(
                            "{} drops what no rule accepts, and none accepts the packets of {network}",
                            name(base)
                        ),
                        advise("let the agent look after it: -iptables-forward-rules=true, the default"),
                    );
                    for command in let_through(base, network) {
                        look.or(run(command));
                    }
                }
                _ => {}
            }
        }
    }
    look
}

/// How the pods' packets are let through a chain.
fn let_through(base: &HostChain, network: IpNet) -> [String; 2] {
    let (table, chain) = (&base.table, &base.name);
    match base.program.as_str() {
        "nft" => ["saddr", "daddr"]
            .map(|end| format!("nft insert rule {table} {chain} ip {end} {network} accept")),
        program => {
            let table = of_table(table);
            ["-s", "-d"].map(|end| format!("{program}{table} -I {chain} {end} {network} -j ACCEPT"))
        }
    }
}
