//! A node where all is well, and how it is broken.

use crate::doctor::facts::{
    AgentFacts, Conflist, Facts, HostFacts, LinkFacts, PeerFacts, ProcessFacts,
};
use crate::doctor::finding::CheckVerdict;
pub(super) use crate::doctor::finding::CheckVerdict::{Failure, Ok as Fine, Unknown, Warning};
use crate::host::firewall::HostChain;
use crate::probe::{Outcome, Refusal, Why};
use crate::status::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn peer(number: u8) -> PeerFacts {
    let answered = Outcome::Answered(Duration::from_micros(200));
    PeerFacts {
        route: Some("flannel.1".to_owned()),
        tunnel: answered.clone(),
        workers: Some(answered.clone()),
        tunnel_whole: answered.clone(),
        tunnel_long: answered.clone(),
        underlay: answered.clone(),
        underlay_whole: answered.clone(),
        underlay_long: answered.clone(),
        there: answered.clone(),
        back: answered,
        ..PeerFacts::silent(PeerStatus {
            subnet: format!("10.5.{number}.0/24").parse().unwrap(),
            public: [10, 0, 0, number].into(),
            device: Some("flannel.1".to_owned()),
        })
    }
}

pub(super) fn status() -> NodeStatus {
    let workers = WorkersStatus {
        engine: "ring".to_owned(),
        capabilities: [("tso", "on"), ("udp_gso", "on")]
            .map(|(name, state)| (name.to_owned(), state.to_owned()))
            .into(),
        drops: BTreeMap::from([("no_peer".to_owned(), 7), ("not_unicast".to_owned(), 1)]),
        ..WorkersStatus::default()
    };
    let tunnel = TunnelStatus {
        device: "flannel.1".to_owned(),
        wire: "vxlan".to_owned(),
        vni: Some(1),
        port: 8472,
        local: Some([10, 0, 0, 1].into()),
        mtu: 1450,
        fast_path: FastPathStatus {
            mode: "auto".to_owned(),
            state: "on".to_owned(),
            ..FastPathStatus::default()
        },
        workers: Some(workers),
        ..TunnelStatus::default()
    };
    NodeStatus {
        ready: true,
        lease: LeaseStatus {
            subnets: vec!["10.5.1.0/24".parse().unwrap()],
            public: vec![[10, 0, 0, 1].into()],
            seconds_left: Some(80_000),
        },
        underlay: UnderlayStatus {
            name: "eth0".to_owned(),
            addresses: vec![[10, 0, 0, 1].into()],
            there: true,
        },
        backend: "vxlan".to_owned(),
        mtu: 1450,
        networks: vec!["10.5.0.0/16".parse().unwrap()],
        peers: 2,
        store: StoreStatus {
            name: "etcd".to_owned(),
            remembered_seconds: None,
            health: Some(StoreHealth {
                reachable: true,
                ..StoreHealth::default()
            }),
        },
        tunnels: vec![tunnel],
        ..NodeStatus::default()
    }
}

pub(super) fn link(name: &str, kind: Option<&str>, mtu: u32, addresses: &[[u8; 4]]) -> LinkFacts {
    LinkFacts {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        mtu,
        up: true,
        carrier: true,
        addresses: addresses
            .iter()
            .map(|&address| IpAddr::from(address))
            .collect(),
    }
}

pub(super) fn host() -> HostFacts {
    let sysctls = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/flannel.1/rp_filter", "2"),
        ("net/ipv4/conf/all/ignore_routes_with_linkdown", "0"),
        ("net/bridge/bridge-nf-call-iptables", "1"),
        ("kernel/io_uring_disabled", "0"),
    ];
    let env = [("FLANNEL_SUBNET", "10.5.1.1/24"), ("FLANNEL_MTU", "1450")];
    let map = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    HostFacts {
        release: "6.18.0".to_owned(),
        sysctls: map(&sysctls),
        links: vec![
            link("eth0", None, 1500, &[[10, 0, 0, 1]]),
            link("flannel.1", Some("tun"), 1450, &[[10, 5, 1, 0]]),
            link("cni0", Some("bridge"), 1450, &[[10, 5, 1, 1]]),
        ],
        bpffs: true,
        gro: Some(true),
        now: 1_800_000_000,
        synchronized: Some(true),
        subnet_env: Some(map(&env)),
        subnet_env_written: Some(1_799_999_999),
        conflists: vec![Conflist {
            path: "/etc/cni/net.d/10-flannel.conflist".to_owned(),
            plugins: Ok(vec!["flannel".to_owned(), "portmap".to_owned()]),
            mtu: None,
        }],
        cni_plugin: true,
        received: (1_000_000, 3),
        ..HostFacts::default()
    }
}

pub(super) fn healthy() -> Facts {
    let agent = AgentFacts {
        status: status(),
        later: status(),
        process: Some(ProcessFacts {
            capabilities: u64::MAX,
            seccomp: 0,
        }),
        ..AgentFacts::default()
    };
    let peers = vec![peer(2), peer(3)];
    Facts {
        agent: Ok(Box::new(agent)),
        host: host(),
        leases: peers.iter().map(|peer| peer.peer.clone()).collect(),
        peers_known: 2,
        peers,
        unasked: None,
    }
}

/// A change of the facts, and what a check then says.
pub(super) type Case = (
    &'static str,
    fn(&mut Facts),
    CheckVerdict,
    &'static str,
    &'static str,
);

pub(super) fn agent(facts: &mut Facts) -> &mut AgentFacts {
    facts.agent.as_mut().unwrap()
}

pub(super) fn node(facts: &mut Facts) -> &mut NodeStatus {
    &mut agent(facts).status
}

pub(super) fn tunnel(facts: &mut Facts) -> &mut TunnelStatus {
    &mut node(facts).tunnels[0]
}

pub(super) fn workers(facts: &mut Facts) -> &mut WorkersStatus {
    tunnel(facts).workers.as_mut().unwrap()
}

pub(super) fn set(facts: &mut Facts, path: &str, value: &str) {
    facts.host.sysctls.insert(path.to_owned(), value.to_owned());
}

pub(super) fn off(facts: &mut Facts) {
    tunnel(facts).fast_path.state = "off".to_owned();
}

/// Nothing comes back from a node through the tunnel.
pub(super) fn silent(facts: &mut Facts, number: usize) -> &mut PeerFacts {
    let peer = &mut facts.peers[number];
    peer.tunnel = Outcome::Silent;
    peer.tunnel_whole = Outcome::Silent;
    peer.tunnel_long = Outcome::Silent;
    peer.there = Outcome::Silent;
    peer.back = Outcome::Silent;
    peer
}

pub(super) fn refused(why: Why) -> Outcome {
    let from = [10, 0, 0, 2].into();
    Outcome::Refused(Refusal { from, why })
}

/// A chain of `iptables` or, with a family in front of the table, of `nft`.
pub(super) fn chain(table: &str, name: &str, policy: &str, rules: &[&str]) -> HostChain {
    let (program, hook) = match table.contains(' ') {
        true => ("nft", name.trim_start_matches("filter_")),
        false => ("iptables", name),
    };
    HostChain {
        program: program.to_owned(),
        table: table.to_owned(),
        name: name.to_owned(),
        hook: (policy != "-").then(|| hook.to_lowercase()),
        drops: policy == "DROP",
        rules: rules.iter().map(|rule| rule.to_string()).collect(),
    }
}
