//! Explicit congestion notification across the tunnel, as Linux does it for its own tunnels
//! (`INET_ECN_encapsulate` and `INET_ECN_decapsulate` in `include/net/inet_ecn.h`).
//!
//! Outwards that is the full-functionality option of RFC 3168 (section 9.1.1). The normal
//! mode of RFC 6040 (section 4.1) differs in one codepoint: it copies CE. Kernel VXLAN peers
//! see from weft what they see from each other, and every decapsulator of either RFC makes
//! the same of both, because a CE inside stays CE. Inwards it is RFC 6040, section 4.2.

use crate::stats::DropReason;
use crate::wire::ecn::Ecn;
use crate::wire::{ipv4, ipv6};

/// The outer ECN field for an inner one: copied, but CE travels as ECT(0), so that what the
/// underlay adds can be told from what was there.
#[inline]
pub fn encap(inner: Ecn) -> Ecn {
    match inner {
        Ecn::Ce => Ecn::Ect0,
        other => other,
    }
}

/// The inner ECN field after decapsulation (RFC 6040, figure 4); `None` where the packet
/// must be dropped, because it cannot carry the congestion that the underlay signals.
///
/// | inner \ outer | Not-ECT | ECT(0) | ECT(1) | CE |
/// |---|---|---|---|---|
/// | Not-ECT | Not-ECT | Not-ECT | Not-ECT | drop |
/// | ECT(0) | ECT(0) | ECT(0) | ECT(1) | CE |
/// | ECT(1) | ECT(1) | ECT(1) | ECT(1) | CE |
/// | CE | CE | CE | CE | CE |
fn combine(outer: Ecn, inner: Ecn) -> Option<Ecn> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => None,
        (Ecn::NotEct, _) => Some(Ecn::NotEct),
        (_, Ecn::Ce) => Some(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
        (inner, _) => Some(inner),
    }
}

/// Bring what the outer ECN field says to the inner IP packet `ip` (from its header on).
///
/// Errors: [`DropReason::EcnDrop`] when the outer field says CE and the inner packet is not
/// ECN-capable and so cannot be marked; [`DropReason::BadInnerIp`] when it would have to be
/// changed and is no IP packet.
pub fn decap(outer: Ecn, ip: &mut [u8]) -> Result<(), DropReason> {
    // These never change anything, and nearly all packets have one of them.
    if matches!(outer, Ecn::NotEct | Ecn::Ect0) {
        return Ok(());
    }
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => {
            let mut packet = ipv4::Packet::new(ip).map_err(|_| DropReason::BadInnerIp)?;
            let ecn = combine(outer, packet.ecn()).ok_or(DropReason::EcnDrop)?;
            packet.set_ecn(ecn);
        }
        Some(6) => {
            let mut packet = ipv6::Packet::new(ip).map_err(|_| DropReason::BadInnerIp)?;
            let ecn = combine(outer, packet.ecn()).ok_or(DropReason::EcnDrop)?;
            packet.set_ecn(ecn);
        }
        _ => return Err(DropReason::BadInnerIp),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ecn: Ecn) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[1] = ecn.bits();
        bytes[3] = 20;
        ipv4::Packet::new(&mut bytes[..]).unwrap().fill_checksum();
        bytes
    }

    fn v6(ecn: Ecn) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[1] = ecn.bits() << 4;
        bytes
    }

    #[test]
    fn encap_copies_all_but_ce() {
        assert_eq!(Ecn::ALL.map(|inner| encap(inner).bits()), [0, 1, 2, 2]);
    }

    /// Figure 4 of RFC 6040: a row for each inner field and in it a value for each outer one,
    /// both in the order of the codepoints: Not-ECT, ECT(1), ECT(0), CE.
    const FIGURE_4: [[Option<Ecn>; 4]; 4] = [
        [
            Some(Ecn::NotEct),
            Some(Ecn::NotEct),
            Some(Ecn::NotEct),
            None,
        ],
        [
            Some(Ecn::Ect1),
            Some(Ecn::Ect1),
            Some(Ecn::Ect1),
            Some(Ecn::Ce),
        ],
        [
            Some(Ecn::Ect0),
            Some(Ecn::Ect1),
            Some(Ecn::Ect0),
            Some(Ecn::Ce),
        ],
        [Some(Ecn::Ce), Some(Ecn::Ce), Some(Ecn::Ce), Some(Ecn::Ce)],
    ];

    #[test]
    fn decap_follows_the_figure_and_keeps_checksums_right() {
        for (inner, row) in Ecn::ALL.into_iter().zip(FIGURE_4) {
            for (outer, expected) in Ecn::ALL.into_iter().zip(row) {
                for make in [v4, v6] {
                    let mut packet = make(inner);
                    match expected {
                        Some(ecn) => {
                            assert_eq!(decap(outer, &mut packet), Ok(()));
                            assert_eq!(packet, make(ecn), "{outer:?} outside, {inner:?} inside");
                        }
                        None => assert_eq!(decap(outer, &mut packet), Err(DropReason::EcnDrop)),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_ip_packet_is_a_drop() {
        for packet in [
            &mut [][..],
            &mut [0x45; 19],
            &mut [0x60; 39],
            &mut [0x50; 40],
        ] {
            assert_eq!(decap(Ecn::Ce, packet), Err(DropReason::BadInnerIp));
        }
    }
}
