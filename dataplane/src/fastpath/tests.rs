//! The programs in test runs (`BPF_PROG_TEST_RUN`), beside the workers' own code.

mod choice;
mod differential;
mod states;
mod sums;
mod tables;
mod traffic;
mod trial;

use super::probe::{self, MAC_HEADER, Outcome};
use super::*;
use crate::route::table::{Admission, CUT_OFF, NewPeer, Route, Table};
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::Wire;
use crate::wire::ipv4;
use crate::wire::vxlan::Vni;
use aya::maps::{Array, MapData, ProgramArray};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Peers 1 and 2 have 10.1.1.0/24 and 10.1.2.0/24; this is node 9, with 10.1.9.0/24. The frames of
/// the fuzz corpus `admit` are for it.
const LOCAL: [u8; 4] = [192, 168, 0, 9];
const PORT: u16 = 8472;

fn peer(number: u8) -> [u8; 4] {
    [192, 168, 0, number]
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

fn table(wire: Wire, admission: Admission) -> Table {
    let overlay = Overlay {
        wire,
        admission,
        vni: Vni::new(1).unwrap(),
        local_mac: mac(9),
        network_v4: Some("10.0.0.0/8".parse().unwrap()),
        subnet_len_v4: 24,
        own_v4: Some("10.1.9.0/24".parse().unwrap()),
        ..Overlay::default()
    };
    let route = |prefix: &str, number: u8, port: u16| Route {
        prefix: prefix.parse().unwrap(),
        peer: NewPeer {
            addr: (peer(number), port).into(),
            mac: mac(number),
        },
    };
    let routes = [
        route("10.1.1.0/24", 1, PORT),
        route("10.1.2.0/24", 2, PORT),
        // Nothing may be sent to it.
        route("10.1.3.0/24", 3, CUT_OFF),
        // Packets to peers are led into the tunnel.
        route("192.168.0.0/30", 2, PORT),
    ];
    Table::build(overlay, &routes).unwrap()
}

/// Run `test` in a network namespace of its own, where the kernel lets this process have maps.
fn isolated(test: impl FnOnce() + Send) {
    match Array::<MapData, u32>::create(1, 0) {
        Ok(_) => weft_lab::isolated(test),
        Err(error) => weft_lab::skip(&format!("there is no BPF here: {error}")),
    }
}

/// The programs for `table`, ready for test runs: they take all that they can.
fn loaded(table: &Table) -> FastPath {
    if index_of("tunnel").is_err() {
        weft_lab::ip("link add tunnel type veth peer name underlay").unwrap();
    }
    let config = Config {
        device: "tunnel".to_owned(),
        underlay: "underlay".to_owned(),
        local: LOCAL.into(),
        port: PORT,
        // Less than the machine has been up.
        lifetime: Duration::from_secs(60),
        bpffs: "/nowhere".into(),
        hook: None,
    };
    let mut fast_path = FastPath::load(config, table.overlay()).unwrap();
    fast_path.publish(&Entries::of(table), |_| None).unwrap();
    fast_path.state.l2 = MAC_HEADER as u32;
    let all = Policy {
        all: true,
        mtu: 65_535,
        ..Policy::default()
    };
    fast_path.set_policy(all).unwrap();
    fast_path
}

/// As [`loaded`], without workers: the programs take all that they can.
fn alone(table: &Table) -> FastPath {
    let mut fast_path = loaded(table);
    let map = fast_path.programs.map_mut("workers").unwrap();
    let mut workers = ProgramArray::try_from(map).unwrap();
    workers.clear_index(&0).unwrap();
    fast_path
}

/// Run the program `name` on an IPv4 packet.
fn run(fast_path: &mut FastPath, name: &str, packet: &[u8]) -> Outcome {
    let program = program(&mut fast_path.programs, name).unwrap();
    probe::run(program, &framed(packet), None).unwrap()
}

/// `packet` behind an Ethernet header of the loopback device.
fn framed(packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MAC_HEADER];
    bytes[12..].copy_from_slice(&[8, 0]);
    bytes.extend(packet);
    bytes
}

/// What the programs have counted under this name.
fn counted(fast_path: &FastPath, name: &str) -> u64 {
    fast_path.totals().unwrap().named(name)
}

/// An IPv4 packet without options, its checksum and length right.
fn ipv4(kind: u8, (from, to): ([u8; 4], [u8; 4]), payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut bytes = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, kind, 0, 0];
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes.extend(from.into_iter().chain(to));
    crate::offload::testing::fix_ipv4_checksum(&mut bytes);
    bytes.extend(payload);
    bytes
}

/// A UDP datagram without a checksum, over IPv4.
fn udp(addresses: ([u8; 4], [u8; 4]), (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [from, to, (8 + payload.len()) as u16, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    ipv4(17, addresses, &datagram)
}

/// A datagram to this node with one frame.
fn datagram(from: [u8; 4], wire: Wire, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    if wire == Wire::Vxlan {
        frame.extend([8, 0, 0, 0, 0, 0, 1, 0]);
        frame.extend(mac(9).0.into_iter().chain(mac(1).0));
        frame.extend([8, 0]);
    }
    frame.extend(packet);
    udp((from, LOCAL), (40_000, PORT), &frame)
}

/// The datagram with its outer checksum.
fn summed(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram[26..28].fill(0);
    let ip = ipv4::Packet::new(&datagram[..]).unwrap();
    let checksum = super::trial::outer_sum(&ip).finish_udp();
    datagram[26..28].copy_from_slice(&checksum.to_be_bytes());
    datagram
}
