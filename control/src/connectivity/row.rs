//! One node to all others.

use crate::family::Family;
use crate::ping::Target;
use crate::probe::{Outcome, Patience, Pinger, Probe, ProbeError, Summary, What};
use crate::status::{NodeStatus, PeerStatus};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// How long an answer is waited for.
const WAIT: Duration = Duration::from_secs(1);

/// Nodes that are asked at the same time; more wait for their turn.
const AT_A_TIME: usize = 400;

/// Bytes of a small packet.
const SMALL: usize = 84;

/// What one node measures. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of this form.
    pub version: u32,
    /// The agent.
    pub agent: String,
    /// The node's subnets.
    pub subnets: Vec<IpNet>,
    /// The addresses that others send to.
    pub public: Vec<IpAddr>,
    /// All nodes that it knows.
    pub peers: Vec<Reached>,
}

/// What came of one other node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Its subnet.
    pub subnet: IpNet,
    /// Its underlay address.
    pub public: IpAddr,
    /// Requests.
    pub sent: u32,
    /// Answers.
    pub received: u32,
    /// Round trips; `None` without an answer.
    pub times: Option<Summary>,
    /// Whether a packet as long as the tunnel takes, not to be fragmented, came back.
    pub whole: bool,
    /// What somebody says who does not let requests pass.
    pub refusal: Option<String>,
}

/// Ask all nodes that a node knows, `count` times each, all at the same time.
pub fn measure(
    agent: &str,
    status: &NodeStatus,
    peers: &[PeerStatus],
    count: u32,
) -> Result<Row, ProbeError> {
    let family = |peer: &PeerStatus| Family::of(peer.public);
    let entries = Pinger::in_turns(peers, family, AT_A_TIME, |pinger, some| {
        ask(pinger, status, some, count)
    })?;
    Ok(Row {
        version: 1,
        agent: agent.to_owned(),
        subnets: status.lease.subnets.clone(),
        public: status.lease.public.clone(),
        peers: entries,
    })
}

fn ask(
    pinger: &mut Pinger,
    status: &NodeStatus,
    peers: &[&PeerStatus],
    count: u32,
) -> Result<Vec<Reached>, ProbeError> {
    let small: Vec<Probe> = peers
        .iter()
        .map(|peer| probe(status, peer, SMALL))
        .collect();
    let once = Patience {
        tries: 1,
        every: WAIT,
    };
    let mut times = vec![Vec::new(); peers.len()];
    let mut refusals = vec![None; peers.len()];
    for _ in 0..count {
        for (i, outcome) in pinger.round(&small, once)?.into_iter().enumerate() {
            match outcome {
                Outcome::Answered(time) => times[i].push(time),
                Outcome::Refused(refusal) => refusals[i] = Some(refusal.to_string()),
                Outcome::Unsent(reason) => refusals[i] = Some(reason),
                Outcome::TooLong | Outcome::Silent => {}
            }
        }
    }
    // One that is silent is so with long packets as well.
    let there = |i: &usize| !times[*i].is_empty();
    let there: Vec<usize> = (0..peers.len()).filter(there).collect();
    let long = there
        .iter()
        .map(|&i| probe(status, peers[i], status.mtu_to(peers[i])));
    let long: Vec<Probe> = long.collect();
    let again = Patience {
        tries: 2,
        every: WAIT / 2,
    };
    let mut whole = vec![false; peers.len()];
    for (i, outcome) in there.into_iter().zip(pinger.round(&long, again)?) {
        whole[i] = outcome.is_answered();
    }
    let entry = |(i, peer): (usize, &&PeerStatus)| Reached {
        subnet: peer.subnet,
        public: peer.public,
        sent: count,
        received: times[i].len() as u32,
        times: Summary::of(&times[i]),
        whole: whole[i],
        refusal: refusals[i].take(),
    };
    Ok(peers.iter().enumerate().map(entry).collect())
}

fn probe(status: &NodeStatus, peer: &PeerStatus, len: usize) -> Probe {
    let family = Family::of(peer.public);
    match &peer.device {
        Some(_) => Probe {
            to: Target::node(peer).address,
            from: status.own_end(family),
            what: What::Echo { len, df: true },
        },
        // The kernel routes pods' packets to the node as they are.
        None => Probe {
            to: peer.public,
            from: None,
            what: What::Echo { len, df: true },
        },
    }
}
