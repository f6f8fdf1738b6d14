//! What becomes of a node that runs.

use super::*;

#[test]
fn events_reach_the_table() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let (attrs, _) = leases.asked().remove(0);
        let peer = Lease {
            subnet: Some("10.5.9.0/24".parse().unwrap()),
            subnet_v6: None,
            attrs,
            expires: None,
            revision: 2,
        };
        let gone = LeaseEvent::Delete(peer.key());
        let mut batch = vec![LeaseEvent::Snapshot(vec![peer])];
        node.backend.apply(&mut batch).await.unwrap();
        assert_eq!((node.backend.peers(), batch.len()), (1, 0));
        node.backend.apply(&mut vec![gone]).await.unwrap();
        assert_eq!(node.backend.peers(), 0);
        node.stop().await;
    });
}

#[test]
fn a_device_that_is_removed_or_set_down_comes_back() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let up = async || {
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            let route = netns::ip(&["route", "show", "dev", "flannel.1"]);
            device.up && route.starts_with("10.5.0.0/16 src 10.5.72.0")
        };
        for harm in ["del", "set down", "del", "del"] {
            let words = ["link"].into_iter().chain(harm.split(' '));
            let words = words.chain(["dev", "flannel.1"]);
            netns::ip(&words.collect::<Vec<_>>());
            node.backend.check_health().await.unwrap();
            assert!(up().await, "after {harm}");
            node.backend.check_health().await.unwrap();
        }
        netns::ip(&["address", "flush", "dev", "flannel.1"]);
        assert!(!up().await, "the route goes with its source");
        node.backend.reconcile().await;
        assert!(up().await);
        node.stop().await;
    });
}

#[test]
fn another_backend_removes_what_host_gw_left() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        for backend in ["alloc", "udp", "vxlan"] {
            let add = "route add 10.5.9.0/24 via 192.0.2.9 dev eth0 proto 119";
            netns::ip(&add.split(' ').collect::<Vec<_>>());
            let leases = Leases {
                backend,
                ..Leases::of("10.5.72.0/24")
            };
            let mut node = Node::start(&options, &leases).await.unwrap();
            let mut batch = vec![LeaseEvent::Snapshot(Vec::new())];
            node.backend.apply(&mut batch).await.unwrap();
            assert_eq!(
                netns::ip(&["route", "show", "proto", "119"]),
                "",
                "{backend}"
            );
            node.stop().await;
        }
    });
}

#[test]
fn a_device_is_made_anew_on_an_underlay_that_was_made_anew_or_is_away() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let old = netlink.link("eth0").await.unwrap().unwrap();
        netns::ip(&["link", "del", "eth0"]);
        underlay(&netlink).await;
        let new = netlink.link("eth0").await.unwrap().unwrap();
        assert_ne!(new.index, old.index);
        for away in [false, true] {
            if away {
                netns::ip(&["link", "del", "eth0"]);
                netns::ip(&["link", "set", "lo", "up"]);
                netns::ip(&["address", "add", "192.0.2.1/32", "dev", "lo"]);
            }
            netns::ip(&["link", "del", "flannel.1"]);
            node.backend.check_health().await.unwrap();
            // The kernel lets go of a device without workers only a little later.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            assert!(device.up && device.carrier, "away: {away}");
        }
        node.stop().await;
    });
}

#[test]
fn a_port_that_is_taken_while_the_device_is_made_anew_is_waited_for() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        // With two queues the workers share their port, and so the test can have it, too.
        let options = options(&dir, &["-queues=2"]);
        let leases = Leases::of("10.5.72.0/24");
        let mut node = Node::start(&options, &leases).await.unwrap();
        let holder = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        holder.set_reuse_port(true).unwrap();
        let port: SocketAddr = "0.0.0.0:8472".parse().unwrap();
        holder.bind(&port.into()).unwrap();
        netns::ip(&["link", "del", "flannel.1"]);
        for _ in 0..2 {
            node.backend.check_health().await.unwrap();
            assert_eq!(netlink.link("flannel.1").await.unwrap(), None);
        }
        drop(holder);
        node.backend.check_health().await.unwrap();
        let device = netlink.link("flannel.1").await.unwrap().unwrap();
        assert!(device.up && device.carrier);
        node.stop().await;
    });
}
