use super::*;
use crate::offload::testing::Spec;
use crate::offload::vnet_hdr;
use crate::route::table::{CUT_OFF, NewPeer, Overlay, Route};
use crate::wire::ethernet::MacAddr;
use crate::wire::vxlan::Vni;
use std::net::SocketAddr;

const NEAR: &str = "192.0.2.2:8472";
const OTHER: &str = "192.0.2.3:8472";

/// Peers for the halves of each family's addresses; nobody for those above `127.255.255.255`.
fn table(wire: Wire) -> Table {
    let overlay = Overlay {
        wire,
        vni: Vni::new(7).unwrap(),
        local_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        network_v4: Some("10.0.0.0/8".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd00::/8".parse().unwrap()),
        subnet_len_v6: 64,
        ..Overlay::default()
    };
    let route = |prefix: &str, addr: SocketAddr| Route {
        prefix: prefix.parse().unwrap(),
        peer: NewPeer {
            addr,
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
        },
    };
    let cut_off = SocketAddr::from(([192, 0, 2, 4], CUT_OFF));
    let routes = [
        route("0.0.0.0/2", NEAR.parse().unwrap()),
        route("64.0.0.0/3", OTHER.parse().unwrap()),
        route("96.0.0.0/3", cut_off),
        route("fd00::/8", NEAR.parse().unwrap()),
    ];
    Table::build(overlay, &routes).unwrap()
}

/// To whom a packet goes and with which outer ECN field, or why it does not.
fn outcome(table: &Table, ip: &[u8]) -> Result<(String, u8), DropReason> {
    let packet = IpPacket::new(ip).unwrap();
    let pool = SendPool::new(8);
    let outbound = Outbound::new(packet, VnetHdr::default(), table, pool, |_, _| None)?;
    assert_eq!(outbound.packet.bytes(), ip);
    assert!(outbound.limit.is_none());
    Ok((outbound.peer.addr.to_string(), outbound.key.ecn.bits()))
}

fn to(mut ip: Vec<u8>, dst: [u8; 4]) -> Vec<u8> {
    ip[16..20].copy_from_slice(&dst);
    ip
}

#[test]
fn a_packet_has_a_peer_or_a_reason() {
    use DropReason::{NoPeer, NotIpv4, NotUnicast, Recursion};
    let (vxlan, bare) = (table(Wire::Vxlan), table(Wire::Ip));
    let tcp = |ecn: u8| {
        let tos = ecn;
        Spec {
            tos,
            ..Spec::tcp4(100)
        }
        .build()
    };
    let v6 = Spec::tcp6(100).build();
    let mut multicast_v6 = v6.clone();
    multicast_v6[24] = 0xff;
    let mut outer = to(Spec::udp4(100).build(), [64, 0, 2, 3]);
    outer[22..24].copy_from_slice(&8472_u16.to_be_bytes());
    let sent = |peer: &str, ecn: u8| Ok((peer.to_owned(), ecn));
    let cases = [
        (&vxlan, tcp(0), sent(NEAR, 0)),
        (&vxlan, tcp(1), sent(NEAR, 1)),
        (&vxlan, tcp(2), sent(NEAR, 2)),
        (&vxlan, tcp(3), sent(NEAR, 2)),
        (&bare, tcp(3), sent(NEAR, 0)),
        (&vxlan, to(tcp(0), [64, 1, 1, 1]), sent(OTHER, 0)),
        (&vxlan, v6.clone(), sent(NEAR, 0)),
        (&bare, v6, Err(NotIpv4)),
        (&vxlan, to(tcp(0), [96, 1, 1, 1]), Err(Recursion)),
        // Not to a peer's address: only the port is that of the overlay.
        (&vxlan, outer, sent(OTHER, 0)),
        (&vxlan, to(tcp(0), [192, 0, 2, 9]), Err(NoPeer)),
        (&vxlan, to(tcp(0), [224, 0, 0, 1]), Err(NotUnicast)),
        (&vxlan, to(tcp(0), [255; 4]), Err(NotUnicast)),
        (&vxlan, to(tcp(0), [0; 4]), sent(NEAR, 0)),
        (&vxlan, multicast_v6, Err(NotUnicast)),
    ];
    for (case, (table, ip, expected)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(table, &ip), expected, "case {case}");
    }
    let empty = Table::empty(Overlay::default());
    assert_eq!(outcome(&empty, &to(tcp(0), [0; 4])), Err(NotUnicast));
}

#[test]
fn the_path_to_its_peer_is_asked_about_once_and_the_offload_is_as_read() {
    let table = table(Wire::Vxlan);
    let limit = PathLimit {
        fits: 1350,
        outer_df: true,
    };
    let spec = Spec::tcp4(9000);
    let offload = spec.vnet_hdr(1398);
    let pool = SendPool::new(8);
    for (dst, peer, asked) in [
        ([10, 1, 1, 1], Some(NEAR), 1),
        ([64, 1, 1, 1], Some(OTHER), 1),
        ([192, 0, 2, 9], None, 0),
    ] {
        let ip = to(spec.build_partial(), dst);
        let packet = IpPacket::new(&ip).unwrap();
        let mut paths = Vec::new();
        let outbound = Outbound::new(packet, offload, &table, pool, |id, peer| {
            assert_eq!(table.peer(id), peer);
            paths.push(peer.addr.to_string());
            Some(limit)
        });
        assert_eq!(paths.len(), asked);
        let Some(peer) = peer else {
            assert!(outbound.is_err());
            continue;
        };
        let outbound = outbound.unwrap();
        assert_eq!(paths, [peer]);
        assert_eq!(outbound.limit, Some(limit));
        assert_eq!(outbound.offload, offload);
        assert_eq!(outbound.offload.gso(), vnet_hdr::GSO_TCPV4);
        assert_eq!(outbound.header, &outbound.peer.header_v4);
    }
}
