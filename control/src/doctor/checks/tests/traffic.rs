//! What counters say.

use super::facts::{Case, Fine, Warning, agent};
use crate::status::PeerLoss;

pub(super) const CASES: &[Case] = &[
    (
        "drops",
        |f| {
            agent(f).later.tunnels[0]
                .workers
                .as_mut()
                .unwrap()
                .drops
                .insert("no_peer".to_owned(), 9);
        },
        Warning,
        "no_peer: 2 while this ran, 9 so far",
        "weft leases list",
    ),
    (
        "drops",
        |f| {
            agent(f).later.tunnels[0]
                .workers
                .as_mut()
                .unwrap()
                .drops
                .insert("new_one".to_owned(), 1);
        },
        Warning,
        "new_one: 1",
        "packet.md",
    ),
    (
        "drops",
        |f| {
            agent(f).later.tunnels[0]
                .workers
                .as_mut()
                .unwrap()
                .drops
                .insert("not_unicast".to_owned(), 9);
        },
        Fine,
        "nothing",
        "",
    ),
    (
        "lost",
        |f| {
            let w = agent(f).later.tunnels[0].workers.as_mut().unwrap();
            w.lost_frames = 5;
            w.lost_to = vec![PeerLoss {
                peer: [10, 0, 0, 2].into(),
                frames: 5,
            }]
        },
        Warning,
        "5 frames of flannel.1",
        "tc -s qdisc",
    ),
    (
        "checksums",
        |f| f.host.received = (1_000_000, 200),
        Warning,
        "200 of 1000000",
        "tx-checksum-ip-generic",
    ),
];
