//! Kernel routes in a namespace whose eth0 has 192.0.2.1/24 and 2001:db8::1/64.

mod limits;

use super::*;
use crate::family::{Family, PerFamily};
use crate::host::iface::Underlay;
use crate::host::netlink::Netlink;
use crate::host::netns;
use crate::wire::MacAddr;

async fn host(netlink: Netlink) -> Host {
    let eth0 = netns::link(&netlink, "eth0").await;
    netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
    netns::ip(&[
        "-6",
        "address",
        "add",
        "2001:db8::1/64",
        "dev",
        "eth0",
        "nodad",
    ]);
    netns::ip(&["link", "set", "eth0", "up"]);
    Host {
        netlink,
        underlay: Underlay {
            name: eth0.name,
            index: eth0.index,
            mtu: eth0.mtu,
            local: PerFamily {
                v4: Some([192, 0, 2, 1].into()),
                v6: None,
            },
            public: PerFamily::default(),
            by_default_route: false,
        },
        mark: None,
    }
}

/// Node `n` with subnet 10.5.n.0/24 or fd00:5:0:n::/64.
fn peer(family: Family, n: u8, addr: &str) -> Peer {
    let subnet = match family {
        Family::V4 => format!("10.5.{n}.0/24"),
        Family::V6 => format!("fd00:5:0:{n}::/64"),
    };
    Peer {
        subnet: subnet.parse().unwrap(),
        addr: addr.parse().unwrap(),
        mac: MacAddr::default(),
    }
}

fn routes(which: RoutedPeers, family: Family) -> DirectRoutes {
    let (network, len) = match family {
        Family::V4 => ("10.5.0.0/16", 24),
        Family::V6 => ("fd00:5::/32", 64),
    };
    of_network(which, network, len)
}

fn of_network(which: RoutedPeers, network: &str, len: u8) -> DirectRoutes {
    DirectRoutes::new(which, network.parse().unwrap(), len)
}

/// The routes through a gateway of one family, `destination gateway` each.
fn shown(family: Family) -> Vec<String> {
    let flag = if family == Family::V4 { "-4" } else { "-6" };
    let text = netns::ip(&[flag, "route", "show"]);
    let words = |line: &str| -> Option<String> {
        let mut words = line.split_whitespace();
        let destination = words.next()?;
        let gateway = words.skip_while(|word| *word != "via").nth(1)?;
        Some(format!("{destination} {gateway}"))
    };
    let mut routes: Vec<String> = text.lines().filter_map(words).collect();
    routes.sort();
    routes
}

fn add(route: &str) {
    let flag = if route.contains("::") { "-6" } else { "-4" };
    let words = [flag, "route", "add"].into_iter().chain(route.split(' '));
    netns::ip(&words.collect::<Vec<_>>());
}

/// The life of a route cache; `addr(n)` is the address of node `n`, `subnet(n)` its subnet.
async fn u26(host: &Host, family: Family, addr: fn(u8) -> String, subnet: fn(u8) -> String) {
    let mut direct = routes(RoutedPeers::All, family);
    let node = |n: u8| peer(family, n, &addr(n));
    let via = |n: u8, gateway: u8| format!("{} {}", subnet(n), addr(gateway));
    let mut set = async |peers: &[Peer]| direct.reconcile(host, peers.iter()).await.unwrap();

    assert_eq!(set(&[node(2), node(3)]).await, 2);
    assert_eq!(shown(family), [via(2, 2), via(3, 3)], "added");
    let del = format!("{} dev eth0", subnet(2));
    let flag = if family == Family::V4 { "-4" } else { "-6" };
    let del: Vec<&str> = [flag, "route", "del"]
        .into_iter()
        .chain(del.split(' '))
        .collect();
    netns::ip(&del);
    set(&[node(2), node(3)]).await;
    assert_eq!(shown(family), [via(2, 2), via(3, 3)], "restored");

    let moved = peer(family, 3, &addr(9));
    set(&[node(2), moved]).await;
    assert_eq!(shown(family), [via(2, 2), via(3, 9)], "another next hop");
    set(&[moved]).await;
    assert_eq!(shown(family), [via(3, 9)], "removed with its peer");
    set(&[moved]).await;
    assert_eq!(shown(family), [via(3, 9)], "nothing to do");
}

#[test]
fn u26_host_gw_route_cache() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        u26(
            &host,
            Family::V4,
            |n| format!("192.0.2.{n}"),
            |n| format!("10.5.{n}.0/24"),
        )
        .await;
    });
}

#[test]
fn u26_host_gw_route_cache_v6() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        u26(
            &host,
            Family::V6,
            |n| format!("2001:db8::{n}"),
            |n| format!("fd00:5:0:{n}::/64"),
        )
        .await;
    });
}

#[test]
fn stale_routes_go_and_foreign_ones_stay() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let foreign = [
            "192.168.9.0/24 via 192.0.2.9 dev eth0",
            "10.5.7.128/25 via 192.0.2.7 dev eth0",
            "10.5.6.0/24 via 192.0.2.6 dev eth0 proto static",
        ];
        let stale = [
            "10.5.8.0/24 via 192.0.2.8 dev eth0",
            "10.5.9.0/24 via 192.0.2.9 dev eth0 proto 119",
        ];
        for route in foreign.iter().chain(&stale) {
            add(route);
        }
        let node = peer(Family::V4, 2, "192.0.2.2");
        let mut direct = routes(RoutedPeers::All, Family::V4);
        direct.reconcile(&host, [node].iter()).await.unwrap();
        let expected = [
            "10.5.2.0/24 192.0.2.2",
            "10.5.6.0/24 192.0.2.6",
            "10.5.7.128/25 192.0.2.7",
            "192.168.9.0/24 192.0.2.9",
        ];
        assert_eq!(shown(Family::V4), expected);

        add(stale[0]);
        let mut none = routes(RoutedPeers::None, Family::V4);
        assert_eq!(none.reconcile(&host, [node].iter()).await.unwrap(), 0);
        let expected = [
            "10.5.6.0/24 192.0.2.6",
            "10.5.7.128/25 192.0.2.7",
            "10.5.8.0/24 192.0.2.8",
            "192.168.9.0/24 192.0.2.9",
        ];
        assert_eq!(shown(Family::V4), expected, "only our own go");
    });
}

#[test]
fn nodes_behind_a_gateway_get_no_route() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        add("default via 192.0.2.254");
        let peers = [
            peer(Family::V4, 2, "192.0.2.2"),
            peer(Family::V4, 3, "198.51.100.3"),
            peer(Family::V4, 4, "192.0.2.1"),
        ];
        for (which, complaints) in [(RoutedPeers::OnLink, 0), (RoutedPeers::All, 2)] {
            let mut direct = routes(which, Family::V4);
            for _ in 0..2 {
                assert_eq!(direct.reconcile(&host, peers.iter()).await.unwrap(), 1);
                assert_eq!(direct.complaints.len(), complaints);
            }
            let expected = ["10.5.2.0/24 192.0.2.2", "default 192.0.2.254"];
            assert_eq!(shown(Family::V4), expected);
        }

        // The second node moves onto the link and the first one away from it.
        let mut direct = routes(RoutedPeers::All, Family::V4);
        direct.reconcile(&host, peers[..2].iter()).await.unwrap();
        let away = "192.0.2.2/32 via 192.0.2.254 dev eth0";
        add(away);
        add("198.51.100.0/24 dev eth0");
        direct.reconcile(&host, peers[..2].iter()).await.unwrap();
        let expected = [
            "10.5.3.0/24 198.51.100.3",
            "192.0.2.2 192.0.2.254",
            "default 192.0.2.254",
        ];
        assert_eq!(shown(Family::V4), expected);
        assert_eq!(direct.complaints.len(), 1);
    });
}

/// How many routes are marked as ours.
fn marked() -> usize {
    netns::ip(&["route", "show", "proto", "119"])
        .lines()
        .count()
}

#[test]
fn flannels_routes_are_taken_over_once_and_later_ones_are_the_operators() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        add("10.5.2.0/24 via 192.0.2.2 dev eth0");
        add("fd00:5:0:2::/64 via 2001:db8::2 dev eth0");
        for (family, addr) in [(Family::V4, "192.0.2.2"), (Family::V6, "2001:db8::2")] {
            let mut direct = routes(RoutedPeers::All, family);
            let node = peer(family, 2, addr);
            direct.reconcile(&host, [node].iter()).await.unwrap();
            let subnet = node.subnet;
            assert_eq!(shown(family), [format!("{subnet} {addr}")]);
            let operators = match family {
                Family::V4 => "10.5.8.0/24 192.0.2.8",
                Family::V6 => "fd00:5:0:8::/64 2001:db8::8",
            };
            add(&format!("{} dev eth0", operators.replace(' ', " via ")));
            direct.reconcile(&host, [node].iter()).await.unwrap();
            direct.reconcile(&host, [].iter()).await.unwrap();
            assert_eq!(shown(family), [operators], "flannel's went with its peer");
        }
    });
}

#[test]
fn flannels_routes_do_not_hide_peers_from_a_tunnel() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let operators = "10.5.8.0/24 192.0.2.8";
        let elsewhere = "10.5.3.0/24 192.0.2.9";
        for route in ["10.5.2.0/24 192.0.2.2", elsewhere, operators] {
            add(&format!("{} dev eth0", route.replace(' ', " via ")));
        }
        let mut direct = routes(RoutedPeers::None, Family::V4);
        let peers = [2, 3].map(|n| peer(Family::V4, n, &format!("192.0.2.{n}")));
        direct.reconcile(&host, [].iter()).await.unwrap();
        assert_eq!(shown(Family::V4).len(), 3, "nobody is known yet");
        // Nodes move one by one.
        direct.reconcile(&host, peers[1..].iter()).await.unwrap();
        assert_eq!(shown(Family::V4).len(), 3);
        direct.reconcile(&host, peers.iter()).await.unwrap();
        assert_eq!(shown(Family::V4), [elsewhere, operators]);
        add("10.5.2.0/24 via 192.0.2.2 dev eth0");
        direct.reconcile(&host, peers.iter()).await.unwrap();
        assert_eq!(shown(Family::V4).len(), 3, "an operator's by now");
        netns::ip(&["link", "set", "eth0", "down"]);
        direct.reconcile(&host, peers.iter()).await.unwrap();
        assert!(direct.complaints.is_empty(), "no route is wanted");
    });
}

#[test]
fn an_underlay_that_is_made_anew_is_routed_through_again() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let node = peer(Family::V4, 2, "192.0.2.2");
        let mut direct = routes(RoutedPeers::All, Family::V4);
        direct.reconcile(&host, [node].iter()).await.unwrap();
        netns::ip(&["link", "del", "eth0"]);
        for _ in 0..2 {
            assert_eq!(direct.reconcile(&host, [node].iter()).await.unwrap(), 0);
            assert_eq!(direct.complaints.len(), 1, "{:?}", direct.complaints);
        }
        let eth0 = netns::link(&host.netlink, "eth0").await;
        assert_ne!(eth0.index, host.underlay.index);
        netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
        netns::ip(&["link", "set", "eth0", "up"]);
        assert_eq!(direct.reconcile(&host, [node].iter()).await.unwrap(), 1);
        assert_eq!(shown(Family::V4), ["10.5.2.0/24 192.0.2.2"]);
        assert!(direct.complaints.is_empty());
        assert_eq!(marked(), 1);
    });
}

#[test]
fn a_node_is_settled_unless_no_route_at_all_can_be_set() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let good = peer(Family::V4, 2, "192.0.2.2");
        let away = peer(Family::V4, 3, "198.51.100.3");
        // The kernel takes no destination with bits of a host.
        let refused = Peer {
            subnet: "10.5.4.1/24".parse().unwrap(),
            ..peer(Family::V4, 4, "192.0.2.4")
        };
        let mut direct = routes(RoutedPeers::All, Family::V4);
        assert!(!direct.is_settled(), "before the first look");
        for (peers, programmed, settled) in [
            (vec![], 0, true),
            (vec![refused], 0, false),
            (vec![good, refused, away], 1, true),
            (vec![away], 0, true),
        ] {
            direct.reconcile(&host, peers.iter()).await.unwrap();
            assert_eq!(direct.programmed(), programmed, "{peers:?}");
            assert_eq!(direct.is_settled(), settled, "{peers:?}");
        }
        netns::ip(&["link", "set", "eth0", "down"]);
        direct.reconcile(&host, [good].iter()).await.unwrap();
        assert_eq!((direct.programmed(), direct.is_settled()), (0, false));
    });
}
