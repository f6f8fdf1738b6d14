//! Both forms, whole, and nothing that a label can break.

use super::*;
use crate::status::{
    FastPathStatus, HandOverStatus, LeaseStatus, PeerLoss, QueueStatus, StoreHealth, StoreStatus,
    TableStatus, TunnelGsoStatus, TunnelStatus, UnderlayStatus, WorkersStatus,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use weft_dataplane::stats::{Count, DropReason};

/// Workers that have counted something of everything.
fn workers(peers: u16) -> WorkersStatus {
    let caps = [("tso", "on"), ("uso", "refused")];
    let counts = Count::ALL.iter().zip(1..);
    let drops = DropReason::ALL.iter().zip(1000..);
    WorkersStatus {
        engine: "ring".to_owned(),
        cpus: None,
        capabilities: caps
            .map(|(cap, grant)| (cap.to_owned(), grant.to_owned()))
            .into(),
        tunnel_gso: TunnelGsoStatus {
            state: "in_use".to_owned(),
            open: 3,
            blocked: 1,
        },
        counters: counts
            .map(|(count, n)| (count.name().to_owned(), n))
            .collect(),
        drops: drops
            .map(|(reason, n)| (reason.name().to_owned(), n))
            .collect(),
        lost_frames: 99,
        lost_to: (0..peers)
            .map(|n| PeerLoss {
                peer: std::net::Ipv4Addr::from_bits(0x0a63_0000 + u32::from(n)).into(),
                frames: 7,
            })
            .collect(),
        queues: vec![
            QueueStatus {
                waiting_bytes: 5,
                room_bytes: 9,
            };
            2
        ],
    }
}

fn tunnel(device: &str, peers: u16) -> TunnelStatus {
    TunnelStatus {
        device: device.to_owned(),
        wire: "vxlan".to_owned(),
        vni: Some(1),
        port: 8472,
        fast_path: FastPathStatus {
            mode: "auto".to_owned(),
            state: "on".to_owned(),
            ..FastPathStatus::default()
        },
        table: TableStatus {
            peers: 7,
            age_seconds: 61.5,
            publish_seconds: 0.25,
            publications: 3,
        },
        workers: Some(workers(peers)),
        ..TunnelStatus::default()
    }
}

fn status(devices: &[&str], peers: u16) -> Arc<NodeStatus> {
    Arc::new(NodeStatus {
        version: "0.1.0".to_owned(),
        ready: true,
        lease: LeaseStatus {
            subnets: vec!["10.5.34.0/24".parse().unwrap()],
            public: Vec::new(),
            seconds_left: Some(7200),
        },
        underlay: UnderlayStatus {
            name: "eth0".to_owned(),
            ..UnderlayStatus::default()
        },
        backend: "vxlan".to_owned(),
        store: StoreStatus {
            name: "etcd".to_owned(),
            remembered_seconds: None,
            health: Some(StoreHealth {
                reachable: true,
                answered_seconds_ago: Some(3.5),
                requests: 5,
                failures: 1,
                answer_seconds: 0.75,
                answers_within: vec![(0.001, 1), (0.5, 2)],
                ..StoreHealth::default()
            }),
        },
        hand_overs: HandOverStatus {
            from_agents: 3,
            from_store: 4,
            refused: 5,
            waited_seconds: Some(0.0015),
        },
        tunnels: devices.iter().map(|device| tunnel(device, peers)).collect(),
        ..NodeStatus::default()
    })
}

/// Names of families with their types, and those that are explained.
fn described(text: &str) -> (BTreeMap<&str, &str>, BTreeSet<&str>) {
    let types = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name, kind))
    });
    let helps = text.lines().filter_map(|line| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        (help.len() > 10 && help.ends_with('.')).then_some(name)
    });
    (types.collect(), helps.collect())
}

#[test]
fn every_counter_and_every_drop_reason_is_there_with_its_help() {
    let text = encode(status(&["flannel.1"], 1), Exposition::Text);
    for (count, n) in Count::ALL.iter().zip(1..) {
        let name = format!("weft_{}_total", count.name());
        let help = format!("# HELP {name} {}\n# TYPE {name} counter\n", count.help());
        let sample = format!("\n{name}{{device=\"flannel.1\"}} {n}\n");
        assert!(text.contains(&help) && text.contains(&sample), "{name}");
    }
    for (reason, n) in DropReason::ALL.iter().zip(1000..) {
        let labels = format!("device=\"flannel.1\",reason=\"{}\"", reason.name());
        let sample = format!("\nweft_drops_total{{{labels}}} {n}\n");
        assert!(text.contains(&sample), "{sample}");
    }
}

#[test]
fn values_stand_with_their_labels() {
    let text = encode(status(&["flannel.1"], 1), Exposition::Text);
    for line in [
        r#"weft_build_info{version="0.1.0"} 1"#,
        r#"weft_node_info{backend="vxlan",underlay="eth0"} 1"#,
        r#"weft_lease_info{subnet="10.5.34.0/24",kind="lease"} 1"#,
        "weft_lease_remaining_seconds 7200",
        "weft_ready 1",
        r#"weft_hand_overs_total{from="agent"} 3"#,
        r#"weft_hand_overs_total{from="service_manager"} 4"#,
        "weft_hand_overs_refused_total 5",
        "weft_hand_over_wait_seconds 0.0015",
        "weft_store_up 1",
        "weft_store_answer_age_seconds 3.5",
        "weft_store_requests_total 5",
        r#"weft_store_answer_duration_seconds_bucket{le="0.001"} 1"#,
        r#"weft_store_answer_duration_seconds_bucket{le="0.5"} 3"#,
        r#"weft_store_answer_duration_seconds_bucket{le="+Inf"} 4"#,
        "weft_store_answer_duration_seconds_sum 0.75",
        "weft_remembered_age_seconds 0",
        r#"weft_tunnel_info{device="flannel.1",wire="vxlan",vni="1",port="8472",engine="ring"} 1"#,
        r#"weft_capability{device="flannel.1",capability="uso",state="refused"} 1"#,
        r#"weft_capability{device="flannel.1",capability="uso",state="on"} 0"#,
        r#"weft_tunnel_gso{device="flannel.1",state="in_use"} 1"#,
        r#"weft_tunnel_gso_peers{device="flannel.1",state="open"} 3"#,
        r#"weft_fast_path{device="flannel.1",state="on"} 1"#,
        r#"weft_table_age_seconds{device="flannel.1"} 61.5"#,
        r#"weft_lost_frames_total{device="flannel.1"} 99"#,
        r#"weft_peer_lost_frames_total{device="flannel.1",peer="10.99.0.0"} 7"#,
        r#"weft_receive_waiting_bytes{device="flannel.1",queue="1"} 5"#,
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
}

#[test]
fn both_forms_have_the_same_families_all_of_them_explained() {
    let status = status(&["flannel.1", "flannel-v6.1"], 2);
    let text = encode(status.clone(), Exposition::Text);
    let open = encode(status, Exposition::OpenMetrics);
    let ((plain, helps), (types, open_helps)) = (described(&text), described(&open));
    assert_eq!(plain.keys().copied().collect::<BTreeSet<_>>(), helps);
    assert_eq!(types.keys().copied().collect::<BTreeSet<_>>(), open_helps);
    // OpenMetrics names a family without the ending that its samples have.
    let ended = types.into_iter().map(|(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    });
    let plain: BTreeSet<String> = plain.into_keys().map(str::to_owned).collect();
    assert_eq!(ended.collect::<BTreeSet<_>>(), plain);
    assert!(open.ends_with("\n# EOF\n") && !text.contains("# EOF"));
    // A histogram's lines are in another order.
    let samples = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| line.split([' ', '{']).next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = samples.map(name).collect();
        names.sort();
        names
    };
    assert_eq!(samples(&open), samples(&text));
    let all = "weft_store_answer_duration_seconds_bucket{le=\"+Inf\"} 4";
    assert!(open.contains(all) && text.contains(all), "{open}");
}

#[test]
fn families_are_known_without_a_node() {
    let known = families();
    let text = encode(status(&["flannel.1"], 1), Exposition::Text);
    assert_eq!(described(&known), described(&text));
    assert!(known.lines().all(|line| line.starts_with('#')), "{known}");
}

#[test]
fn what_a_label_says_cannot_end_it() {
    let odd = "a\"b\\c\nd";
    for format in [Exposition::Text, Exposition::OpenMetrics] {
        let text = encode(status(&[odd], 1), format);
        let escaped = r#"weft_table_peers{device="a\"b\\c\nd"} 7"#;
        assert!(text.contains(&format!("\n{escaped}\n")), "{text}");
        let is_line = |line: &str| line.starts_with("weft_") || line.starts_with("# ");
        assert!(text.lines().all(is_line), "{text}");
    }
}

#[test]
fn who_names_openmetrics_gets_it() {
    for (accept, format) in [
        ("", Exposition::Text),
        ("*/*", Exposition::Text),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Exposition::Text),
        (
            "application/openmetrics-text; version=1.0.0",
            Exposition::OpenMetrics,
        ),
        (
            "text/plain;q=0.5,application/openmetrics-text;version=0.0.1",
            Exposition::OpenMetrics,
        ),
    ] {
        assert_eq!(Exposition::wanted(accept), format, "{accept}");
    }
}

/// What writing costs is printed, since it depends on the machine.
#[test]
fn a_scrape_costs_the_same_with_however_many_peers() {
    let status = status(&["flannel.1", "flannel-v6.1"], 256);
    for format in [Exposition::Text, Exposition::OpenMetrics] {
        let begun = Instant::now();
        let text = encode(status.clone(), format);
        eprintln!("{format:?}: {} bytes in {:?}", text.len(), begun.elapsed());
        assert!(text.len() < 256 << 10, "{}", text.len());
    }
}
