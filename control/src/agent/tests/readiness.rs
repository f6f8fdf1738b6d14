//! When a node says that it can be used.

use super::*;
use crate::http::Readiness;

/// A peer of the node on the link of eth0.
fn peer(leases: &Leases) -> Lease {
    let (mut attrs, _) = leases.asked().remove(0);
    attrs.public_ip = [192, 0, 2, 9].into();
    Lease {
        subnet: Some("10.5.9.0/24".parse().unwrap()),
        subnet_v6: None,
        attrs,
        expires: None,
        revision: 2,
    }
}

#[test]
fn s85_a_node_whose_routes_cannot_be_set_is_not_ready_until_they_can() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases {
            backend: "host-gw",
            ..Leases::of("10.5.72.0/24")
        };
        let mut node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
        let (readiness, mut ready) = (Readiness::default(), false);
        netns::ip(&["link", "set", "eth0", "down"]);
        let mut batch = vec![LeaseEvent::Snapshot(vec![peer(&leases)])];
        node.backend.apply(&mut batch).await.unwrap();
        node.report(&mut ready, &readiness);
        assert!(!ready && !readiness.get());
        assert_eq!(node.backend.peers(), 0);

        netns::ip(&["link", "set", "eth0", "up"]);
        node.backend.reconcile().await;
        node.report(&mut ready, &readiness);
        assert!(ready && readiness.get());
        assert_eq!(node.backend.peers(), 1);
        let routes = netns::ip(&["route", "show", "proto", "119"]);
        assert!(routes.starts_with("10.5.9.0/24 via 192.0.2.9"), "{routes}");
        node.stop().await;
    });
}

#[test]
fn s85_a_node_without_its_underlay_address_is_not_ready_until_it_is_back() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let mut node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
        let (readiness, mut ready) = (Readiness::default(), false);
        let mut batch = vec![LeaseEvent::Snapshot(Vec::new())];
        node.backend.apply(&mut batch).await.unwrap();
        let mut look = async || {
            node.backend.reconcile().await;
            node.report(&mut ready, &readiness);
            readiness.get()
        };
        assert!(look().await);
        netns::ip(&["address", "add", "192.0.2.77/24", "dev", "eth0"]);
        netns::ip(&["address", "del", "192.0.2.1/24", "dev", "eth0"]);
        assert!(!look().await && !look().await);
        netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
        assert!(look().await);
        node.stop().await;
    });
}
