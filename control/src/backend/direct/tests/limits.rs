//! What no route is set over, and which ones go.

use super::*;

/// The routes of the main table of IPv4, as `ip` shows them.
fn main_table() -> String {
    netns::ip(&["-4", "route", "show"])
}

fn at(subnet: &str, addr: &str) -> Peer {
    Peer {
        subnet: subnet.parse().unwrap(),
        addr: addr.parse().unwrap(),
        mac: MacAddr::default(),
    }
}

/// Routes in a network that the underlay's addresses lie in, too.
fn around_the_underlay(which: RoutedPeers, v4: bool) -> DirectRoutes {
    let (network, len) = if v4 {
        ("192.0.0.0/16", 24)
    } else {
        ("2001:db8::/32", 64)
    };
    of_network(which, network, len)
}

#[test]
fn networks_of_the_host_and_addresses_of_nodes_are_never_routed_over() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let before = main_table();
        let before_v6 = shown_v6();
        for which in [RoutedPeers::All, RoutedPeers::OnLink] {
            let mut direct = around_the_underlay(which, true);
            let peers = [
                at("192.0.2.0/24", "192.0.2.12"),
                at("192.0.2.128/25", "192.0.2.130"),
                at("192.0.0.0/20", "192.0.2.13"),
            ];
            for _ in 0..2 {
                assert_eq!(direct.reconcile(&host, peers.iter()).await.unwrap(), 0);
                assert_eq!(direct.complaints.len(), 3, "{:?}", direct.complaints);
                assert_eq!(main_table(), before);
            }
            let mut direct = around_the_underlay(which, false);
            let peers = [at("2001:db8::/64", "2001:db8::12")];
            assert_eq!(direct.reconcile(&host, peers.iter()).await.unwrap(), 0);
            assert_eq!(direct.complaints.len(), 1, "{:?}", direct.complaints);
            assert_eq!(shown_v6(), before_v6);
        }
    });
}

/// But for link-local routes, which the kernel adds when it likes.
fn shown_v6() -> Vec<String> {
    let text = netns::ip(&["-6", "route", "show"]);
    let lines = text.lines().filter(|line| !line.starts_with("fe80"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_network_of_the_host_that_comes_later_gets_its_route_back() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let node = peer(Family::V4, 2, "192.0.2.2");
        let mut direct = routes(RoutedPeers::All, Family::V4);
        direct.reconcile(&host, [node].iter()).await.unwrap();
        let bridge = netns::link(&host.netlink, "br7").await;
        host.netlink.set_link_up(&bridge).await.unwrap();
        // Of two routes to one network the kernel takes the one that was there first.
        netns::ip(&["address", "add", "10.5.2.1/24", "dev", "br7"]);
        assert_eq!(direct.reconcile(&host, [node].iter()).await.unwrap(), 0);
        let table = main_table();
        assert!(
            table.contains("10.5.2.0/24 dev br7 proto kernel"),
            "{table}"
        );
        assert_eq!(shown(Family::V4), [""; 0]);
        assert_eq!(direct.complaints.len(), 1, "{:?}", direct.complaints);
    });
}

#[test]
fn what_lies_inside_a_direct_subnet_and_needs_the_tunnel_keeps_it() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        add("default via 192.0.2.254");
        let peers = [
            at("10.5.2.0/24", "192.0.2.2"),
            at("10.5.2.128/25", "198.51.100.3"),
            at("10.5.4.0/24", "192.0.2.4"),
            at("10.5.4.128/25", "192.0.2.5"),
        ];
        let mut direct = routes(RoutedPeers::OnLink, Family::V4);
        direct.reconcile(&host, peers.iter()).await.unwrap();
        let expected = [
            "10.5.4.0/24 192.0.2.4",
            "10.5.4.128/25 192.0.2.5",
            "default 192.0.2.254",
        ];
        assert_eq!(shown(Family::V4), expected);
    });
}

#[test]
fn stale_routes_by_the_interface_before_go() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let old = netns::link(&host.netlink, "eth1").await;
        host.netlink.set_link_up(&old).await.unwrap();
        netns::ip(&["address", "add", "198.51.100.1/24", "dev", "eth1"]);
        for which in [RoutedPeers::None, RoutedPeers::OnLink, RoutedPeers::All] {
            for route in [
                "10.5.9.0/24 via 198.51.100.9 dev eth1 proto 119",
                "10.5.2.0/24 via 198.51.100.2 dev eth1 proto 119",
                // An operator's, and that of another agent on this host.
                "10.5.7.0/24 via 198.51.100.7 dev eth1 proto static",
                "10.244.7.0/24 via 192.0.2.7 dev eth0 proto 119",
            ] {
                add(route);
            }
            let node = peer(Family::V4, 2, "192.0.2.2");
            let mut direct = routes(which, Family::V4);
            direct.reconcile(&host, [node].iter()).await.unwrap();
            let mut expected = vec!["10.244.7.0/24 192.0.2.7", "10.5.7.0/24 198.51.100.7"];
            if which != RoutedPeers::None {
                expected.insert(1, "10.5.2.0/24 192.0.2.2");
            }
            assert_eq!(shown(Family::V4), expected, "{which:?}");
            netns::ip(&["route", "flush", "proto", "119"]);
            netns::ip(&["route", "del", "10.5.7.0/24"]);
        }
    });
}
