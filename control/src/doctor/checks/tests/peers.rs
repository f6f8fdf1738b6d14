//! The other nodes.

use super::facts::{Case, Failure, Unknown, Warning, refused, silent};
use crate::probe::{Outcome, Why};
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    (
        "peers",
        |f| f.peers_known = 0,
        Warning,
        "none",
        "weft leases list",
    ),
    (
        "routes",
        |f| f.peers[0].route = Some("eth0".to_owned()),
        Failure,
        "to 10.5.2.0/24 go by eth0 and not by flannel.1",
        "ip route get 10.5.2.0",
    ),
    (
        "routes",
        |f| f.peers[0].route = None,
        Failure,
        "go nowhere",
        "ip route get",
    ),
    (
        "reach",
        |f| f.unasked = Some("they need root".to_owned()),
        Unknown,
        "need root",
        "",
    ),
    (
        "reach",
        |f| silent(f, 0).port = refused(Why::Port),
        Failure,
        "1 of 2 do not answer (10.0.0.2): nobody has the UDP port there",
        "on 10.0.0.2: systemctl start weft",
    ),
    (
        "reach",
        |f| silent(f, 0).there = Outcome::Answered(Duration::ZERO),
        Failure,
        "datagrams get there",
        "here: iptables -I INPUT",
    ),
    (
        "reach",
        |f| silent(f, 1).back = Outcome::Answered(Duration::ZERO),
        Failure,
        "datagrams do not get there",
        "on 10.0.0.3: iptables -I INPUT",
    ),
    (
        "reach",
        |f| silent(f, 1).port = refused(Why::Prohibited),
        Failure,
        "a firewall on the way",
        "on 10.0.0.3",
    ),
    (
        "reach",
        |f| {
            silent(f, 0);
        },
        Failure,
        "answers on the underlay",
        "on 10.0.0.2",
    ),
    (
        "reach",
        |f| silent(f, 0).underlay = Outcome::Silent,
        Failure,
        "no answer on the underlay either",
        "ping 10.0.0.2",
    ),
    (
        "workers",
        |f| f.peers[1].workers = Some(Outcome::Silent),
        Warning,
        "1 of 2 answer on the fast path alone (10.0.0.3): floods",
        "rules that drop UDP",
    ),
    (
        "peer-agents",
        |f| f.peers[0].port = refused(Why::Port),
        Warning,
        "on 10.0.0.2: the fast path goes on",
        "systemctl start weft",
    ),
    (
        "path-mtu",
        |f| f.peers[0].tunnel_whole = refused(Why::TooLong(Some(1350))),
        Warning,
        "the path to 10.0.0.2 takes less than the tunnel's device, and senders are told: 10.0.0.2 says that the path takes 1350 bytes",
        "Backend",
    ),
    (
        "path-mtu",
        |f| f.peers[1].tunnel_whole = Outcome::Silent,
        Failure,
        "do not get to 10.0.0.3",
        "weft ping 10.0.0.3",
    ),
    (
        "path-mtu",
        |f| f.peers[0].underlay_whole = Outcome::TooLong,
        Warning,
        "outer packets of 1500 bytes to 10.0.0.2 are fragmented",
        "Backend",
    ),
    (
        "fragments",
        |f| f.peers[1].tunnel_long = Outcome::Silent,
        Failure,
        "small packets reach 10.0.0.3",
        "weft ping 10.0.0.3",
    ),
    (
        "fragments",
        |f| f.peers[1].underlay_long = Outcome::Silent,
        Failure,
        "not even in pieces",
        "-outer-df",
    ),
];
