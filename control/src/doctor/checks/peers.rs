//! The other nodes.

use super::some;
use crate::doctor::facts::{Facts, PeerFacts};
use crate::doctor::finding::NO_AGENT;
use crate::doctor::finding::{Look, advise, run};
use crate::probe::{Outcome, Refusal, Why};

pub(super) fn known(facts: &Facts) -> Look {
    if facts.agent.is_err() {
        return Look::unknown(NO_AGENT);
    }
    let mut look = Look::ok(format!("{}", facts.peers_known));
    if facts.peers_known == 0 {
        look.warn(
            "none: their leases have another backend or prefix, or there is no other node",
            advise("weft leases list; the log names leases that are skipped"),
        );
    }
    look
}

/// The nodes that were asked, or what keeps them from being judged.
fn asked(facts: &Facts) -> Result<&[PeerFacts], Look> {
    if facts.agent.is_err() {
        return Err(Look::unknown(NO_AGENT));
    }
    if let Some(reason) = &facts.unasked {
        return Err(Look::unknown(reason));
    }
    match facts.peers.is_empty() {
        true => Err(Look::unknown("no node was asked")),
        false => Ok(&facts.peers),
    }
}

pub(super) fn routes(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let mut look = Look::ok("they do");
    for peer in peers {
        let (subnet, device) = (peer.peer.subnet, &peer.peer.device);
        let Some(device) = device
            .as_ref()
            .filter(|device| Some(*device) != peer.route.as_ref())
        else {
            continue;
        };
        let instead = match &peer.route {
            Some(other) => format!("by {other}"),
            None => "nowhere".to_owned(),
        };
        look.fail(
            format!("packets to {subnet} go {instead} and not by {device}"),
            advise(format!(
                "see which route it is, and remove it: ip route get {}",
                subnet.network()
            )),
        );
    }
    look
}

/// Whether a node that does not answer is of a kind, and what that means.
type Kind = (fn(&PeerFacts) -> bool, &'static str);

/// What a silent node is like, the clearest first.
const KINDS: [Kind; 6] = [
    (
        nobody_there,
        "nobody has the UDP port there, or a firewall rejects",
    ),
    (
        gets_there,
        "datagrams get there, and what is sent from there does not get here",
    ),
    (
        gets_here,
        "what is sent from there gets here, and datagrams do not get there",
    ),
    (is_prohibited, "a firewall on the way rejects datagrams"),
    (
        is_up,
        "the node answers on the underlay, and UDP does not pass, one way or both",
    ),
    (
        |_| true,
        "no answer on the underlay either: the node is down, or the way to it",
    ),
];

pub(super) fn reach(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let answered = peers
        .iter()
        .filter(|peer| peer.tunnel.is_answered())
        .count();
    let mut look = Look::ok(format!("{answered} of {}", peers.len()));
    let silent = peers.iter().filter(|peer| !peer.tunnel.is_answered());
    let mut left: Vec<&PeerFacts> = silent.collect();
    for (is_it, why) in KINDS {
        let (these, others): (Vec<&PeerFacts>, Vec<&PeerFacts>) =
            left.into_iter().partition(|peer| is_it(peer));
        left = others;
        if let Some(first) = these.first() {
            let names: Vec<String> = these
                .iter()
                .map(|peer| peer.peer.public.to_string())
                .collect();
            let silent = these.len();
            look.fail(
                format!(
                    "{silent} of {} do not answer ({}): {why}",
                    peers.len(),
                    some(&names)
                ),
                advise(remedy(facts, first)),
            );
        }
    }
    look
}

pub(super) fn workers(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let by_workers = peers.iter().filter_map(|peer| peer.workers.as_ref());
    let (answered, all) = by_workers.fold((0, 0), |(answered, all), outcome| {
        (answered + usize::from(outcome.is_answered()), all + 1)
    });
    if all == 0 {
        return Look::ok("nothing goes another way than what was asked by");
    }
    let mut look = Look::ok(format!("{answered} of {all}"));
    let lost = |peer: &&PeerFacts| peer.workers.as_ref().is_some_and(|by| !by.is_answered());
    let names: Vec<String> = peers
        .iter()
        .filter(lost)
        .map(|peer| peer.peer.public.to_string())
        .collect();
    if let Some(first) = names.first() {
        let port = facts.port();
        look.warn(
            format!(
                "{} of {all} answer on the fast path alone ({}): floods, trains and long packets are lost, or a firewall drops ICMP timestamps",
                names.len(),
                some(&names)
            ),
            advise(format!(
                "on {first} and here: look for rules that drop UDP {port} (INPUT, OUTPUT), which the fast path passes by; weft doctor there tells more"
            )),
        );
    }
    look
}

/// What is to be done about a node that does not answer.
fn remedy(facts: &Facts, peer: &PeerFacts) -> String {
    let (port, public) = (facts.port(), peer.peer.public);
    let allow = format!("iptables -I INPUT -p udp --dport {port} -j ACCEPT");
    match peer {
        peer if nobody_there(peer) => format!(
            "on {public}: systemctl start weft (or flanneld); if it runs: {allow}; weft doctor there tells more"
        ),
        peer if gets_there(peer) => format!(
            "here: {allow}; and let UDP {port} from {public} in, in security groups and firewalls between"
        ),
        peer if gets_here(peer) || is_prohibited(peer) || is_up(peer) => format!(
            "on {public}: {allow}; and let UDP {port} to it pass, in security groups and firewalls between"
        ),
        _ => format!(
            "ping {public}; ip route get {public}; is it up, and its address in the lease the right one?"
        ),
    }
}

fn nobody_there(peer: &PeerFacts) -> bool {
    matches!(peer.port, Outcome::Refused(Refusal { why: Why::Port, .. }))
}

fn gets_there(peer: &PeerFacts) -> bool {
    peer.there.is_answered() && !peer.back.is_answered()
}

fn gets_here(peer: &PeerFacts) -> bool {
    peer.back.is_answered() && !peer.there.is_answered()
}

fn is_prohibited(peer: &PeerFacts) -> bool {
    matches!(
        peer.port,
        Outcome::Refused(Refusal {
            why: Why::Prohibited,
            ..
        })
    )
}

fn is_up(peer: &PeerFacts) -> bool {
    peer.underlay.is_answered()
}

pub(super) fn agents(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let mut look = Look::ok("nobody refuses datagrams");
    let by_itself = peers
        .iter()
        .filter(|peer| peer.tunnel.is_answered() && nobody_there(peer));
    let names: Vec<String> = by_itself.map(|peer| peer.peer.public.to_string()).collect();
    if !names.is_empty() {
        look.warn(
            format!("nobody has the UDP port on {}: the fast path goes on there for an hour without an agent", some(&names)),
            advise(format!("on {}: systemctl start weft", names[0])),
        );
    }
    look
}

pub(super) fn path_mtu(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let mut look = Look::ok(match facts.tunnels().first() {
        Some(tunnel) => format!("{} bytes do", tunnel.mtu),
        None => "they do".to_owned(),
    });
    let narrow = |peer: &&PeerFacts| peer.tunnel.is_answered() && !peer.tunnel_whole.is_answered();
    let is_told = |peer: &&PeerFacts| peer.tunnel_whole.too_long().is_some();
    let (learned, lost): (Vec<&PeerFacts>, Vec<&PeerFacts>) =
        peers.iter().filter(narrow).partition(is_told);
    let names = |peers: &[&PeerFacts]| {
        let names: Vec<String> = peers
            .iter()
            .map(|peer| peer.peer.public.to_string())
            .collect();
        some(&names)
    };
    if let Some(first) = learned.first() {
        let told = told(&[&first.tunnel_whole]);
        look.warn(
            format!("the path to {} takes less than the tunnel's device, and senders are told{told}", names(&learned)),
            advise("the MTU of the links between; or \"Backend\": {\"MTU\": N} in the network config, with the least of them, and restart the agents"),
        );
    }
    if let Some(first) = lost.first() {
        let told = told(&[&first.underlay_whole]);
        look.fail(
            format!("packets as long as the device takes do not get to {}, and nobody says so to their senders{told}", names(&lost)),
            advise(format!("weft ping {} measures it; then the MTU of the links between, or \"Backend\": {{\"MTU\": N}} with the least of them", first.peer.public)),
        );
    }
    // They pass because routers cut the outer ones.
    let cut = |peer: &&PeerFacts| {
        peer.tunnel_whole.is_answered()
            && peer.underlay.is_answered()
            && !peer.underlay_whole.is_answered()
    };
    let cut: Vec<&PeerFacts> = peers.iter().filter(cut).collect();
    if let Some(first) = cut.first() {
        let told = told(&[&first.underlay_whole]);
        let outer = facts
            .tunnels()
            .first()
            .map_or(0, |tunnel| tunnel.mtu + tunnel.overhead());
        look.warn(
            format!("outer packets of {outer} bytes to {} are fragmented on the way, which costs{told}", names(&cut)),
            advise("\"Backend\": {\"MTU\": N} in the network config, with the least MTU between the nodes, and restart the agents"),
        );
    }
    look
}

/// What is said of the length that passes.
fn told(outcomes: &[&Outcome]) -> String {
    let mut said = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(format!(": {refusal}")),
        Outcome::TooLong => Some(": the underlay's device here does not take them".to_owned()),
        _ => None,
    });
    said.next().unwrap_or_default()
}

pub(super) fn fragments(facts: &Facts) -> Look {
    let peers = match asked(facts) {
        Ok(peers) => peers,
        Err(look) => return look,
    };
    let mut look = Look::ok("they do");
    let lost = |peer: &&PeerFacts| {
        let tunnel = peer.tunnel.is_answered() && !peer.tunnel_long.is_answered();
        tunnel || peer.underlay.is_answered() && !peer.underlay_long.is_answered()
    };
    let lost: Vec<String> = peers
        .iter()
        .filter(lost)
        .map(|peer| peer.peer.public.to_string())
        .collect();
    if let Some(first) = lost.first() {
        look.fail(
            format!("small packets reach {}, and long ones do not even in pieces", some(&lost)),
            advise("\"Backend\": {\"MTU\": N} in the network config, with the least MTU between the nodes; or -outer-df, with which it is found out"),
        );
        look.or(run(format!("weft ping {first}")));
    }
    look
}
