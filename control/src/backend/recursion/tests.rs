//! Ways in a namespace whose eth0 has 192.0.2.1/24, and whose flannel.1 has 10.5.0.0/16.

use super::*;
use crate::family::PerFamily;
use crate::host::iface::Underlay;
use crate::host::netlink::Netlink;
use crate::host::netns;
use crate::wire::MacAddr;

const LOCAL: [u8; 4] = [192, 0, 2, 1];

fn ip(line: &str) {
    netns::ip(&line.split(' ').collect::<Vec<_>>());
}

async fn host(netlink: Netlink) -> Host {
    let eth0 = netns::link(&netlink, "eth0").await;
    netns::link(&netlink, "flannel.1").await;
    for line in [
        "address add 192.0.2.1/24 dev eth0",
        "-6 address add 2001:db8::1/64 dev eth0 nodad",
        "link set eth0 up",
        "link set flannel.1 up",
        "route add 10.5.0.0/16 dev flannel.1",
        "-6 route add fd00:5::/32 dev flannel.1",
    ] {
        ip(line);
    }
    Host {
        netlink,
        underlay: Underlay {
            name: eth0.name,
            index: eth0.index,
            mtu: eth0.mtu,
            local: PerFamily {
                v4: Some(LOCAL.into()),
                v6: None,
            },
            public: PerFamily::default(),
            by_default_route: false,
        },
        mark: None,
    }
}

/// Peers with these addresses and some subnets.
fn peers(addrs: impl IntoIterator<Item = IpAddr>) -> BTreeMap<SubnetKey, Peer> {
    let leases = (0..).zip(addrs).map(|(n, addr): (u32, _)| {
        let subnet = std::net::Ipv4Addr::from_bits(0x0a05_0000 + 256 * n);
        let key = format!("{subnet}-24").parse().unwrap();
        let subnet = format!("{subnet}/24").parse().unwrap();
        let mac = MacAddr::default();
        (key, Peer { subnet, addr, mac })
    });
    leases.collect()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn peers_behind_another_device_have_sockets_of_their_own() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        netns::link(&host.netlink, "eth1").await;
        ip("link set eth1 up");
        let mut recursion = Recursion::new(LOCAL.into());
        let [near, far] = ["192.0.2.2", "198.51.100.7"].map(addr);
        let peers = peers([near, far]);
        let elsewhere = |r: &Recursion| [near, far].map(|addr| r.leaves_elsewhere(addr));
        // Nothing leads to the second one yet.
        assert!(!recursion.look(&host, peers.iter(), false).await);
        assert_eq!(elsewhere(&recursion), [false, false]);
        ip("route add 198.51.100.0/24 dev eth1");
        assert!(recursion.look(&host, peers.iter(), true).await);
        assert_eq!(elsewhere(&recursion), [false, true]);
        assert!(!recursion.look(&host, peers.iter(), true).await);
        ip("route del 198.51.100.0/24 dev eth1");
        assert!(recursion.look(&host, peers.iter(), true).await);
        assert_eq!(elsewhere(&recursion), [false, false]);
    });
}

#[test]
fn peers_inside_a_tunnel_are_cut_off_until_their_route_leads_out() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let mut recursion = Recursion::new(LOCAL.into());
        let [inside, outside] = ["10.5.250.9", "192.0.2.2"].map(addr);
        let peers = peers([inside, outside]);
        assert!(recursion.look(&host, peers.iter(), false).await);
        let cut_off = |r: &Recursion| [inside, outside].map(|addr| r.leads_back(addr));
        assert_eq!(cut_off(&recursion), [true, false]);
        assert!(!recursion.look(&host, peers.iter(), true).await);
        for (change, expected) in [
            ("route add 10.5.250.9 dev eth0", [false, false]),
            ("route add 192.0.2.2 dev flannel.1", [false, true]),
            ("route del 10.5.250.9", [true, true]),
            ("route del 192.0.2.2", [true, false]),
            // From where packets leave, other rules may hold.
            ("rule add from 192.0.2.1 lookup 100", [true, false]),
            ("route add default dev eth0 table 100", [false, false]),
        ] {
            ip(change);
            assert!(!recursion.look(&host, peers.iter(), false).await, "known");
            let before = cut_off(&recursion);
            let changed = recursion.look(&host, peers.iter(), true).await;
            assert_eq!(cut_off(&recursion), expected, "{change}");
            assert_eq!(changed, before != expected, "{change}");
        }
        // Leases that are gone are forgotten, and new ones asked for.
        ip("rule del from 192.0.2.1");
        assert!(!recursion.look(&host, BTreeMap::new().iter(), false).await);
        assert!(recursion.ways.is_empty());
        assert!(recursion.look(&host, peers.iter(), false).await);
        assert_eq!(cut_off(&recursion), [true, false]);
    });
}

#[test]
fn other_tunnels_of_this_node_lead_back_too_and_other_devices_do_not() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        for device in ["flannel0", "weft.7", "wg0"] {
            netns::link(&host.netlink, device).await;
            ip(&format!("link set {device} up"));
        }
        for line in [
            "tuntap add other mode tun",
            "link add vxlan100 up type vxlan id 100 dstport 4789",
            // The one device without a kind, as hardware is, that a namespace has.
            "link set lo name flannel-lan",
            "link set flannel-lan up",
        ] {
            ip(line);
        }
        let alias = ["link", "set", "other", "up", "alias", "weft /net /file"];
        netns::ip(&alias);
        for (n, (device, expected)) in [
            ("flannel0", true),
            ("weft.7", true),
            ("other", true),
            ("vxlan100", true),
            ("flannel-lan", false),
            ("wg0", false),
        ]
        .into_iter()
        .enumerate()
        {
            let to = addr(&format!("198.51.100.{n}"));
            ip(&format!("route add {to} dev {device}"));
            let mut recursion = Recursion::new(LOCAL.into());
            recursion.look(&host, peers([to]).iter(), false).await;
            assert_eq!(recursion.leads_back(to), expected, "{device}");
        }
        // Without a route, and to this host itself.
        for to in ["203.0.113.1", "192.0.2.1"].map(addr) {
            let mut recursion = Recursion::new(LOCAL.into());
            recursion.look(&host, peers([to]).iter(), false).await;
            assert!(!recursion.leads_back(to), "{to}");
        }
    });
}

#[test]
fn ipv6_is_looked_at_but_for_link_local_addresses() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let mut recursion = Recursion::new(addr("2001:db8::1"));
        let all = ["fd00:5::9", "2001:db8::2", "fe80::9"].map(addr);
        recursion.look(&host, peers(all).iter(), false).await;
        let found = all.map(|addr| recursion.leads_back(addr));
        assert_eq!(found, [true, false, false]);
    });
}

#[test]
fn a_look_is_bounded_and_all_have_their_turn() {
    netns::run(async |netlink| {
        let host = host(netlink).await;
        let count = 2 * LOOK_MAX as u32 + LOOK_MAX as u32 / 2;
        let first = 0x0a05_0001;
        let all = (0..count).map(|n| std::net::Ipv4Addr::from_bits(first + n).into());
        let peers = peers(all);
        let mut recursion = Recursion::new(LOCAL.into());
        let mut known = Vec::new();
        for _ in 0..3 {
            recursion.look(&host, peers.iter(), false).await;
            known.push(recursion.ways.len());
        }
        assert_eq!(known, [LOOK_MAX, 2 * LOOK_MAX, count as usize]);
        ip("route replace 10.5.0.0/16 dev eth0");
        let mut left = Vec::new();
        for _ in 0..3 {
            assert!(recursion.look(&host, peers.iter(), true).await);
            left.push(
                recursion
                    .ways
                    .values()
                    .filter(|way| matches!(way, Way::Tunnel(_)))
                    .count(),
            );
        }
        let count = count as usize;
        assert_eq!(left, [count - LOOK_MAX, count - 2 * LOOK_MAX, 0]);
    });
}
