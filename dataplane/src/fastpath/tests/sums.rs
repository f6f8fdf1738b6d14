//! Outer checksums: of all kinds, and judged as the kernel does.

use super::*;
use crate::wire::frame::FRAME_OVERHEAD;
use crate::wire::ip::protocol;
use crate::wire::{checksum, udp};
use proptest::prelude::*;

/// The outer checksum of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) enum OuterSum {
    Right,
    /// Right but for these bits.
    Wrong(u16),
    /// Left to a device, as what a socket sends over a virtual link.
    Pending,
    /// Made by a tunnel of the kernel around one that is left to a device.
    AroundInner,
}

/// Of all kinds.
pub(super) fn outer_sum() -> impl Strategy<Value = OuterSum> {
    prop_oneof![
        6 => Just(OuterSum::Right),
        2 => (1_u16..).prop_map(OuterSum::Wrong),
        1 => Just(OuterSum::Pending),
        1 => Just(OuterSum::AroundInner),
    ]
}

impl OuterSum {
    /// Put it into a datagram.
    pub(super) fn put(self, datagram: Vec<u8>) -> Vec<u8> {
        let mut bytes = summed(datagram);
        let right = u16::from_be_bytes([bytes[26], bytes[27]]);
        bytes[26..28].fill(0);
        let ip = ipv4::Packet::new(&bytes[..]).unwrap();
        let sum = match self {
            OuterSum::Right => right,
            OuterSum::Wrong(bits) => right ^ bits,
            OuterSum::Pending => ip.pseudo_sum(ip.payload().len() as u32).fold(),
            OuterSum::AroundInner => sum_around_inner(&ip).map_or(right, checksum::Sum::finish_udp),
        };
        bytes[26..28].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Whether the kernel gives a datagram with this checksum to a socket (`udp_rcv`): there is none, it
/// is right, or the kernel that sent it over a virtual link has not made it yet.
pub(super) fn is_intact(wire: Wire, ip: &ipv4::Packet<&[u8]>, udp: &udp::Datagram<&[u8]>) -> bool {
    let pseudo = ip.pseudo_sum(udp.len().into());
    let as_it_is = pseudo.add(checksum::sum(&ip.payload()[..udp.len().into()]));
    let around_inner = sum_around_inner(ip).filter(|_| wire == Wire::Vxlan);
    udp.checksum() == 0
        || udp.checksum() == pseudo.fold()
        || as_it_is.is_valid()
        || around_inner.is_some_and(checksum::Sum::is_valid)
}

/// What a tunnel of the kernel sums up around a packet whose own checksum is not made yet: all
/// before what that is for, and the opposite of what its field holds (`lco_csum`).
fn sum_around_inner(ip: &ipv4::Packet<&[u8]>) -> Option<checksum::Sum> {
    let datagram = ip.payload();
    let inner = udp::HEADER_LEN + FRAME_OVERHEAD;
    let packet = ipv4::Packet::new(datagram.get(inner..)?).ok()?;
    let field = match packet.protocol() {
        protocol::TCP => 16,
        protocol::UDP => udp::CHECKSUM_OFFSET,
        _ => return None,
    };
    if packet.header_len() != ipv4::MIN_HEADER_LEN || !packet.verify_checksum() {
        return None;
    }
    let (headers, transport) = datagram.split_at(inner + ipv4::MIN_HEADER_LEN);
    let field = transport.get(field..)?.first_chunk()?;
    let sum = ip.pseudo_sum(datagram.len() as u32);
    let sum = sum.add(checksum::sum(headers));
    Some(sum.add_u16(!u16::from_be_bytes(*field)))
}
