//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443): a view, and builders of the errors a
//! tunnel endpoint sends.
//!
//! The builders write a whole IP packet that quotes the offender, the packet that caused
//! the error, and refuse where the RFCs forbid an answer.

use super::checksum::Sum;
use super::{Malformed, between, ip, ipv4, ipv6, put, put_u16, put_u32, take, take_u16, take_u32};

/// Length of the ICMP header in bytes.
pub const HEADER_LEN: usize = 8;

const CHECKSUM: usize = 2;
const REST: usize = 4;
const TTL: u8 = 64;

/// An ICMP message of either version, without its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Message<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Message<T> {
    /// Check that a header is there. The checksum is not verified.
    #[inline]
    pub fn new(bytes: T) -> Result<Message<T>, Malformed> {
        match bytes.as_ref().len() {
            HEADER_LEN.. => Ok(Message { bytes }),
            _ => Err(Malformed::Truncated),
        }
    }

    /// The type field.
    #[inline]
    pub fn kind(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), 0)[0]
    }

    /// The code field.
    #[inline]
    pub fn code(&self) -> u8 {
        take::<1>(self.bytes.as_ref(), 1)[0]
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        take_u16(self.bytes.as_ref(), CHECKSUM)
    }

    /// The second half of the header, whose meaning depends on the type: the next-hop MTU
    /// of an IPv4 "fragmentation needed" is its low half, that of an IPv6 "packet too big"
    /// all of it.
    #[inline]
    pub fn rest(&self) -> u32 {
        take_u32(self.bytes.as_ref(), REST)
    }

    /// What follows the header: for an error, the start of the offender.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), HEADER_LEN, usize::MAX)
    }
}

/// Why no ICMP error may answer a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The offender is an ICMP error itself, or an ICMP message of unknown type.
    #[error("the offender is an ICMP error")]
    IcmpError,
    /// The offender is a fragment other than the first.
    #[error("the offender is not the first fragment")]
    LaterFragment,
    /// The offender was sent to more than one host.
    #[error("the offender's destination is not unicast")]
    Destination,
    /// The offender's source does not name one host.
    #[error("the offender's source is not unicast")]
    Source,
    /// The buffer cannot hold the least that must be quoted.
    #[error("no room for the message")]
    NoRoom,
}

/// Copy as much of `offender` behind `headers` bytes of headers as keeps the message
/// within `limit`, but at least `least` or all of it. Returns the message cut to length.
fn quote<'a>(
    out: &'a mut [u8],
    headers: usize,
    offender: &[u8],
    least: usize,
    limit: usize,
) -> Result<&'a mut [u8], Refused> {
    let room = out.len().min(limit).saturating_sub(headers);
    let len = offender.len().min(room);
    if len < least.min(offender.len()) {
        return Err(Refused::NoRoom);
    }
    let message = out.get_mut(..headers + len).ok_or(Refused::NoRoom)?;
    let (header, quoted) = message
        .split_at_mut_checked(headers)
        .ok_or(Refused::NoRoom)?;
    header.fill(0);
    for (to, from) in quoted.iter_mut().zip(offender) {
        *to = *from;
    }
    Ok(message)
}

/// Write the ICMP header at `at` and its checksum over the rest of the message and `pseudo`.
fn write_header(message: &mut [u8], at: usize, kind: u8, code: u8, rest: u32, pseudo: Sum) {
    put(message, at, [kind, code, 0, 0]);
    put_u32(message, at + REST, rest);
    let checksum = pseudo.add_bytes(between(message, at, usize::MAX)).finish();
    put_u16(message, at + CHECKSUM, checksum);
}

/// Errors for IPv4.
pub mod v4 {
    use super::{HEADER_LEN, Refused, Sum, TTL, ip, ipv4, put, quote, write_header};
    use std::net::Ipv4Addr;

    /// Type: destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Code: network unreachable.
    pub const NET_UNREACHABLE: u8 = 0;
    /// Code: host unreachable.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Code: fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Code: communication administratively prohibited (RFC 1812).
    pub const ADMIN_PROHIBITED: u8 = 13;

    /// The longest message (RFC 1812 section 4.3.2.3), in bytes.
    pub const MAX_LEN: usize = 576;

    /// Precedence "internetwork control" (RFC 1812 section 4.3.2.5).
    const TOS: u8 = 0xc0;

    /// Write a "destination unreachable" from `from` to the offender's source into `out`,
    /// which needs at most [`MAX_LEN`] bytes, and return its length.
    ///
    /// `next_hop_mtu` counts for [`FRAGMENTATION_NEEDED`] (RFC 1191) and must be 0 for all
    /// other codes.
    pub fn unreachable<T: AsRef<[u8]>>(
        out: &mut [u8],
        from: Ipv4Addr,
        code: u8,
        next_hop_mtu: u16,
        offender: &ipv4::Packet<T>,
    ) -> Result<usize, Refused> {
        check(offender)?;
        const HEADERS: usize = ipv4::MIN_HEADER_LEN + HEADER_LEN;
        // RFC 792: at least the header and 64 bits of the payload.
        let least = offender.header_len() + 8;
        let message = quote(out, HEADERS, offender.packet(), least, MAX_LEN)?;
        let len = message.len();

        // DF, for such a packet needs no identification (RFC 6864).
        put(message, 0, [0x45, TOS | offender.tos() & 0x1c]);
        put(message, 2, (len as u16).to_be_bytes());
        put(message, 6, [0x40, 0, TTL, ip::protocol::ICMP]);
        put(message, 12, from.octets());
        put(message, 16, offender.src().octets());
        if let Ok(mut header) = ipv4::Packet::header_only(&mut *message) {
            header.fill_checksum();
        }
        let rest = u32::from(next_hop_mtu);
        write_header(
            message,
            ipv4::MIN_HEADER_LEN,
            UNREACHABLE,
            code,
            rest,
            Sum::default(),
        );
        Ok(len)
    }

    /// RFC 1812 section 4.3.2.7.
    fn check<T: AsRef<[u8]>>(offender: &ipv4::Packet<T>) -> Result<(), Refused> {
        let (src, dst) = (offender.src(), offender.dst());
        if dst.is_multicast() || dst.is_broadcast() {
            return Err(Refused::Destination);
        }
        // Network 0, loopback, multicast, class E and broadcast.
        if matches!(src.octets()[0], 0 | 127 | 224..) {
            return Err(Refused::Source);
        }
        if offender.frag_offset() != 0 {
            return Err(Refused::LaterFragment);
        }
        if offender.protocol() == ip::protocol::ICMP {
            match offender.payload().first() {
                // The queries and replies (RFC 792, 950, 1256, 8335).
                Some(0 | 8 | 9 | 10 | 13..=18 | 42 | 43) => {}
                _ => return Err(Refused::IcmpError),
            }
        }
        Ok(())
    }
}

/// Errors for IPv6.
pub mod v6 {
    use super::{HEADER_LEN, Refused, TTL, ip, ipv6, put, quote, take, write_header};
    use crate::wire::checksum;
    use std::net::Ipv6Addr;

    /// Type: destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Type: packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Code of "unreachable": no route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// Code of "unreachable": communication administratively prohibited.
    pub const ADMIN_PROHIBITED: u8 = 1;
    /// Code of "unreachable": address unreachable.
    pub const ADDRESS_UNREACHABLE: u8 = 3;

    /// The longest message: the minimum MTU of IPv6, in bytes (RFC 4443 section 2.4 c).
    pub const MAX_LEN: usize = 1280;

    /// Redirect: not an error by its number, but never answered (RFC 4443 section 2.4 e).
    const REDIRECT: u8 = 137;

    /// More extension headers than any honest packet has.
    const MAX_EXTENSIONS: usize = 8;

    /// Write a "destination unreachable" from `from` to the offender's source into `out`,
    /// which needs at most [`MAX_LEN`] bytes, and return its length.
    pub fn unreachable<T: AsRef<[u8]>>(
        out: &mut [u8],
        from: Ipv6Addr,
        code: u8,
        offender: &ipv6::Packet<T>,
    ) -> Result<usize, Refused> {
        if offender.dst().is_multicast() {
            return Err(Refused::Destination);
        }
        error(out, from, [UNREACHABLE, code], 0, offender)
    }

    /// Write a "packet too big" from `from` to the offender's source into `out`, which
    /// needs at most [`MAX_LEN`] bytes, and return its length. `mtu` is that of the next
    /// hop, in bytes. This error may answer a multicast.
    pub fn packet_too_big<T: AsRef<[u8]>>(
        out: &mut [u8],
        from: Ipv6Addr,
        mtu: u32,
        offender: &ipv6::Packet<T>,
    ) -> Result<usize, Refused> {
        error(out, from, [PACKET_TOO_BIG, 0], mtu, offender)
    }

    fn error<T: AsRef<[u8]>>(
        out: &mut [u8],
        from: Ipv6Addr,
        [kind, code]: [u8; 2],
        rest: u32,
        offender: &ipv6::Packet<T>,
    ) -> Result<usize, Refused> {
        let to = offender.src();
        if to.is_unspecified() || to.is_multicast() {
            return Err(Refused::Source);
        }
        if is_icmp_error(offender) {
            return Err(Refused::IcmpError);
        }
        const HEADERS: usize = ipv6::HEADER_LEN + HEADER_LEN;
        let least = ipv6::HEADER_LEN + 8;
        let message = quote(out, HEADERS, offender.packet(), least, MAX_LEN)?;
        let len = message.len();
        let icmp_len = len - ipv6::HEADER_LEN;

        put(message, 0, [0x60]);
        put(message, 4, (icmp_len as u16).to_be_bytes());
        put(message, 6, [ip::protocol::ICMPV6, TTL]);
        put(message, 8, from.octets());
        put(message, 24, to.octets());
        let pseudo = checksum::pseudo_v6(from, to, ip::protocol::ICMPV6, icmp_len as u32);
        write_header(message, ipv6::HEADER_LEN, kind, code, rest, pseudo);
        Ok(len)
    }

    /// Whether the upper layer is an ICMP error, or might be one but is cut off. A later
    /// fragment is not taken for one, as in Linux (`is_ineligible` in net/ipv6/icmp.c).
    fn is_icmp_error<T: AsRef<[u8]>>(offender: &ipv6::Packet<T>) -> bool {
        use ip::protocol::{AUTH, DEST_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV6, ROUTING};
        let mut next = offender.next_header();
        let mut rest = offender.payload();
        for _ in 0..MAX_EXTENSIONS {
            let [following, len] = take::<2>(rest, 0);
            let len = match next {
                HOP_BY_HOP | ROUTING | DEST_OPTIONS => 8 + 8 * usize::from(len),
                AUTH => 8 + 4 * usize::from(len),
                FRAGMENT if u16::from_be_bytes(take(rest, 2)) & 0xfff8 != 0 => return false,
                FRAGMENT => 8,
                ICMPV6 => {
                    return rest
                        .first()
                        .is_none_or(|&kind| kind < 128 || kind == REDIRECT);
                }
                _ => return false,
            };
            let Some(behind) = rest.get(len..) else {
                return false;
            };
            next = following;
            rest = behind;
        }
        true
    }
}

#[cfg(test)]
mod tests;
