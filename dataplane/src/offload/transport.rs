//! Where the transport header of an IP packet lies.

use crate::wire::checksum::{self, Sum};
use crate::wire::ip::{IpPacket, protocol};

/// IPv6 extension headers that are looked through. Real packets have one or two.
const MAX_EXTENSION_HEADERS: usize = 8;

/// The transport part of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    /// What it is, see [`protocol`].
    pub(super) protocol: u8,
    /// Where it starts, from the start of the IP header.
    pub(super) offset: usize,
    /// Whether the packet is a fragment, so that what lies at `offset` may be anything.
    pub(super) fragment: bool,
    /// Whether IPv4 options or IPv6 extension headers precede it.
    pub(super) options: bool,
}

impl Transport {
    /// Find the transport header; `None` when the chain of IPv6 extension headers is too
    /// long or leaves the packet.
    #[inline]
    pub(super) fn find(ip: &IpPacket<'_>) -> Option<Transport> {
        match ip {
            IpPacket::V4(packet) => Some(Transport {
                protocol: packet.protocol(),
                offset: packet.header_len(),
                fragment: packet.is_fragment(),
                options: packet.header_len() != 20,
            }),
            IpPacket::V6(packet) => Transport::walk(packet.next_header(), ip.payload()),
        }
    }

    #[inline]
    fn walk(first: u8, payload: &[u8]) -> Option<Transport> {
        let mut transport = Transport {
            protocol: first,
            offset: 0,
            fragment: false,
            options: false,
        };
        for _ in 0..MAX_EXTENSION_HEADERS {
            let units = match transport.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DEST_OPTIONS => (1, 8),
                protocol::AUTH => (2, 4),
                protocol::FRAGMENT => {
                    transport.fragment = true;
                    (0, 0)
                }
                _ => (0, 0),
            };
            let (base, unit) = units;
            if unit == 0 {
                transport.offset += 40;
                return Some(transport);
            }
            let next = *payload.get(transport.offset)?;
            let len = usize::from(*payload.get(transport.offset + 1)?);
            transport.protocol = next;
            transport.offset += (len + base) * unit;
            transport.options = true;
        }
        None
    }
}

/// Pseudo-header sum of `ip` for `len` bytes of transport header and payload. The
/// destination is that of the IP header: a pending routing header is not followed.
#[inline]
pub(super) fn pseudo_sum(ip: &IpPacket<'_>, protocol: u8, len: usize) -> Sum {
    match ip {
        IpPacket::V4(packet) => {
            checksum::pseudo_v4(packet.src(), packet.dst(), protocol, len as u32)
        }
        IpPacket::V6(packet) => {
            checksum::pseudo_v6(packet.src(), packet.dst(), protocol, len as u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes[6] = next;
        bytes.extend_from_slice(payload);
        bytes
    }

    fn find(bytes: &[u8]) -> Option<Transport> {
        Transport::find(&IpPacket::new(bytes).unwrap())
    }

    #[test]
    fn extension_headers_are_looked_through() {
        let plain = find(&v6(6, &[0; 20])).unwrap();
        assert_eq!(
            (plain.protocol, plain.offset, plain.options),
            (6, 40, false)
        );

        // Hop-by-hop of 8 bytes, destination options of 16, then UDP.
        let mut payload = vec![0; 24 + 8];
        payload[0] = protocol::DEST_OPTIONS;
        payload[8] = protocol::UDP;
        payload[9] = 1;
        let chained = find(&v6(protocol::HOP_BY_HOP, &payload)).unwrap();
        assert_eq!(
            (chained.protocol, chained.offset, chained.options),
            (protocol::UDP, 64, true)
        );
    }

    #[test]
    fn a_chain_that_leaves_the_packet_or_never_ends_is_refused() {
        assert_eq!(find(&v6(protocol::HOP_BY_HOP, &[])), None);
        assert_eq!(find(&v6(protocol::ROUTING, &[6])), None);
        let endless = vec![0; 8 * 20];
        assert_eq!(find(&v6(protocol::HOP_BY_HOP, &endless)), None);
    }

    #[test]
    fn fragments_are_told() {
        let fragment = find(&v6(protocol::FRAGMENT, &[6, 0, 0, 1, 0, 0, 0, 0])).unwrap();
        assert!(fragment.fragment);
    }
}
