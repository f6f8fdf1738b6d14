use super::*;
use crate::route::table::{NewPeer, Overlay, Route};
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::Wire;
use crate::wire::vxlan::Vni;

const PORT: u16 = 8472;

/// Peer 1 has an address that lies in its own subnet, so that the tunnel is the way to it.
fn table(wire: Wire) -> Table {
    let overlay = Overlay {
        wire,
        vni: Vni::new(1).unwrap(),
        network_v4: Some("10.99.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd00:99::/32".parse().unwrap()),
        subnet_len_v6: 64,
        own_v4: Some("10.99.3.0/24".parse().unwrap()),
        own_v6: Some("fd00:99:0:3::/64".parse().unwrap()),
        ..Overlay::default()
    };
    let route = |prefix: &str, addr: &str| Route {
        prefix: prefix.parse().unwrap(),
        peer: NewPeer {
            addr: (addr.parse::<IpAddr>().unwrap(), PORT).into(),
            mac: MacAddr([2; 6]),
        },
    };
    let routes = [
        route("10.99.250.0/24", "10.99.250.9"),
        route("fd00:99:0:250::/64", "fd00:99:0:250::9"),
    ];
    Table::build(overlay, &routes).unwrap()
}

/// A packet with the first bytes of a UDP datagram; `offset` is the fragment's, in bytes, if it
/// is one.
fn packet(src: &str, dst: &str, port: u16, offset: Option<u16>) -> Vec<u8> {
    let mut udp = vec![0; 16];
    udp[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    udp[2..4].copy_from_slice(&port.to_be_bytes());
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0x45, 0, 0, 36, 0, 1, 0, 0, 64, protocol::UDP, 0, 0];
            let field = offset.map_or(0, |offset| (offset / 8) | 0x2000);
            bytes[6..8].copy_from_slice(&field.to_be_bytes());
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(udp);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut payload = Vec::new();
            if let Some(offset) = offset {
                payload.extend([protocol::UDP, 0]);
                payload.extend((offset | 1).to_be_bytes());
                payload.extend([0, 0, 0, 1]);
            }
            let next = offset.map_or(protocol::UDP, |_| protocol::FRAGMENT);
            payload.extend(udp);
            let mut bytes = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(payload);
            bytes
        }
        _ => panic!("two families"),
    }
}

fn is_outer_of(wire: Wire, bytes: &[u8]) -> bool {
    let packet = IpPacket::new(bytes).unwrap();
    is_outer(&packet, packet.ports(), &table(wire), PORT)
}

/// The node's underlay address, its TUN's, a pod of it; the peer's address, a pod of the peer.
const V4: [&str; 5] = [
    "192.0.2.1",
    "10.99.3.0",
    "10.99.3.7",
    "10.99.250.9",
    "10.99.250.5",
];
const V6: [&str; 5] = [
    "2001:db8::1",
    "fd00:99:0:3::",
    "fd00:99:0:3::7",
    "fd00:99:0:250::9",
    "fd00:99:0:250::5",
];

#[test]
fn outer_packets_are_known_whatever_their_source_was_made() {
    for wire in [Wire::Vxlan, Wire::Ip] {
        for [underlay, tun, _, peer, pod] in [V4, V6] {
            for source in [underlay, tun] {
                for offset in [None, Some(0), Some(1448)] {
                    let outer = packet(source, peer, PORT, offset);
                    assert!(is_outer_of(wire, &outer), "{source} {offset:?}");
                    let inner = packet(source, pod, PORT, offset);
                    assert!(!is_outer_of(wire, &inner), "{source} {offset:?}");
                }
                let other = packet(source, peer, 53, None);
                assert!(!is_outer_of(wire, &other), "another port");
            }
        }
    }
}

#[test]
fn what_pods_send_is_theirs() {
    for [_, _, own, peer, pod] in [V4, V6] {
        for offset in [None, Some(0), Some(1448)] {
            assert!(!is_outer_of(Wire::Vxlan, &packet(own, pod, PORT, offset)));
        }
        // Without ports it may be a fragment of anything.
        assert!(!is_outer_of(
            Wire::Vxlan,
            &packet(own, peer, 53, Some(1448))
        ));
    }
}

#[test]
fn other_protocols_and_cut_headers_are_no_outer_packets() {
    let [underlay, _, _, peer, _] = V4;
    let mut tcp = packet(underlay, peer, PORT, None);
    tcp[9] = protocol::TCP;
    assert!(!is_outer_of(Wire::Vxlan, &tcp));
    let mut short = packet(underlay, peer, PORT, None);
    short.truncate(23);
    short[3] = 23;
    assert!(!is_outer_of(Wire::Vxlan, &short));
    let [underlay, _, _, peer, _] = V6;
    let mut tcp = packet(underlay, peer, PORT, Some(1448));
    tcp[40] = protocol::TCP;
    assert!(!is_outer_of(Wire::Vxlan, &tcp));
    for len in [40, 43, 44, 48, 51] {
        let mut short = packet(underlay, peer, PORT, Some(0));
        short.truncate(len);
        short[5] = (len - 40) as u8;
        assert!(!is_outer_of(Wire::Vxlan, &short), "{len}");
    }
}
