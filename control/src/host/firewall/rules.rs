//! Which packets are let through and which get the node's address: flannel's rules, in the
//! spelling of neither tool.

use super::Flavour;
use crate::lease::NodeNetwork;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One rule: all of its conditions, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether it wants kube-proxy's mark of packets to masquerade, 0x4000.
    pub(super) mark: bool,
    pub(super) source: Option<Within>,
    pub(super) destination: Option<Within>,
    pub(super) verdict: Verdict,
}

/// In a network, or not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) network: IpNet,
    pub(super) negated: bool,
}

impl Rule {
    /// Whether a daemon for another network has the same rule.
    pub(super) fn is_shared(&self) -> bool {
        self.source.is_none() && self.destination.is_none()
    }

    /// Whether it wants an address that is in no network at all: the Network is everything.
    pub(super) fn never_matches(&self) -> bool {
        let sides = [self.source, self.destination];
        let mut sides = sides.into_iter().flatten();
        sides.any(|side| side.negated && side.network.prefix_len() == 0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Leave the rest to other chains.
    Return,
    Accept,
    /// Rewrite the source to the address of the device that the packet leaves through.
    Masquerade {
        random_fully: bool,
    },
}

const fn is(network: IpNet) -> Within {
    Within {
        network,
        negated: false,
    }
}

const fn is_not(network: IpNet) -> Within {
    Within {
        network,
        negated: true,
    }
}

/// The rules of the chain behind POSTROUTING: addresses of the overlay stay as they are
/// inside of it and are masqueraded on the way out; others are masqueraded on the way in,
/// except towards this node's own pods.
///
/// The fourth differs between flannel's two flavours. In the nftables one it also covers
/// what the last rule is for, so that traffic from a node to pods of other nodes keeps its
/// source. Listings are compared with flannel's, so it is kept.
pub(super) fn masquerade(own: &NodeNetwork, flavour: Flavour, random_fully: bool) -> Vec<Rule> {
    let (network, subnet) = (own.network, own.subnet);
    let rule = |source, destination, verdict| Rule {
        mark: false,
        source: Some(source),
        destination: Some(destination),
        verdict,
    };
    let incoming = match flavour {
        Flavour::Iptables => rule(is_not(network), is(subnet), Verdict::Return),
        Flavour::Nftables => rule(is_not(subnet), is(network), Verdict::Return),
    };
    let masquerade = Verdict::Masquerade { random_fully };
    vec![
        // kube-proxy masquerades what it has marked; doing it twice breaks connections.
        Rule {
            mark: true,
            source: None,
            destination: None,
            verdict: Verdict::Return,
        },
        rule(is(subnet), is(network), Verdict::Return),
        rule(is(network), is(subnet), Verdict::Return),
        incoming,
        rule(is(network), is_not(multicast(network)), masquerade),
        rule(is_not(network), is(network), masquerade),
    ]
}

/// The rules of the chain behind FORWARD: what comes from pods or goes to pods passes.
pub(super) fn forward(network: IpNet) -> Vec<Rule> {
    let rule = |source, destination| Rule {
        mark: false,
        source,
        destination,
        verdict: Verdict::Accept,
    };
    vec![rule(Some(is(network)), None), rule(None, Some(is(network)))]
}

/// All multicast addresses of the family of `network`.
fn multicast(network: IpNet) -> IpNet {
    let (addr, len) = match network {
        IpNet::V4(_) => (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
        IpNet::V6(_) => (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    };
    IpNet::new_assert(addr, len)
}
