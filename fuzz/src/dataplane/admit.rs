//! Admission keeps its promises whatever a datagram holds.

use std::net::IpAddr;
use std::sync::LazyLock;
use weft_dataplane::route::admit;
use weft_dataplane::route::table::Admission::{self, Loose, Strict};
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::stats::DropReason;
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::ip::IpPacket;
use weft_dataplane::wire::vxlan::Vni;

const PEERS: [[u8; 4]; 2] = [[192, 168, 0, 1], [192, 168, 0, 2]];
const STRANGER: [u8; 4] = [192, 168, 0, 3];

pub(super) fn run(frame: &[u8]) {
    static TABLES: LazyLock<Option<[[Table; 2]; 2]>> = LazyLock::new(|| {
        let of = |wire| Some([table(wire, Strict)?, table(wire, Loose)?]);
        Some([of(Wire::Vxlan)?, of(Wire::Ip)?])
    });
    let Some(tables) = &*TABLES else {
        panic!("the overlay is not valid");
    };
    for [strict, loose] in tables {
        admit(strict, loose, frame);
    }
}

fn admit(strict: &Table, loose: &Table, frame: &[u8]) {
    let stranger = IpAddr::from(STRANGER);
    assert_eq!(
        admit::sender(strict, stranger),
        Err(DropReason::UnknownSender),
        "a stranger is let in"
    );
    let trusting = admit::sender(loose, stranger).and_then(|s| s.frame(loose, frame));
    for addr in PEERS.map(IpAddr::from) {
        let careful = admit::sender(strict, addr).and_then(|s| s.frame(strict, frame));
        match (careful, trusting) {
            (Ok(careful), Ok(trusting)) => assert_eq!(careful, trusting),
            (Err(DropReason::SpoofedSource), Ok(_)) => {}
            (careful, trusting) => assert_eq!(careful, trusting),
        }
        let Ok(inner) = careful else { continue };
        let bytes = &frame[inner.ip_offset..inner.ip_offset + inner.ip_len];
        let packet = match IpPacket::new(bytes) {
            Ok(packet) => packet,
            Err(error) => panic!("admitted, but {error}"),
        };
        assert_eq!(packet.total_len(), inner.ip_len);
        assert_eq!(packet.ecn(), inner.ecn);
        assert!(inner.v6 == packet.src().is_ipv6());
        if strict.overlay().wire == Wire::Ip {
            assert_eq!(bytes.len(), frame.len());
            assert!(!inner.v6);
        }
        assert!(may_send(addr, packet.src()), "{addr} sent {}", packet.src());
    }
}

/// What the routes of [`table`] say, without a table.
fn may_send(peer: IpAddr, source: IpAddr) -> bool {
    let node = match source {
        IpAddr::V4(ip) => match ip.octets() {
            [10, 1, node, _] => node,
            [10, ..] => return false,
            _ => return true,
        },
        IpAddr::V6(ip) => match ip.segments() {
            [0xfd00, 0, 0, node @ 0..=0xff, ..] => node as u8,
            [0xfd00, 0, 0, ..] => return false,
            _ => return true,
        },
    };
    PEERS.iter().any(|ip| ip[3] == node) && peer == IpAddr::from([192, 168, 0, node])
}

/// Node n is 192.168.0.n and has 10.1.n.0/24 and fd00:0:0:n::/64; we are node 9.
fn table(wire: Wire, admission: Admission) -> Option<Table> {
    let overlay = Overlay {
        wire,
        vni: Vni::new(1).unwrap_or_default(),
        local_mac: MacAddr([2, 0, 0, 0, 0, 9]),
        network_v4: "10.0.0.0/8".parse().ok(),
        subnet_len_v4: 24,
        network_v6: "fd00::/48".parse().ok(),
        subnet_len_v6: 64,
        own_v4: "10.1.9.0/24".parse().ok(),
        own_v6: "fd00:0:0:9::/64".parse().ok(),
        gbp: false,
        admission,
    };
    let mut routes = Vec::new();
    for addr in PEERS {
        let node = addr[3];
        let peer = NewPeer {
            addr: (addr, 8472).into(),
            mac: MacAddr([2, 0, 0, 0, 0, node]),
        };
        for prefix in [format!("10.1.{node}.0/24"), format!("fd00:0:0:{node}::/64")] {
            let prefix = prefix.parse().ok()?;
            routes.push(Route { prefix, peer });
        }
    }
    Table::build(overlay, &routes).ok()
}
