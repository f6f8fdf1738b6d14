//! The blackhole route over the life of a lease, and after it.

use super::*;

fn blackholes() -> String {
    netns::ip(&["route", "show", "type", "blackhole"])
}

#[test]
fn the_blackhole_route_is_kept() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &["-ip-blackhole-route"]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let route = "blackhole 10.5.72.0/24 proto 119";
        assert!(blackholes().starts_with(route), "{}", blackholes());
        netns::ip(&["route", "flush", "type", "blackhole"]);
        assert_eq!(blackholes(), "");
        node.resync().await;
        assert!(blackholes().starts_with(route));
        node.stop().await;
    });
}

#[test]
fn a_former_subnet_can_be_reached_at_its_next_node() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let kept = options(&dir, &["-ip-blackhole-route"]);
        let leases = Leases::of("10.5.2.0/24");
        Node::start(&kept, &leases).await.unwrap().stop().await;
        assert!(blackholes().starts_with("blackhole 10.5.2.0/24"));
        let leases = Leases::of("10.5.94.0/24");
        for options in [kept, options(&dir, &[])] {
            netns::ip(&["route", "replace", "blackhole", "10.5.3.0/24"]);
            let node = Node::start(&options, &leases).await.unwrap();
            let own = "blackhole 10.5.94.0/24 proto 119";
            assert!(blackholes().starts_with(own), "{}", blackholes());
            assert_eq!(blackholes().lines().count(), 1, "{}", blackholes());
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            for subnet in [2, 3] {
                let route = netlink.route_to([10, 5, subnet, 9].into()).await;
                assert_eq!(route.unwrap().unwrap().index, Some(device.index));
            }
            node.stop().await;
        }
        // Of a network that has changed, too.
        let leases = Leases::of("10.9.4.0/24");
        let node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
        assert_eq!(blackholes(), "");
        node.stop().await;
    });
}
