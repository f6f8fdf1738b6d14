//! Which node is meant.

use crate::status::{NodeStatus, PeerStatus};
use crate::text::{nearest, shown};
use ipnet::IpNet;
use std::net::{IpAddr, ToSocketAddrs};

/// Peers that a complaint lists.
const LISTED: usize = 12;

/// Who is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub peer: PeerStatus,
    /// Its address, or that of a pod of it.
    pub address: IpAddr,
}

impl Target {
    /// The node's own end of what leads to it: the address of its tunnel or, where the kernel
    /// carries its packets, of the bridge that its pods hang on.
    pub fn node(peer: &PeerStatus) -> Target {
        let first = peer.subnet.network();
        let address = match (&peer.device, first) {
            (Some(_), first) => first,
            (None, IpAddr::V4(first)) => IpAddr::V4((u32::from(first) + 1).into()),
            (None, IpAddr::V6(first)) => IpAddr::V6((u128::from(first) + 1).into()),
        };
        Target {
            peer: peer.clone(),
            address,
        }
    }
}

/// Why nobody is meant. One line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is this node.
    #[error("{0} is this node: name another one{1}")]
    Own(String, String),
    /// No peer has it.
    #[error("no peer has {given}{hint}{peers}")]
    Nobody {
        /// What was given.
        given: String,
        /// What may have been meant.
        hint: String,
        /// Those that there are.
        peers: String,
    },
}

/// The addresses that the host's resolver has for a name.
pub fn resolve(name: &str) -> Vec<IpAddr> {
    let found = (name, 0).to_socket_addrs();
    let found = found.into_iter().flatten();
    found.map(|address| address.ip()).collect()
}

/// The target that `given` names: a subnet, also as the key of a lease; a node's underlay address,
/// or a name for that which `resolve` knows; or any address in a subnet.
pub fn find(
    given: &str,
    status: &NodeStatus,
    peers: &[PeerStatus],
    resolve: impl FnOnce(&str) -> Vec<IpAddr>,
) -> Result<Target, TargetError> {
    let own = |is: bool| match is {
        true => Err(TargetError::Own(shown(given), listed(peers))),
        false => Ok(()),
    };
    let subnet: Result<IpNet, _> = given.parse();
    let subnet = subnet.or_else(|_| given.replacen('-', "/", 1).parse::<IpNet>());
    let addresses = match (&subnet, given.parse::<IpAddr>()) {
        (_, Ok(address)) => vec![address],
        (Ok(subnet), Err(_)) => {
            let subnet = subnet.trunc();
            own(status.lease.subnets.iter().any(|own| own.trunc() == subnet))?;
            let peer = peers.iter().find(|peer| peer.subnet == subnet);
            return match peer {
                Some(peer) => Ok(Target::node(peer)),
                None => Err(nobody(given, peers)),
            };
        }
        (Err(_), Err(_)) => resolve(given),
    };
    for address in &addresses {
        if let Some(peer) = peers.iter().find(|peer| peer.public == *address) {
            return Ok(Target::node(peer));
        }
    }
    for address in addresses {
        let lease = &status.lease;
        let in_own = lease.subnets.iter().any(|own| own.contains(&address));
        own(in_own || lease.public.contains(&address))?;
        // The longest prefix gets the packets.
        let around = peers.iter().filter(|peer| peer.subnet.contains(&address));
        if let Some(peer) = around.max_by_key(|peer| peer.subnet.prefix_len()) {
            let peer = peer.clone();
            return Ok(Target { peer, address });
        }
    }
    Err(nobody(given, peers))
}

fn nobody(given: &str, peers: &[PeerStatus]) -> TargetError {
    let names = |peer: &PeerStatus| [peer.subnet.to_string(), peer.public.to_string()];
    let names: Vec<String> = peers.iter().flat_map(names).collect();
    let near = nearest(given, names.iter().map(String::as_str));
    TargetError::Nobody {
        given: shown(given),
        hint: near.map_or(String::new(), |near| format!("; did you mean {near}?")),
        peers: listed(peers),
    }
}

fn listed(peers: &[PeerStatus]) -> String {
    let named = peers.iter().take(LISTED);
    let named: Vec<String> = named
        .map(|peer| format!("{} of {}", peer.subnet, peer.public))
        .collect();
    match (named.is_empty(), peers.len().saturating_sub(LISTED)) {
        (true, _) => "; there are no peers".to_owned(),
        (false, 0) => format!("; peers: {}", named.join(", ")),
        (false, more) => format!("; peers: {} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LeaseStatus;

    fn peer(number: u8, device: Option<&str>) -> PeerStatus {
        PeerStatus {
            subnet: format!("10.5.{number}.0/24").parse().unwrap(),
            public: [10, 0, 0, number].into(),
            device: device.map(str::to_owned),
        }
    }

    fn found(given: &str) -> Result<String, String> {
        let status = NodeStatus {
            lease: LeaseStatus {
                subnets: vec!["10.5.1.0/24".parse().unwrap()],
                public: vec![[10, 0, 0, 1].into()],
                seconds_left: None,
            },
            ..NodeStatus::default()
        };
        let mut inner = peer(3, Some("flannel.1"));
        inner.subnet = "10.5.2.128/25".parse().unwrap();
        let peers = [peer(2, Some("flannel.1")), inner, peer(4, None)];
        let resolve = |name: &str| match name {
            "two" => vec![[192, 0, 2, 1].into(), [10, 0, 0, 2].into()],
            "self" => vec![[10, 0, 0, 1].into()],
            _ => Vec::new(),
        };
        let target = find(given, &status, &peers, resolve);
        let target = target.map_err(|error| error.to_string())?;
        Ok(format!("{} {}", target.peer.public, target.address))
    }

    #[test]
    fn subnets_keys_nodes_names_and_pods_are_all_found() {
        for (given, target) in [
            ("10.5.2.0/24", "10.0.0.2 10.5.2.0"),
            ("10.5.2.0-24", "10.0.0.2 10.5.2.0"),
            ("10.0.0.2", "10.0.0.2 10.5.2.0"),
            ("two", "10.0.0.2 10.5.2.0"),
            ("10.5.2.7", "10.0.0.2 10.5.2.7"),
            ("10.5.2.200", "10.0.0.3 10.5.2.200"),
            ("10.0.0.4", "10.0.0.4 10.5.4.1"),
        ] {
            assert_eq!(found(given), Ok(target.to_owned()), "{given}");
        }
    }

    #[test]
    fn others_are_told_who_there_is() {
        for (given, words) in [
            ("10.5.1.0/24", "is this node"),
            ("10.5.1.9", "is this node"),
            ("10.0.0.1", "is this node"),
            ("self", "is this node"),
            ("10.0.0.22", "did you mean 10.0.0.2?"),
            ("10.5.22.0/24", "did you mean 10.5.2.0/24?"),
            (
                "nobody",
                "no peer has nobody; peers: 10.5.2.0/24 of 10.0.0.2, 10.5.2.128/25",
            ),
            ("", "no peer has ; peers: "),
        ] {
            let error = found(given).unwrap_err();
            assert!(
                error.contains(words) && error.contains("peers: "),
                "{error}"
            );
        }
        let status = NodeStatus::default();
        let error = find("x", &status, &[], |_| Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "no peer has x; there are no peers");
    }
}
