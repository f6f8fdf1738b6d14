//! What becomes of a kind of packets in a chain, as far as its rules tell.

use super::HostChain;
use super::port::holds;
use super::verdict::{Rule, RuleVerdict};
use ipnet::IpNet;

/// Chains that lead to each other are followed so far.
const DEPTH: usize = 16;

/// Packets that are to pass.
#[derive(Clone, Debug, Default)]
pub struct PacketKind {
    /// The UDP port that they go to; `None`: they are of all protocols.
    pub port: Option<u16>,
    /// Where they may come from. Empty: it is not known.
    pub from: Vec<IpNet>,
    /// Where they may go. Empty: it is not known.
    pub to: Vec<IpNet>,
    /// The device that they come by, if that is known.
    pub device: Option<String>,
}

/// What becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A rule accepts them.
    Accepted,
    /// A rule drops them.
    Dropped {
        /// The chain that it is in.
        chain: String,
        /// The rule.
        rule: String,
        /// Whether it names them, and does not drop all that is left.
        named: bool,
    },
    /// No rule decides.
    Passed,
}

impl PacketKind {
    pub(super) fn has_port(&self, ports: &[&str]) -> Option<bool> {
        let port = self.port?;
        let range = |ports: &&str| holds(ports, ':', port) || holds(ports, '-', port);
        Some(ports.iter().any(range))
    }
}

/// What becomes of packets that the kernel sends through `base`, one of all `chains`. Rules with
/// conditions of which nothing is known here are passed over, unless they name the packets.
pub fn fate(chains: &[HostChain], base: &HostChain, packets: &PacketKind) -> Fate {
    walk(chains, base, packets, DEPTH)
}

fn walk(chains: &[HostChain], chain: &HostChain, packets: &PacketKind, depth: usize) -> Fate {
    for text in &chain.rules {
        let rule = Rule::read(text, packets);
        if rule.fits == Some(false) {
            continue;
        }
        let counts = rule.fits == Some(true) || rule.named;
        match rule.verdict {
            RuleVerdict::Accept if counts => return Fate::Accepted,
            RuleVerdict::Drop if counts => {
                return Fate::Dropped {
                    chain: chain.name.clone(),
                    rule: text.clone(),
                    named: rule.named,
                };
            }
            // For some of them at least what follows does not count.
            RuleVerdict::Return => return Fate::Passed,
            RuleVerdict::Chain { name, goto } if depth > 0 => {
                let same = |c: &&HostChain| {
                    c.program == chain.program && c.table == chain.table && c.name == name
                };
                let fate = match chains.iter().find(same) {
                    Some(next) => walk(chains, next, packets, depth - 1),
                    None => Fate::Passed,
                };
                // Of a jump with unknown conditions a catch-all says nothing of these packets.
                let decides = match &fate {
                    Fate::Accepted => true,
                    Fate::Dropped { named, .. } => *named || counts,
                    Fate::Passed => goto && counts,
                };
                if decides {
                    return fate;
                }
            }
            _ => {}
        }
    }
    Fate::Passed
}
