use super::*;
use crate::wire::{ethernet, vxlan};
use proptest::prelude::*;

/// 10.0.0.0/8 in /24 and fd00::/48 in /64; we are 10.9.9.0/24 and fd00:0:0:909::/64.
pub(crate) fn overlay() -> Overlay {
    Overlay {
        vni: Vni::new(0x0a_0b0c).unwrap(),
        local_mac: MacAddr([2, 0, 0, 0, 0, 99]),
        network_v4: Some("10.0.0.0/8".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd00::/48".parse().unwrap()),
        subnet_len_v6: 64,
        own_v4: Some("10.9.9.0/24".parse().unwrap()),
        own_v6: Some("fd00:0:0:909::/64".parse().unwrap()),
        ..Overlay::default()
    }
}

/// 192.168.0.`host`, with a MAC that ends in `mac`.
pub(crate) fn peer(host: u8, mac: u8) -> NewPeer {
    NewPeer {
        addr: SocketAddr::from(([192, 168, 0, host], 8472)),
        mac: MacAddr([2, 0, 0, 0, 0, mac]),
    }
}

pub(crate) fn route(prefix: &str, peer: NewPeer) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        peer,
    }
}

/// The last byte of the MAC of the peer that gets the traffic to `dst`.
fn owner(table: &Table, dst: &str) -> Option<u8> {
    let id = match dst.parse().unwrap() {
        IpAddr::V4(ip) => table.lookup_v4(ip),
        IpAddr::V6(ip) => table.lookup_v6(ip),
    };
    id.map(|id| table.peer(id).mac.0[5])
}

#[test]
fn subnets_belong_to_their_peers() {
    let table = Table::build(
        overlay(),
        &[
            route("10.0.0.0/24", peer(1, 1)),
            route("10.1.2.0/24", peer(2, 2)),
            route("10.255.255.0/24", peer(3, 3)),
            route("fd00::/64", peer(4, 4)),
            route("fd00:0:0:ffff::/64", peer(5, 5)),
        ],
    )
    .unwrap();
    for (dst, want) in [
        ("10.0.0.0", Some(1)),
        ("10.0.0.255", Some(1)),
        ("10.0.1.0", None),
        ("10.1.1.255", None),
        ("10.1.2.0", Some(2)),
        ("10.1.2.255", Some(2)),
        ("10.1.3.0", None),
        ("10.255.255.255", Some(3)),
        ("11.0.0.0", None),
        ("9.255.255.255", None),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("fd00::1", Some(4)),
        ("fd00:0:0:1::", None),
        ("fd00:0:0:ffff:ffff:ffff:ffff:ffff", Some(5)),
        ("fd00:0:1::", None),
        ("fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None),
        ("::", None),
    ] {
        assert_eq!(owner(&table, dst), want, "{dst}");
    }
}

#[test]
fn the_longest_prefix_wins_on_both_sides_of_the_index() {
    let table = Table::build(
        overlay(),
        &[
            route("10.1.2.128/25", peer(2, 2)),
            route("10.1.2.0/24", peer(1, 1)),
            route("10.1.0.0/16", peer(3, 3)),
            route("10.1.2.200/32", peer(4, 4)),
            route("0.0.0.0/0", peer(5, 5)),
            route("172.16.0.0/12", peer(6, 6)),
            route("fd00:0:0:1:8000::/65", peer(7, 7)),
            route("fd00:0:0:1::/64", peer(8, 8)),
        ],
    )
    .unwrap();
    for (dst, want) in [
        ("10.1.2.0", Some(1)),
        ("10.1.2.127", Some(1)),
        ("10.1.2.128", Some(2)),
        ("10.1.2.199", Some(2)),
        ("10.1.2.200", Some(4)),
        ("10.1.2.201", Some(2)),
        ("10.1.2.255", Some(2)),
        ("10.1.3.0", Some(3)),
        ("10.2.0.0", Some(5)),
        ("172.31.255.255", Some(6)),
        ("172.32.0.0", Some(5)),
        ("255.255.255.255", Some(5)),
        ("fd00:0:0:1::1", Some(8)),
        ("fd00:0:0:1:8000::", Some(7)),
        ("fd00:0:0:2::", None),
    ] {
        assert_eq!(owner(&table, dst), want, "{dst}");
    }
}

#[test]
fn bits_beyond_the_prefix_do_not_matter() {
    let mut overlay = overlay();
    overlay.network_v4 = Some("10.77.0.1/8".parse().unwrap());
    let table = Table::build(overlay, &[route("10.1.2.3/24", peer(1, 1))]).unwrap();
    assert_eq!(owner(&table, "10.1.2.200"), Some(1));
}

#[test]
fn of_equal_prefixes_the_last_gets_the_traffic_and_no_peer_is_lost() {
    let table = Table::build(
        overlay(),
        &[
            route("10.1.2.0/24", peer(1, 1)),
            route("10.1.2.9/24", peer(2, 2)),
        ],
    )
    .unwrap();
    assert_eq!(owner(&table, "10.1.2.3"), Some(2));
    assert_eq!(table.peers().len(), 2);
    let first = table.peer_by_addr("192.168.0.1".parse().unwrap());
    assert_eq!(first, Some(PeerId(0)));
}

#[test]
fn equal_peers_are_one() {
    let table = Table::build(
        overlay(),
        &[
            route("10.1.2.0/24", peer(1, 1)),
            route("10.1.3.0/24", peer(1, 1)),
            route("fd00:0:0:5::/64", peer(1, 1)),
            route("10.1.4.0/24", peer(1, 2)),
        ],
    )
    .unwrap();
    assert_eq!(table.peers().len(), 2);
    let same = table.lookup_v4([10, 1, 2, 3].into());
    assert_eq!(same, table.lookup_v4([10, 1, 3, 3].into()));
    assert_eq!(same, table.lookup_v6("fd00:0:0:5::1".parse().unwrap()));
    assert_eq!(owner(&table, "10.1.4.4"), Some(2));
}

#[test]
fn bare_packets_have_no_header_and_no_ipv6_route() {
    let overlay = Overlay {
        wire: Wire::Ip,
        ..overlay()
    };
    let routes = [
        route("10.1.2.0/24", peer(1, 7)),
        route("fd00:0:0:5::/64", peer(1, 7)),
    ];
    let table = Table::build(overlay, &routes).unwrap();
    let [peer] = table.peers() else {
        panic!("one peer");
    };
    assert_eq!(peer.header_v4, FrameHeader::Nothing);
    assert_eq!(table.lookup_v4([10, 1, 2, 3].into()), Some(PeerId(0)));
    assert_eq!(table.lookup_v6("fd00:0:0:5::1".parse().unwrap()), None);
}

#[test]
fn headers_are_what_the_wire_views_read() {
    let table = Table::build(overlay(), &[route("10.1.2.0/24", peer(1, 7))]).unwrap();
    let peer = &table.peers()[0];
    for (header, ethertype) in [(peer.header_v4, 0x0800), (peer.header_v6, 0x86dd)] {
        let vxlan = vxlan::Header::new(header.as_bytes()).unwrap();
        assert!(vxlan.is_valid(false));
        assert_eq!(vxlan.vni(), overlay().vni);
        let ethernet = ethernet::Frame::new(vxlan.into_payload()).unwrap();
        assert_eq!(ethernet.dst(), peer.mac);
        assert_eq!(ethernet.src(), overlay().local_mac);
        assert_eq!(ethernet.ethertype(), ethertype);
        assert!(ethernet.payload().is_empty());
    }
}

#[test]
fn an_empty_table_knows_nobody() {
    for table in [
        Table::empty(overlay()),
        Table::build(overlay(), &[]).unwrap(),
    ] {
        assert_eq!(owner(&table, "10.1.2.3"), None);
        assert_eq!(owner(&table, "fd00::1"), None);
        assert_eq!(table.peer_by_addr("192.168.0.1".parse().unwrap()), None);
        assert!(table.peers().is_empty());
        assert_eq!(table.overlay(), &overlay());
        assert_eq!(table.peer(PeerId(0)).addr.port(), 0);
    }
}

#[test]
fn an_id_of_a_larger_table_names_nobody() {
    let table = Table::build(overlay(), &[route("10.1.2.0/24", peer(1, 1))]).unwrap();
    for id in [1, 2, u32::MAX] {
        assert_eq!(table.peer(PeerId(id)).addr.port(), 0);
    }
}

#[test]
fn peers_are_found_by_either_form_of_their_address() {
    let mut mapped = peer(2, 2);
    mapped.addr = "[::ffff:192.168.0.2]:8472".parse().unwrap();
    let mut six = peer(3, 3);
    six.addr = "[2001:db8::3]:8472".parse().unwrap();
    let table = Table::build(
        overlay(),
        &[
            route("10.0.1.0/24", peer(1, 1)),
            route("10.0.2.0/24", mapped),
            route("10.0.3.0/24", six),
        ],
    )
    .unwrap();
    for (addr, want) in [
        ("192.168.0.1", Some(0)),
        ("::ffff:192.168.0.1", Some(0)),
        ("192.168.0.2", Some(1)),
        ("::ffff:192.168.0.2", Some(1)),
        ("2001:db8::3", Some(2)),
        ("192.168.0.3", None),
        ("2001:db8::4", None),
        ("::", None),
    ] {
        let found = table.peer_by_addr(addr.parse().unwrap());
        assert_eq!(found, want.map(PeerId), "{addr}");
    }
    assert!(table.peers()[1].addr.is_ipv4());
}

#[test]
fn overlays_that_cannot_be_are_refused_in_one_line() {
    let mut long = overlay();
    long.subnet_len_v4 = 33;
    let mut short = overlay();
    short.subnet_len_v6 = 47;
    for (overlay, want) in [
        (
            long,
            "subnet length 33 does not cut 10.0.0.0/8 into subnets",
        ),
        (
            short,
            "subnet length 47 does not cut fd00::/48 into subnets",
        ),
    ] {
        let error = Table::build(overlay, &[]).err().unwrap();
        assert_eq!(error.to_string(), want);
    }
}

#[test]
fn networks_too_large_for_an_index_are_searched() {
    let mut overlay = overlay();
    overlay.network_v4 = Some("0.0.0.0/0".parse().unwrap());
    overlay.subnet_len_v4 = 32;
    overlay.network_v6 = Some("::/0".parse().unwrap());
    overlay.subnet_len_v6 = 128;
    let table = Table::build(
        overlay,
        &[
            route("10.0.0.7/32", peer(1, 1)),
            route("::7/128", peer(2, 2)),
            route("255.255.255.255/32", peer(3, 3)),
        ],
    )
    .unwrap();
    assert_eq!(owner(&table, "10.0.0.7"), Some(1));
    assert_eq!(owner(&table, "10.0.0.8"), None);
    assert_eq!(owner(&table, "255.255.255.255"), Some(3));
    assert_eq!(owner(&table, "::7"), Some(2));
    assert_eq!(owner(&table, "::6"), None);
}

#[test]
fn subnets_as_large_as_the_network_are_one_slot() {
    let mut overlay = overlay();
    for (network, len) in [("10.0.0.0/8", 8), ("0.0.0.0/0", 0), ("10.0.0.1/32", 32)] {
        overlay.network_v4 = Some(network.parse().unwrap());
        overlay.subnet_len_v4 = len;
        let table = Table::build(overlay.clone(), &[route(network, peer(1, 1))]).unwrap();
        assert_eq!(owner(&table, "10.0.0.1"), Some(1), "{network}");
    }
}

#[test]
fn every_one_of_65536_subnets_finds_its_peer() {
    let routes: Vec<_> = (0..=u16::MAX)
        .map(|i| Route {
            prefix: IpNet::new(Ipv4Addr::from(10 << 24 | u32::from(i) << 8).into(), 24).unwrap(),
            peer: NewPeer {
                addr: SocketAddr::from((Ipv4Addr::from(172 << 24 | u32::from(i)), 8472)),
                mac: MacAddr([2, 0, 0, 0, (i >> 8) as u8, i as u8]),
            },
        })
        .collect();
    let table = Table::build(overlay(), &routes).unwrap();
    for (i, route) in routes.iter().enumerate() {
        let dst = Ipv4Addr::from(10 << 24 | (i as u32) << 8 | 77);
        let id = table.lookup_v4(dst).unwrap();
        assert_eq!(table.peer(id).addr, route.peer.addr);
        assert_eq!(table.peer_by_addr(route.peer.addr.ip()), Some(id));
    }
}

/// Prefixes crowded into few bits, so that they nest, touch and repeat.
fn crowded_v4() -> impl Strategy<Value = Ipv4Net> {
    let near = (0..1u32 << 12).prop_map(|bits| 10 << 24 | bits << 4);
    let edge = prop_oneof![
        Just(0),
        Just(u32::MAX),
        Just(9 << 24 | 0xff_ffff),
        any::<u32>()
    ];
    (prop_oneof![4 => near, 1 => edge], 0..=32u8)
        .prop_map(|(bits, len)| Ipv4Net::new(bits.into(), len).unwrap())
}

fn crowded_v6() -> impl Strategy<Value = Ipv6Net> {
    let base = 0xfd00_u128 << 112;
    let near = (0..1u128 << 12).prop_map(move |bits| base | bits << 60);
    let edge = prop_oneof![Just(0), Just(u128::MAX), any::<u128>()];
    let len = prop_oneof![4 => 44..=72u8, 1 => 0..=128u8];
    (prop_oneof![4 => near, 1 => edge], len)
        .prop_map(|(bits, len)| Ipv6Net::new(bits.into(), len).unwrap())
}

/// The last of the longest prefixes over `dst`.
fn oracle(routes: &[Route], dst: IpAddr) -> Option<NewPeer> {
    let over = routes.iter().filter(|route| route.prefix.contains(&dst));
    over.max_by_key(|route| route.prefix.prefix_len())
        .map(|route| route.peer)
}

fn found(table: &Table, dst: IpAddr) -> Option<NewPeer> {
    let id = match dst {
        IpAddr::V4(ip) => table.lookup_v4(ip),
        IpAddr::V6(ip) => table.lookup_v6(ip),
    };
    id.map(|id| NewPeer {
        addr: table.peer(id).addr,
        mac: table.peer(id).mac,
    })
}

/// Where a lookup can go wrong: both ends of every prefix and their neighbours.
fn edges(prefix: IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from(bits).into())
                .to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from(bits).into())
                .to_vec()
        }
    }
}

proptest! {
    #[test]
    fn lookups_agree_with_a_linear_search(
        v4 in prop::collection::vec((crowded_v4(), 0..8u8), 0..40),
        v6 in prop::collection::vec((crowded_v6(), 0..8u8), 0..40),
        network_len in 0..=24u8,
        random in prop::collection::vec(any::<u32>(), 0..20),
        near in prop::collection::vec(0..1u32 << 17, 0..20),
    ) {
        let mut overlay = overlay();
        overlay.network_v4 = Some(Ipv4Net::new([10, 0, 0, 0].into(), network_len).unwrap().trunc());
        let routes: Vec<_> = v4.into_iter().map(|(net, node)| (IpNet::V4(net), node))
            .chain(v6.into_iter().map(|(net, node)| (IpNet::V6(net), node)))
            .map(|(prefix, node)| Route { prefix, peer: peer(node, node) })
            .collect();
        let table = Table::build(overlay, &routes).unwrap();
        let near = near.into_iter().map(|bits| 10 << 24 | bits);
        let others = random.into_iter().chain(near).map(|bits| Ipv4Addr::from(bits).into());
        for dst in routes.iter().flat_map(|route| edges(route.prefix)).chain(others) {
            prop_assert_eq!(found(&table, dst), oracle(&routes, dst), "{}", dst);
            // So do the prefixes that are handed on, of which none lies in another.
            if let IpAddr::V4(dst) = dst {
                let over = table.routes_v4().filter(|(prefix, _)| prefix.contains(&dst));
                let over: Vec<_> = over.map(|(_, id)| id).collect();
                prop_assert_eq!(over, Vec::from_iter(table.lookup_v4(dst)), "{}", dst);
            }
        }
    }

    #[test]
    fn peers_are_found_by_address_and_others_are_not(
        hosts in prop::collection::vec(any::<u16>(), 0..200),
        asked in prop::collection::vec(any::<u16>(), 0..50),
        six in any::<bool>(),
    ) {
        let addr = |host: u16| match six {
            false => IpAddr::from([192, 168, (host >> 8) as u8, host as u8]),
            true => IpAddr::from([0x2001, 0xdb8, 0, host, 0, 0, 0, 1]),
        };
        let routes: Vec<_> = hosts.iter().enumerate().map(|(i, &host)| Route {
            prefix: IpNet::new(IpAddr::from([10, 0, i as u8, 0]), 24).unwrap(),
            peer: NewPeer { addr: SocketAddr::new(addr(host), 8472), mac: MacAddr([2, 0, 0, 0, 0, 0]) },
        }).collect();
        let table = Table::build(overlay(), &routes).unwrap();
        for &host in hosts.iter().chain(&asked) {
            let found = table.peer_by_addr(addr(host)).map(|id| table.peer(id).addr.ip());
            prop_assert_eq!(found, hosts.contains(&host).then_some(addr(host)));
        }
    }
}
