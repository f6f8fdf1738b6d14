//! The ECN field on its way in and out of a tunnel, beside what kernel VXLAN makes of the
//! same packets.

use crate::traffic::udp_sender;
use crate::tunnel::{Family, Offload, PORT, Tunnel, VNI, Vtep, inner, mac, underlay};
use etherparse::PacketBuilder;
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use weft_dataplane::wire::ecn::Ecn;
use weft_dataplane::wire::{ipv4, ipv6};
use weft_dataplane::worker::EngineKind;
use weft_lab::{skips_test_without_namespaces, uninterrupted};

/// All ECN fields: Not-ECT, ECT(1), ECT(0), CE.
const FIELDS: [u8; 4] = [0, 1, 2, 3];

/// How long to wait for the next datagram.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// When to send again what may have come too early, and how often.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
const RETRIES: usize = 250;

/// Every way to hold the end under test, kernel VXLAN as the model.
const VTEPS: [Vtep; 3] = [
    Vtep::Kernel,
    Vtep::Weft(EngineKind::Ring),
    Vtep::Weft(EngineKind::Poll),
];

/// A socket that tells the ECN field of what it receives, by the reading of another library.
struct Receiver {
    socket: UdpSocket,
    state: UdpSocketState,
    /// What came together with datagrams that were asked for.
    received: RefCell<VecDeque<(Vec<u8>, u8)>>,
}

impl Receiver {
    fn bind(address: IpAddr, port: u16) -> Receiver {
        let socket = UdpSocket::bind((address, port)).unwrap();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        Receiver {
            socket,
            state,
            received: RefCell::default(),
        }
    }

    /// The next datagram and its ECN field.
    fn next(&self) -> Option<(Vec<u8>, u8)> {
        self.next_within(PATIENCE)
    }

    fn next_within(&self, limit: Timespec) -> Option<(Vec<u8>, u8)> {
        let mut received = self.received.borrow_mut();
        if received.is_empty() {
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            uninterrupted(|| poll(&mut ready, Some(&limit)).map_err(io::Error::from)).unwrap();
            let (mut bytes, mut meta) = (vec![0; 65_536], [RecvMeta::default()]);
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let socket = (&self.socket).into();
            self.state.recv(socket, &mut buffers, &mut meta).ok()?;
            let [meta] = meta;
            let ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
            let datagrams = bytes[..meta.len].chunks(meta.stride);
            received.extend(datagrams.map(|datagram| (datagram.to_vec(), ecn)));
        }
        received.pop_front()
    }
}

fn socket_from(address: IpAddr) -> Socket {
    let address = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// The ECN field of what a socket sends from here on.
fn set_ecn(socket: &Socket, family: Family, ecn: u8) {
    match family {
        Family::V4 => socket.set_tos_v4(ecn.into()).unwrap(),
        Family::V6 => socket.set_tclass_v6(ecn.into()).unwrap(),
    }
}

/// The outer ECN field of packets of `family` with each inner one, through node 1's tunnel to
/// the socket `wire` on node 2.
fn outer_fields(tunnel: &Tunnel, wire: &Receiver, family: Family) -> [u8; 4] {
    let to = SocketAddr::new(inner(family, 2), 4_000);
    let sender = udp_sender(&tunnel.nodes[0], to);
    FIELDS.map(|ecn| {
        set_ecn(&sender, family, ecn);
        let marker = [0xec, ecn, b'w', b'e', b'f', b't'];
        sender.send(&marker).unwrap();
        loop {
            let (frame, outer) = wire.next().expect("a frame on the wire");
            // The kernel itself solicits routers through new devices.
            if frame.ends_with(&marker) {
                return outer;
            }
        }
    })
}

#[test]
fn the_outer_field_is_the_one_that_kernel_vxlan_chooses() {
    if skips_test_without_namespaces() {
        return;
    }
    for over in Family::BOTH {
        for vtep in VTEPS {
            let tunnel = Tunnel::new(over, [vtep, Vtep::Bare], Offload::All);
            let address = underlay(over, 2);
            let wire = tunnel.nodes[1].ns.enter(|| Receiver::bind(address, PORT));
            let wire = wire.unwrap();
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
    let pod = b.ns.enter(|| Receiver::bind(inner(family, 2), 0)).unwrap();
    let port = pod.socket.local_addr().unwrap().port();
    let wire =
        a.ns.enter(|| socket_from(underlay(tunnel.family, 1)))
            .unwrap();
    let to = SocketAddr::new(underlay(tunnel.family, 2), PORT);
    let send = |outer, ecn| {
        set_ecn(&wire, tunnel.family, outer);
        let frame = frame(family, ecn, port, &[outer, ecn]);
        assert_eq!(wire.send_to(&frame, &to.into()).unwrap(), frame.len());
    };
    // The kernel takes packets for a new address of its own a little after it shows the address.
    let arrives = |_| {
        send(0, 0);
        pod.next_within(RETRY).is_some()
    };
    assert!((0..RETRIES).any(arrives), "nothing leaves the tunnel");
    for outer in FIELDS {
        for ecn in FIELDS {
            send(outer, ecn);
        }
    }
    let mut fields = BTreeMap::new();
    // The last one comes after all others, or after they were dropped.
    while !fields.contains_key(&(3, 3)) {
        let (payload, ecn) = pod.next().expect("a packet from the tunnel");
        fields.insert((payload[0], payload[1]), ecn);
    }
    fields
}

#[test]
fn the_inner_field_is_the_one_of_rfc_6040_and_kernel_vxlan() {
    if skips_test_without_namespaces() {
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
