//! Explicit congestion notification across the tunnel (RFC 6040, as Linux does it in
//! `include/net/inet_ecn.h`).

use crate::stats::Drop as Reason;
use crate::wire::{ipv4, ipv6};

/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0;
/// ECN-capable, codepoint 0.
pub const ECT_0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// The outer ECN field for an inner one: copied, but CE travels as ECT(0), so that what the
/// underlay adds can be told from what was there.
pub fn encap(inner: u8) -> u8 {
    if inner == CE { ECT_0 } else { inner }
}

/// Bring an outer CE mark to the inner IP packet `ip` (from its header on).
///
/// Errors: [`Reason::EcnDrop`] when the inner packet is not ECN-capable and so cannot be
/// marked; [`Reason::BadInnerIp`] when it is no IP packet.
pub fn decap(outer: u8, ip: &mut [u8]) -> Result<(), Reason> {
    if outer != CE {
        return Ok(());
    }
    match ip.first().map(|byte| byte >> 4) {
        Some(4) => {
            let mut packet = ipv4::Packet::new(ip).map_err(|_| Reason::BadInnerIp)?;
            if packet.ecn() == NOT_ECT {
                return Err(Reason::EcnDrop);
            }
            packet.set_ecn(CE);
        }
        Some(6) => {
            let mut packet = ipv6::Packet::new(ip).map_err(|_| Reason::BadInnerIp)?;
            if packet.ecn() == NOT_ECT {
                return Err(Reason::EcnDrop);
            }
            packet.set_ecn(CE);
        }
        _ => return Err(Reason::BadInnerIp),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ecn: u8) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[1] = ecn;
        bytes[3] = 20;
        ipv4::Packet::new(&mut bytes[..]).unwrap().fill_checksum();
        bytes
    }

    fn v6(ecn: u8) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[1] = ecn << 4;
        bytes
    }

    #[test]
    fn encap_copies_all_but_ce() {
        assert_eq!([0, 1, 2, 3].map(encap), [0, 1, 2, 2]);
    }

    #[test]
    fn outer_marks_other_than_ce_change_nothing() {
        for outer in 0..3 {
            for inner in 0..4 {
                let mut packet = v4(inner);
                assert_eq!(decap(outer, &mut packet), Ok(()));
                assert_eq!(packet, v4(inner));
            }
        }
    }

    #[test]
    fn ce_marks_capable_packets_and_keeps_checksums_right() {
        for inner in 1..4 {
            let mut packet = v4(inner);
            assert_eq!(decap(CE, &mut packet), Ok(()));
            assert_eq!(packet, v4(CE));
            let mut packet = v6(inner);
            assert_eq!(decap(CE, &mut packet), Ok(()));
            assert_eq!(packet, v6(CE));
        }
    }

    #[test]
    fn ce_on_packets_that_cannot_carry_it_is_a_drop() {
        assert_eq!(decap(CE, &mut v4(NOT_ECT)), Err(Reason::EcnDrop));
        assert_eq!(decap(CE, &mut v6(NOT_ECT)), Err(Reason::EcnDrop));
        assert_eq!(decap(CE, &mut []), Err(Reason::BadInnerIp));
    }
}
