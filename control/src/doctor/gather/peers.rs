//! Asking all other nodes at the same time.

use crate::doctor::facts::PeerFacts;
use crate::family::Family;
use crate::ping::{FORGOTTEN, Target};
use crate::probe::{Outcome, Patience, Pinger, Probe, ProbeError, What};
use crate::status::{NodeStatus, PeerStatus};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

/// How long nodes are waited for that do not answer: on the other side of the world and back
/// twice, three times.
const PATIENCE: Patience = Patience {
    tries: 3,
    every: Duration::from_millis(500),
};

/// Nodes that are asked at the same time; more wait for their turn.
const AT_A_TIME: usize = 200;

/// Bytes of a small packet.
const SMALL: usize = 84;

/// A question to a node, and where its outcome belongs.
type Question = (Probe, fn(&mut PeerFacts) -> &mut Outcome);

/// What became of packets to each of `peers` of a node that says `status`.
pub(super) fn ask(status: &NodeStatus, peers: &[PeerStatus]) -> Result<Vec<PeerFacts>, ProbeError> {
    let family = |peer: &PeerStatus| Family::of(peer.public);
    Pinger::in_turns(peers, family, AT_A_TIME, |pinger, some| {
        ask_some(pinger, status, some)
    })
}

fn ask_some(
    pinger: &mut Pinger,
    status: &NodeStatus,
    peers: &[&PeerStatus],
) -> Result<Vec<PeerFacts>, ProbeError> {
    let mut facts: Vec<PeerFacts> = peers
        .iter()
        .map(|&peer| PeerFacts::silent(peer.clone()))
        .collect();
    let (mut probes, mut places) = (Vec::new(), Vec::new());
    for (i, peer) in peers.iter().enumerate() {
        for (probe, place) in questions(status, peer) {
            probes.push(probe);
            places.push((i, place));
        }
    }
    let outcomes = pinger.round(&probes, PATIENCE)?;
    for ((i, place), outcome) in places.into_iter().zip(outcomes) {
        *place(&mut facts[i]) = outcome;
    }
    ask_workers(pinger, status, &mut facts)?;
    for fact in facts.iter_mut().filter(|fact| fact.peer.device.is_none()) {
        // The kernel routes pods' packets to the node as they are.
        fact.tunnel = fact.underlay.clone();
        fact.tunnel_whole = fact.underlay_whole.clone();
        fact.tunnel_long = fact.underlay_long.clone();
    }
    Ok(facts)
}

/// Ask those that answer on the fast path by the workers as well, once flows have forgotten their ways:
/// a firewall that drops the port stops the workers' packets alone.
fn ask_workers(
    pinger: &mut Pinger,
    status: &NodeStatus,
    facts: &mut [PeerFacts],
) -> Result<(), ProbeError> {
    let on_fast_path = |fact: &&mut PeerFacts| {
        let family = Family::of(fact.peer.public);
        let tunnel = status.tunnel_to(&fact.peer);
        fact.tunnel.is_answered() && tunnel.is_some_and(|tunnel| tunnel.parts_icmp(family))
    };
    let mut these: Vec<&mut PeerFacts> = facts.iter_mut().filter(on_fast_path).collect();
    if these.is_empty() {
        return Ok(());
    }
    thread::sleep(FORGOTTEN);
    let probes = these.iter().map(|fact| Probe {
        to: Target::node(&fact.peer).address,
        from: status.own_end(Family::of(fact.peer.public)),
        what: What::Time { len: SMALL },
    });
    let probes: Vec<Probe> = probes.collect();
    for (fact, outcome) in these.iter_mut().zip(pinger.round(&probes, PATIENCE)?) {
        fact.workers = Some(outcome);
    }
    Ok(())
}

/// All that a node is asked.
fn questions(status: &NodeStatus, peer: &PeerStatus) -> Vec<Question> {
    let family = Family::of(peer.public);
    let local = status.local(family);
    let tunnel = status.tunnel_to(peer);
    let inner = status.mtu_to(peer);
    let outer = inner + tunnel.map_or(0, |tunnel| tunnel.overhead() as usize);
    let echo = |to: IpAddr, from: Option<IpAddr>, len: usize, df: bool| Probe {
        to,
        from,
        what: What::Echo { len, df },
    };
    let public = peer.public;
    let mut all: Vec<Question> = vec![
        (
            echo(public, local, SMALL, true),
            place(|facts| &mut facts.underlay),
        ),
        (
            echo(public, local, outer, true),
            place(|facts| &mut facts.underlay_whole),
        ),
        (
            echo(public, local, outer, false),
            place(|facts| &mut facts.underlay_long),
        ),
    ];
    let Some(tunnel) = tunnel else {
        return all;
    };
    let end = Target::node(peer).address;
    let own = status.own_end(family);
    let port = Probe {
        to: public,
        from: local,
        what: What::Datagram(tunnel.port),
    };
    all.extend([
        (
            echo(end, own, SMALL, true),
            place(|facts| &mut facts.tunnel),
        ),
        (
            echo(end, own, inner, true),
            place(|facts| &mut facts.tunnel_whole),
        ),
        (
            echo(end, own, inner, false),
            place(|facts| &mut facts.tunnel_long),
        ),
        (port, place(|facts| &mut facts.port)),
    ]);
    if local.is_some() && own.is_some() {
        all.extend([
            (
                echo(end, local, SMALL, true),
                place(|facts| &mut facts.there),
            ),
            (
                echo(public, own, SMALL, true),
                place(|facts| &mut facts.back),
            ),
        ]);
    }
    all
}

/// Closures of one type.
fn place(place: fn(&mut PeerFacts) -> &mut Outcome) -> fn(&mut PeerFacts) -> &mut Outcome {
    place
}
