//! Looking: at the agent, the host and the other nodes.

mod containers;
mod host;
mod network;
mod peers;
mod process;
mod sockets;

use super::facts::{AgentFacts, DEFAULT_PORT, Facts, HostFacts};
use crate::socket::{self, Answer, Verb};
use crate::status::{NodeStatus, PeerStatus};
use std::path::{Path, PathBuf};
use std::thread;

/// Where `subnet.env` is unless an agent says another place.
const SUBNET_ENV: &str = "/run/flannel/subnet.env";

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The agent's socket.
    pub socket: PathBuf,
    /// Its name.
    pub agent: String,
    /// What it has said of its node.
    pub status: NodeStatus,
    /// All other nodes that it knows.
    pub peers: Vec<PeerStatus>,
    /// Those of them that are to be asked.
    pub chosen: Vec<PeerStatus>,
}

/// Look at everything, in the network namespace of the calling thread. Without an agent, for the
/// reason given, at the host alone. It takes about as long as the nodes that do not answer are
/// waited for.
pub fn gather(asked: Result<Asked, String>) -> Facts {
    let asked = asked.as_ref();
    let (host, answers) = thread::scope(|scope| {
        let asking = asked
            .ok()
            .map(|asked| scope.spawn(move || peers::ask(&asked.status, &asked.chosen)));
        let host = look_at_host(asked.ok());
        let answers = asking.map(|asking| asking.join());
        (host, answers)
    });
    let (peers, unasked) = match answers {
        Some(Ok(Ok(peers))) => (peers, None),
        Some(Ok(Err(error))) => (Vec::new(), Some(error.to_string())),
        Some(Err(_)) => (Vec::new(), Some("asking them has failed".to_owned())),
        None => (Vec::new(), None),
    };
    let (host, routes) = host;
    let mut facts = Facts {
        agent: asked
            .map(|asked| Box::new(agent(asked)))
            .map_err(Clone::clone),
        host,
        peers,
        peers_known: asked.map_or(0, |asked| asked.peers.len()),
        leases: asked.map_or_else(|_| Vec::new(), |asked| asked.peers.clone()),
        unasked,
    };
    for peer in &mut facts.peers {
        peer.route = routes.get(&peer.peer.subnet).cloned();
    }
    facts
}

/// What the agent says by now, and what its process may do.
fn agent(asked: &Asked) -> AgentFacts {
    let later = socket::ask(&asked.socket, &Verb::Status);
    let later = later.ok().and_then(|reply| match reply.answer {
        Answer::Status(status) => Some(*status),
        _ => None,
    });
    AgentFacts {
        name: asked.agent.clone(),
        status: asked.status.clone(),
        later: later.unwrap_or_else(|| asked.status.clone()),
        process: process::of(asked.status.pid),
    }
}

/// The host, and by which device packets to each subnet leave.
fn look_at_host(asked: Option<&Asked>) -> (HostFacts, network::RouteMap) {
    let mut facts = HostFacts::default();
    let status = asked.map(|asked| &asked.status);
    host::look(&mut facts, status);
    containers::look(&mut facts, &subnet_env(asked), Path::new("/"));
    let tunnels = status.map_or(&[][..], |status| &status.tunnels);
    let port = tunnels.first().map_or(DEFAULT_PORT, |tunnel| tunnel.port);
    facts.sockets = sockets::besides(port, status.map(|status| status.pid));
    let chosen = asked.map_or(&[][..], |asked| &asked.chosen);
    let routes = network::look(&mut facts, status, chosen, port);
    (facts, routes)
}

/// The agent's `subnet.env`: its name ends in that.
fn subnet_env(asked: Option<&Asked>) -> PathBuf {
    let path = asked.and_then(|asked| asked.agent.split_once(' '));
    path.map_or_else(|| SUBNET_ENV.into(), |(_, path)| path.into())
}
