//! What becomes of a kind of packets in a chain, as far as its rules tell.

use super::chains::HostChain;
use super::packets::PacketKind;
use super::verdict::{JudgedRule, RuleVerdict};

/// Chains that lead to each other are followed so far.
const DEPTH: usize = 16;

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

/// What becomes of packets that the kernel sends through `base`, one of all `chains`. Rules with
/// conditions of which nothing is known here are passed over, unless they name the packets.
pub fn fate(chains: &[HostChain], base: &HostChain, packets: &PacketKind) -> Fate {
    walk(chains, base, packets, DEPTH)
}

fn walk(chains: &[HostChain], chain: &HostChain, packets: &PacketKind, depth: usize) -> Fate {
    for text in &chain.rules {
        let rule = JudgedRule::read(text, packets);
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
