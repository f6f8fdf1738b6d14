//! The programs' first packets are our own: one that goes out must have the outer headers that a
//! worker would give it, and taken in again it must be what it was, with the ECN field that
//! RFC 6040 wants, also with an outer checksum, as workers send it. One goes out as from a TUN device,
//! which has no MAC headers, so that room for one is made. A kernel that does any of it otherwise
//! has no fast path.

use super::layout::{Peer, ROLE_ROUTE, ROLE_SENDER, Settings, State};
use super::probe::{self, MAC_HEADER, Outcome, REDIRECT};
use super::{FastPath, FastPathError, IN, OUT, program, table};
use crate::offload::ecn;
use crate::sys::clock;
use crate::wire::ecn::Ecn;
use crate::wire::ethernet::ETHERTYPE_IPV4;
use crate::wire::ip::protocol;
use crate::wire::{checksum, ipv4, udp};
use std::net::Ipv4Addr;

/// Addresses that nobody has (RFC 5737), for a peer and for packets.
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const POD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Where a packet without a MAC header comes from: the bytes that a test run takes for the EtherType
/// say IPv4 then. Nothing is sent there.
const BARE: Ipv4Addr = Ipv4Addr::new(8, 0, 0, 1);

/// VXLAN and inner Ethernet header.
const FRAME_HEADER: usize = crate::wire::frame::FRAME_OVERHEAD;

/// Bytes of the outer IP and UDP headers.
const OUTER: usize = 28;

/// Where the source MAC of the inner Ethernet header lies, from the outer IP header on.
const INNER_SOURCE: usize = OUTER + 8 + 6;

/// Try the programs, and leave no trace of that in their state.
pub(super) fn run(fast_path: &mut FastPath, settings: &Settings) -> Result<(), FastPathError> {
    try_all(fast_path, settings)?;
    fast_path.put(&[])?;
    fast_path.state = State::default();
    fast_path.write_state()?;
    fast_path.forget_counts()
}

/// Have all packets go out and come in again in all ways.
pub(super) fn try_all(fast_path: &mut FastPath, settings: &Settings) -> Result<(), FastPathError> {
    prepare(fast_path, settings)?;
    for kind in [protocol::TCP, protocol::UDP, protocol::ICMP] {
        for inside in Ecn::ALL {
            let packet = packet(kind, inside);
            let sent = send(fast_path, settings, &packet)?;
            for outside in Ecn::ALL {
                for summed in [false, true] {
                    let arrival = Arrival { outside, summed };
                    receive(fast_path, settings, &packet, &sent, arrival)?;
                }
            }
        }
    }
    send_bare(fast_path, settings)
}

/// How a datagram comes in.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// Its outer ECN field.
    outside: Ecn,
    /// It has an outer checksum: programs send none, workers and tunnels of the kernel do.
    summed: bool,
}

fn prepare(fast_path: &mut FastPath, settings: &Settings) -> Result<(), FastPathError> {
    let peer = Peer {
        addr: PEER.octets(),
        port: settings.port,
        mac: settings.mac,
        ..Peer::default()
    };
    fast_path.put(&[
        (table::key(ROLE_SENDER, PEER, 32), peer),
        (table::key(ROLE_ROUTE, POD, 32), peer),
    ])?;
    fast_path.state = State {
        beat: clock::coarse_ns(),
        all: 1,
        l2: MAC_HEADER as u32,
        mtu: 1500,
        ..State::default()
    };
    fast_path.write_state()
}

/// Encap `packet`; the datagram without its MAC header.
fn send(
    fast_path: &mut FastPath,
    settings: &Settings,
    packet: &[u8],
) -> Result<Vec<u8>, FastPathError> {
    let outcome = probe::run(
        program(&mut fast_path.programs, OUT)?,
        &framed(packet),
        None,
    )?;
    let wrong = || refused("encap", &outcome);
    if outcome.action != REDIRECT {
        return Err(wrong());
    }
    let outer = outcome.bytes.get(MAC_HEADER..).ok_or_else(wrong)?;
    let header = header_len(settings);
    let ip = ipv4::Packet::new(outer).map_err(|_| wrong())?;
    let datagram = udp::Datagram::new(ip.payload()).map_err(|_| wrong())?;
    let inner = ipv4::Packet::new(packet).map_err(|_| wrong())?;
    let ecn = match settings.vxlan {
        1 => ecn::encap(inner.ecn()),
        _ => Ecn::NotEct,
    };
    let right = ip.verify_checksum()
        && outer.len() == OUTER + header + packet.len()
        && (ip.src().octets(), ip.dst()) == (settings.local, PEER)
        && ip.ecn() == ecn
        && !ip.dont_frag()
        && datagram.dst_port().to_be_bytes() == settings.port
        && datagram.checksum() == 0
        && datagram.payload().get(header..) == Some(packet);
    if right {
        Ok(outer.to_vec())
    } else {
        Err(wrong())
    }
}

/// Encap a packet without a MAC header, as all are that leave a TUN device: room for one is made in
/// front. A test run takes the first 14 bytes for one all the same, so that outer headers go in
/// behind them. What else there is must be where it would be.
fn send_bare(fast_path: &mut FastPath, settings: &Settings) -> Result<(), FastPathError> {
    fast_path.state.l2 = 0;
    fast_path.write_state()?;
    let packet = packet_from(BARE, protocol::UDP, Ecn::NotEct);
    let outcome = probe::run(program(&mut fast_path.programs, OUT)?, &packet, None)?;
    let overhead = OUTER + header_len(settings);
    let outer = outcome.bytes.get(MAC_HEADER..).unwrap_or_default();
    let is_outer = ipv4::Packet::new(outer).is_ok_and(|ip| {
        ip.verify_checksum()
            && (ip.src().octets(), ip.dst()) == (settings.local, PEER)
            && usize::from(ip.total_len()) == overhead + packet.len()
    });
    let right = outcome.action == REDIRECT
        && outcome.bytes.len() == MAC_HEADER + overhead + packet.len()
        && outcome.bytes.starts_with(&[0; MAC_HEADER])
        && is_outer
        && outcome.bytes.ends_with(&packet[MAC_HEADER..]);
    match right {
        true => Ok(()),
        false => Err(refused("encap of what has no MAC header", &outcome)),
    }
}

/// Decap what was sent as if the peer had sent it.
fn receive(
    fast_path: &mut FastPath,
    settings: &Settings,
    packet: &[u8],
    sent: &[u8],
    arrival: Arrival,
) -> Result<(), FastPathError> {
    let bytes = answer(settings, sent, arrival)
        .ok_or_else(|| FastPathError::because("decap", "the datagram is malformed"))?;
    let outcome = probe::run(program(&mut fast_path.programs, IN)?, &bytes, None)?;
    let mut expected = packet.to_vec();
    let right = match ecn::decap(arrival.outside, &mut expected) {
        Ok(()) => outcome.action == REDIRECT && outcome.bytes == framed(&expected),
        Err(_) => outcome.action != REDIRECT,
    };
    match right {
        true => Ok(()),
        false => {
            let Arrival { outside, summed } = arrival;
            let checksum = if summed { "with" } else { "without" };
            let step = format!("decap, ECN {outside:?} outside, {checksum} outer checksum");
            Err(refused(&step, &outcome))
        }
    }
}

/// What was sent, as the peer would send it to this node.
fn answer(settings: &Settings, sent: &[u8], arrival: Arrival) -> Option<Vec<u8>> {
    let mut datagram = sent.to_vec();
    datagram[12..16].copy_from_slice(&PEER.octets());
    datagram[16..20].copy_from_slice(&settings.local);
    if settings.vxlan == 1 {
        datagram[INNER_SOURCE] ^= 0xff;
    }
    let mut ip = ipv4::Packet::new(&mut datagram[..]).ok()?;
    ip.set_ecn(arrival.outside);
    ip.fill_checksum();
    if arrival.summed {
        let sum = outer_sum(&ip).finish_udp();
        let mut udp = udp::Datagram::new(ip.payload_mut()).ok()?;
        udp.set_checksum(sum);
    }
    Some(framed(&datagram))
}

/// The sum over the datagram in a packet: with its checksum in it, a valid one.
pub(super) fn outer_sum<T: AsRef<[u8]>>(ip: &ipv4::Packet<T>) -> checksum::Sum {
    let datagram = ip.payload();
    let len = u32::try_from(datagram.len()).unwrap_or_default();
    ip.pseudo_sum(len).add(checksum::sum(datagram))
}

fn header_len(settings: &Settings) -> usize {
    FRAME_HEADER * settings.vxlan as usize
}

fn refused(step: &str, outcome: &Outcome) -> FastPathError {
    let reason = format!(
        "this kernel does it wrong (action {}, {} bytes)",
        outcome.action as i32,
        outcome.bytes.len()
    );
    FastPathError::because(step, reason)
}

/// `packet` behind an Ethernet header of the loopback device.
fn framed(packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MAC_HEADER];
    bytes[12..].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    bytes.extend(packet);
    bytes
}

/// A small packet from one pod to another.
fn packet(kind: u8, ecn: Ecn) -> Vec<u8> {
    packet_from(POD, kind, ecn)
}

fn packet_from(source: Ipv4Addr, kind: u8, ecn: Ecn) -> Vec<u8> {
    let mut bytes = vec![0; ipv4::MIN_HEADER_LEN + 40];
    bytes[0] = 0x45;
    bytes[3] = bytes.len() as u8;
    bytes[8] = 64;
    bytes[9] = kind;
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&POD.octets());
    // Ports, and a TCP header without options.
    bytes[20..24].copy_from_slice(&[0x80, 1, 0x80, 2]);
    bytes[32] = 5 << 4;
    if let Ok(mut ip) = ipv4::Packet::new(&mut bytes[..]) {
        ip.set_ecn(ecn);
        ip.fill_checksum();
    }
    bytes
}
