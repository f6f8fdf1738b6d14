//! What a node tells of itself, and what that costs it.

use super::report::Reporter;
use super::*;
use crate::hand_over::Tally;
use crate::http::Readiness;
use crate::metrics::{self, Exposition};
use std::sync::Arc;
use std::time::Instant;

/// Other nodes of a large cluster.
const PEERS: u32 = 1000;

/// The most that an answer may keep the control thread, with so many peers.
const LIMIT: Duration = Duration::from_millis(20);

fn peers(attrs: &LeaseAttrs) -> Vec<Lease> {
    let peer = |n: u32| Lease {
        subnet: Some(Ipv4Net::new((0x0a05_0000 + (n << 8)).into(), 24).unwrap()),
        subnet_v6: None,
        attrs: LeaseAttrs {
            public_ip: std::net::Ipv4Addr::from_bits(0xc612_0000 + n),
            ..attrs.clone()
        },
        expires: None,
        revision: 2,
    };
    (1..=PEERS).map(peer).collect()
}

#[test]
fn a_node_of_a_large_cluster_answers_soon() {
    netns::run(async move |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases {
            config: r#","SubnetLen":24"#,
            network: "10.0.0.0/8".parse().unwrap(),
            ..Leases::of("10.5.0.0/24")
        };
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let (attrs, _) = leases.asked().remove(0);
        let mut batch = vec![LeaseEvent::Snapshot(peers(&attrs))];
        node.backend.apply(&mut batch).await.unwrap();
        let readiness = Readiness::default();
        let mut reporter = Reporter::new(256, None, &leases);
        let mut best = [Duration::MAX; 2];
        for _ in 0..20 {
            let begun = Instant::now();
            let status = reporter.status(
                (&node.lease, &node.backend),
                &leases,
                &readiness,
                &Tally::default(),
            );
            let told = begun.elapsed();
            assert_eq!(status.peers, PEERS as usize);
            let text = metrics::encode(Arc::new(status), Exposition::OpenMetrics);
            let written = begun.elapsed();
            assert!(text.contains(&format!("\nweft_peers {PEERS}\n")));
            best = [best[0].min(told), best[1].min(written)];
        }
        let [told, written] = best;
        eprintln!("{PEERS} peers: status in {told:?}, metrics in {written:?}");
        assert!(written < LIMIT, "{written:?}");
        node.stop().await;
    });
}

#[test]
fn a_node_tells_what_it_has() {
    netns::run(async move |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let mut node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
        let readiness = Readiness::default();
        let hour = Instant::now() + Duration::from_secs(3600);
        let mut reporter = Reporter::new(32, Some(hour), &leases);
        let status = reporter.status(
            (&node.lease, &node.backend),
            &leases,
            &readiness,
            &Tally::default(),
        );
        assert!(!status.ready);
        assert_eq!(status.lease.subnets, ["10.5.72.0/24".parse().unwrap()]);
        let left = status.lease.seconds_left.unwrap();
        assert!((3500..=3600).contains(&left), "{left}");
        assert_eq!(status.underlay.name, "eth0");
        assert!(status.underlay.there);
        assert_eq!((status.backend.as_str(), status.mtu), ("vxlan", 1450));
        assert_eq!(status.store.health, None, "leases from memory");
        let [tunnel] = &status.tunnels[..] else {
            panic!("{:?}", status.tunnels);
        };
        assert_eq!((tunnel.device.as_str(), tunnel.port), ("flannel.1", 8472));
        assert_eq!(tunnel.remakes, 0);
        let workers = tunnel.workers.as_ref().unwrap();
        assert_eq!(workers.queues.len(), 1);
        assert!(workers.queues[0].room_bytes > 0);

        netns::ip(&["link", "del", "flannel.1"]);
        node.backend.check_health().await.unwrap();
        let status = reporter.status(
            (&node.lease, &node.backend),
            &leases,
            &readiness,
            &Tally::default(),
        );
        assert_eq!(status.tunnels[0].remakes, 1);
        node.stop().await;
    });
}
