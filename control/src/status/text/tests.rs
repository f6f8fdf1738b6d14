//! A node for a person, whole and with trouble.

use super::*;
use crate::status::{
    FastPathStatus, PeerLoss, QueueStatus, TableStatus, TunnelGsoStatus, UnderlayStatus,
};
use std::collections::BTreeMap;

fn workers() -> WorkersStatus {
    let numbers = |names: &[&str]| -> BTreeMap<String, u64> {
        names
            .iter()
            .zip(1..)
            .map(|(name, n)| ((*name).to_owned(), n * 1_234_567))
            .collect()
    };
    WorkersStatus {
        engine: "ring".to_owned(),
        capabilities: BTreeMap::from([("tso".to_owned(), "on".to_owned())]),
        tunnel_gso: TunnelGsoStatus {
            state: "untried".to_owned(),
            open: 0,
            blocked: 0,
        },
        counters: numbers(&["tun_read_bytes", "frames_sent", "sends"]),
        drops: numbers(&["a", "b", "c", "d", "e", "f", "g", "h"]),
        lost_frames: 9,
        lost_to: vec![PeerLoss {
            peer: [10, 0, 0, 6].into(),
            frames: 9,
        }],
        queues: vec![QueueStatus {
            waiting_bytes: 5,
            room_bytes: 9,
        }],
        ..WorkersStatus::default()
    }
}

fn tunnel(device: &str) -> TunnelStatus {
    TunnelStatus {
        device: device.to_owned(),
        wire: "vxlan".to_owned(),
        vni: Some(1),
        port: 8472,
        fast_path: FastPathStatus {
            mode: "auto".to_owned(),
            state: "refused".to_owned(),
            hook: None,
            reason: Some("no CAP_BPF".to_owned()),
        },
        table: TableStatus {
            peers: 7,
            age_seconds: 61.5,
            ..TableStatus::default()
        },
        workers: Some(workers()),
        ..TunnelStatus::default()
    }
}

fn node() -> NodeStatus {
    NodeStatus {
        version: "0.1.0".to_owned(),
        pid: 42,
        uptime_seconds: 3661,
        lease: LeaseStatus {
            subnets: vec![
                "10.5.34.0/24".parse().unwrap(),
                "fd00::/64".parse().unwrap(),
            ],
            public: vec![[10, 0, 0, 5].into()],
            seconds_left: Some(7200),
        },
        underlay: UnderlayStatus {
            name: "eth0".to_owned(),
            ..UnderlayStatus::default()
        },
        backend: "vxlan".to_owned(),
        mtu: 1450,
        store: StoreStatus {
            name: "etcd".to_owned(),
            remembered_seconds: Some(60),
            health: Some(StoreHealth {
                answered_seconds_ago: Some(3.2),
                latest_seconds: vec![0.004, 0.001],
                requests: 5,
                failures: 2,
                ..StoreHealth::default()
            }),
        },
        hand_overs: HandOverStatus {
            from_agents: 3,
            from_store: 1,
            refused: 2,
            waited_seconds: Some(0.0012),
        },
        tunnels: vec![tunnel("flannel.1"), tunnel("flannel-v6.1")],
        ..NodeStatus::default()
    }
}

#[test]
fn twenty_lines_have_room_for_both_families() {
    let text = node().to_string();
    assert!(text.lines().count() <= 20, "{text}");
    for part in [
        "NOT READY, up 1h01m: weft 0.1.0, process 42; 4 hand-overs, packets waited 1.2 ms at the last; HAND-OVERS REFUSED 2",
        "10.5.34.0/24 and fd00::/64, advertised as 10.0.0.5, ends in 2h00m",
        "etcd DOES NOT ANSWER, last asked 3s ago in 1.0 ms (slowest of late 4.0 ms)",
        "GOING BY WHAT IT SAID 1m00s AGO",
        "fast path refused (auto); no CAP_BPF",
        "h 9876536, g 8641969",
        "and 2 more; waiting to be received: 5 B",
        "out 1.2 MB",
        "10.0.0.6 9",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn what_is_well_is_not_shouted() {
    let mut node = node();
    (node.ready, node.underlay.there) = (true, true);
    node.store.remembered_seconds = None;
    node.lease.seconds_left = None;
    node.store.health = None;
    node.hand_overs.refused = 0;
    node.tunnels.clear();
    let text = node.to_string();
    let shouted = |word: &str| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase());
    assert!(!text.split_whitespace().any(shouted), "{text}");
    assert!(
        text.contains("never ends") && text.contains("a file"),
        "{text}"
    );
}

#[test]
fn json_says_the_same_again() {
    let node = node();
    let text = serde_json::to_string(&node).unwrap();
    assert_eq!(serde_json::from_str::<NodeStatus>(&text).unwrap(), node);
}

#[test]
fn what_an_older_agent_leaves_out_is_taken_as_it_was() {
    let mut body = serde_json::to_value(node()).unwrap();
    for newer in ["hand_overs", "networks"] {
        assert!(body.as_object_mut().unwrap().remove(newer).is_some());
    }
    let read: NodeStatus = serde_json::from_value(body).unwrap();
    assert_eq!(read.hand_overs, HandOverStatus::default());
    assert_eq!(read.peers, node().peers);
}
