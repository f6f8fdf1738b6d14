//! Tables of full size.

use super::*;
use std::time::Instant;

/// The nodes of the largest cluster that weft is made for.
const NODES: u32 = 10_000;

/// Node n is 172.16.0.0 + n and has the nth /24 of 10.0.0.0/8.
fn full_table() -> Table {
    let routes = (1..=NODES).map(|node| {
        let subnet = Ipv4Addr::from(10 << 24 | node << 8);
        let addr = Ipv4Addr::from(172 << 24 | 16 << 16 | node);
        Route {
            prefix: ipnet::IpNet::new(subnet.into(), 24).unwrap(),
            peer: NewPeer {
                addr: (addr, PORT).into(),
                mac: mac(1),
            },
        }
    });
    let overlay = table(Wire::Vxlan, Admission::Strict).overlay().clone();
    let routes: Vec<Route> = routes.collect();
    Table::build(overlay, &routes).unwrap()
}

#[test]
fn a_table_of_ten_thousand_peers_is_put_in_place_whole() {
    isolated(|| {
        let table = full_table();
        let mut fast_path = loaded(&table);
        let start = Instant::now();
        let entries = Entries::of(&table);
        fast_path.publish(&entries, |_| None).unwrap();
        let time = start.elapsed();
        eprintln!("{NODES} peers published in {time:?}");
        assert!(
            time < Duration::from_secs(5),
            "an agent beats each second, and is believed for 5"
        );
        assert_eq!(entries.peers().count(), NODES as usize);
        for node in [1, 2, NODES / 2, NODES] {
            let to = Ipv4Addr::from(10 << 24 | node << 8 | 7).octets();
            let outcome = run(
                &mut fast_path,
                OUT,
                &udp(([10, 1, 9, 5], to), (1, 2), &[0; 8]),
            );
            assert_eq!(outcome.action, probe::REDIRECT);
            let outer = Ipv4Addr::from(172 << 24 | 16 << 16 | node);
            assert_eq!(outcome.bytes[MAC_HEADER + 16..][..4], outer.octets());
        }
        let beyond = Ipv4Addr::from(10 << 24 | (NODES + 1) << 8).octets();
        let outcome = run(
            &mut fast_path,
            OUT,
            &udp(([10, 1, 9, 5], beyond), (1, 2), &[]),
        );
        assert_eq!(outcome.action, u32::MAX);
    });
}
