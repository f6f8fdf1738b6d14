//! The ECN field on its way in and out of a tunnel, beside what kernel VXLAN makes of the
//! same packets.

use crate::namespace::skips_test;
use crate::traffic::{udp_sender, uninterrupted};
use crate::tunnel::{Family, Offload, PORT, Tunnel, VNI, Vtep, inner, mac, underlay};
use etherparse::PacketBuilder;
use socket2::{Socket, Type};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;
use weft_dataplane::sys::mmsg::{Message, RecvBatch, SendBatch};
use weft_dataplane::wire::ecn::Ecn;
use weft_dataplane::wire::{ipv4, ipv6};
use weft_dataplane::worker::EngineKind;

/// All ECN fields: Not-ECT, ECT(1), ECT(0), CE.
const FIELDS: [u8; 4] = [0, 1, 2, 3];

/// How long to wait for the next datagram.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every way to hold the end under test, kernel VXLAN as the model.
const VTEPS: [Vtep; 3] = [
    Vtep::Kernel,
    Vtep::Weft(EngineKind::Ring),
    Vtep::Weft(EngineKind::Poll),
];

/// A socket that tells the ECN field of what it receives.
fn receiver(address: IpAddr, port: u16) -> UdpSocket {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(socket2::Domain::for_address(address), Type::DGRAM, None).unwrap();
    match address {
        SocketAddr::V4(_) => socket.set_recv_tos_v4(true).unwrap(),
        SocketAddr::V6(_) => socket.set_recv_tclass_v6(true).unwrap(),
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// The next datagram and its ECN field.
fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, u8)> {
    let mut batch = RecvBatch::new(1, 2_000);
    uninterrupted(|| batch.recv(socket.as_fd(), 0)).ok()?;
    let datagram = batch.datagrams().next()?;
    Some((datagram.bytes.to_vec(), datagram.ecn))
}

/// The outer ECN field of packets of `family` with each inner one, through node 1's tunnel to
/// the socket `wire` on node 2.
fn outer_fields(tunnel: &Tunnel, wire: &UdpSocket, family: Family) -> [u8; 4] {
    let to = SocketAddr::new(inner(family, 2), 4_000);
    let sender = udp_sender(&tunnel.nodes[0], to);
    FIELDS.map(|ecn| {
        match family {
            Family::V4 => sender.set_tos_v4(ecn.into()).unwrap(),
            Family::V6 => sender.set_tclass_v6(ecn.into()).unwrap(),
        }
        let marker = [0xec, ecn, b'w', b'e', b'f', b't'];
        sender.send(&marker).unwrap();
        loop {
            let (frame, outer) = receive(wire).expect("a frame on the wire");
            // The kernel itself solicits routers through new devices.
            if frame.ends_with(&marker) {
                return outer;
            }
        }
    })
}

#[test]
fn the_outer_field_is_the_one_that_kernel_vxlan_chooses() {
    if skips_test() {
        return;
    }
    for over in Family::BOTH {
        for vtep in VTEPS {
            let tunnel = Tunnel::new(over, [vtep, Vtep::Bare], Offload::All);
            let address = underlay(over, 2);
            let wire = tunnel.nodes[1].ns.enter(|| receiver(address, PORT));
            for family in Family::BOTH {
                let outer = outer_fields(&tunnel, &wire, family);
                assert_eq!(outer, [0, 1, 2, 2], "{family:?} over {over:?} by {vtep:?}");
            }
            tunnel.assert_no_errors();
        }
    }
}

/// A VXLAN frame from node 1 to a UDP port of node 2.
fn frame(family: Family, ecn: u8, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend((VNI << 8).to_be_bytes());
    let ethernet = PacketBuilder::ethernet2(mac(1), mac(2));
    let udp = match (inner(family, 1), inner(family, 2)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 64),
        addresses => panic!("{addresses:?}"),
    };
    udp.udp(4_000, port).write(&mut bytes, payload).unwrap();
    let ip = &mut bytes[22..];
    match family {
        Family::V4 => ipv4::Packet::new(ip).unwrap().set_ecn(Ecn::of_tos(ecn)),
        Family::V6 => ipv6::Packet::new(ip).unwrap().set_ecn(Ecn::of_tos(ecn)),
    }
    bytes
}

/// The ECN fields with which packets of `family` leave node 2's tunnel, by the outer and the
/// inner field that they came with.
fn inner_fields(tunnel: &Tunnel, family: Family) -> BTreeMap<(u8, u8), u8> {
    let [a, b] = &tunnel.nodes;
    let pod = b.ns.enter(|| receiver(inner(family, 2), 0));
    let port = pod.local_addr().unwrap().port();
    let wire =
        a.ns.enter(|| UdpSocket::bind((underlay(tunnel.family, 1), 0)).unwrap());
    let to = SocketAddr::new(underlay(tunnel.family, 2), PORT);
    let mut batch = SendBatch::new(1);
    for outer in FIELDS {
        for ecn in FIELDS {
            let frame = frame(family, ecn, port, &[outer, ecn]);
            let message = Message {
                parts: &[IoSlice::new(&frame)],
                to: Some(to),
                stride: None,
                ecn: outer,
            };
            assert_eq!(batch.send(wire.as_fd(), &[message], 0).unwrap(), 1);
        }
    }
    let mut fields = BTreeMap::new();
    // The last one comes after all others, or after they were dropped.
    while !fields.contains_key(&(3, 3)) {
        let (payload, ecn) = receive(&pod).expect("a packet from the tunnel");
        fields.insert((payload[0], payload[1]), ecn);
    }
    fields
}

#[test]
fn the_inner_field_is_the_one_of_rfc_6040_and_kernel_vxlan() {
    if skips_test() {
        return;
    }
    // Figure 4 of RFC 6040, all but the drop of what cannot carry CE.
    let figure = FIELDS.into_iter().flat_map(|outer| {
        FIELDS
            .into_iter()
            .filter_map(move |inner| match (outer, inner) {
                (3, 0) => None,
                (3, _) => Some(((outer, inner), 3)),
                (1, 2) => Some(((outer, inner), 1)),
                _ => Some(((outer, inner), inner)),
            })
    });
    let figure: BTreeMap<_, _> = figure.collect();
    assert_eq!(figure.len(), 15);
    for over in Family::BOTH {
        for vtep in VTEPS {
            let tunnel = Tunnel::new(over, [Vtep::Bare, vtep], Offload::All);
            for family in Family::BOTH {
                let fields = inner_fields(&tunnel, family);
                assert_eq!(fields, figure, "{family:?} over {over:?} to {vtep:?}");
            }
            if vtep != Vtep::Kernel {
                let drops = tunnel.nodes[1].drops();
                assert_eq!(drops, [("drop_ecn_drop".to_owned(), 2)]);
            }
        }
    }
}
