//! What the coalescer wants to know of one inner packet.

use super::flow::Flow;
use crate::offload::transport::{Transport, pseudo_sum};
use crate::wire::checksum::Sum;
use crate::wire::ip::{IpPacket, protocol};
use crate::wire::{Malformed, tcp, udp};

/// Longest run of TCP options in bytes.
pub(super) const MAX_OPTIONS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
        }
    }
}

/// An inner packet, sorted by what order it must keep.
pub(super) enum Inspected<'a> {
    /// TCP or UDP with a whole transport header.
    Segment(InspectedSegment<'a>),
    /// It may belong to any flow: a fragment, or headers that do not parse.
    Unknown,
    /// It belongs to no flow: another protocol.
    Other,
}

/// A TCP segment or UDP datagram.
pub(super) struct InspectedSegment<'a> {
    pub(super) flow: Flow,
    pub(super) protocol: Protocol,
    pub(super) v6: bool,
    /// Where the transport header starts.
    pub(super) l4: usize,
    /// Length of IP and transport header.
    pub(super) header_len: usize,
    /// Payload bytes.
    pub(super) payload: usize,
    /// TCP sequence number.
    pub(super) seq: u32,
    /// TCP flags.
    pub(super) flags: u16,
    /// What must be equal besides the flow, packed: ToS, TTL and DF, and for IPv6 the
    /// flow label.
    pub(super) ip_fields: u64,
    /// As `ip_fields`: acknowledgment, window and urgent pointer.
    pub(super) tcp_fields: u64,
    /// TCP options, which must be equal too.
    pub(super) options: &'a [u8],
    /// IPv4 identification.
    pub(super) ident: u16,
    /// Whether the identification means something: IPv4 without DF (RFC 6864).
    pub(super) ident_counts: bool,
    /// The transport checksum as it stands.
    pub(super) checksum: u16,
    /// Length fields cover the buffer exactly.
    pub(super) exact: bool,
    /// What else keeps it from merging is ruled out, but for its checksum.
    pub(super) mergeable: bool,
}

/// Parse `bytes`, the inner packet and whatever the frame holds behind it.
#[inline]
pub(super) fn inspect(bytes: &[u8]) -> Result<(IpPacket<'_>, Inspected<'_>), Malformed> {
    let ip = IpPacket::new(bytes)?;
    let Some(transport) = Transport::find(&ip) else {
        return Ok((ip, Inspected::Unknown));
    };
    let kind = match transport.protocol {
        _ if transport.fragment => return Ok((ip, Inspected::Unknown)),
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return Ok((ip, Inspected::Other)),
    };
    let exact = ip.total_len() == bytes.len();
    let inner = match segment(&ip, transport, kind, bytes, exact) {
        Some(segment) => Inspected::Segment(segment),
        None => Inspected::Unknown,
    };
    Ok((ip, inner))
}

#[inline]
fn segment<'a>(
    ip: &IpPacket<'_>,
    transport: Transport,
    kind: Protocol,
    bytes: &'a [u8],
    exact: bool,
) -> Option<InspectedSegment<'a>> {
    let l4_bytes = bytes.get(transport.offset..ip.total_len())?;
    let ports = *l4_bytes.first_chunk::<4>()?;
    let (ident, ident_counts, ip_clean, ip_fields) = match ip {
        IpPacket::V4(packet) => {
            // In what is no fragment, DF and the reserved bit are all there can be.
            let [.., flags, _, ttl, _] = *bytes.first_chunk::<10>()?;
            let clean = flags & 0x80 == 0 && packet.verify_checksum();
            let fields = u32::from_be_bytes([0, packet.tos(), ttl, flags]);
            (packet.ident(), !packet.dont_frag(), clean, fields.into())
        }
        IpPacket::V6(packet) => {
            let class_and_label = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
            let fields = u64::from(class_and_label) << 8 | u64::from(packet.hop_limit());
            (0, false, true, fields)
        }
    };
    let mut segment = InspectedSegment {
        flow: Flow::new(ip, kind.number(), ports),
        protocol: kind,
        v6: matches!(ip, IpPacket::V6(_)),
        l4: transport.offset,
        header_len: 0,
        payload: 0,
        seq: 0,
        flags: 0,
        ip_fields,
        tcp_fields: 0,
        options: &[],
        ident,
        ident_counts,
        checksum: 0,
        exact,
        mergeable: false,
    };
    let (l4_header, clean) = match kind {
        Protocol::Tcp => {
            let tcp = tcp::Segment::new(l4_bytes).ok()?;
            segment.seq = tcp.seq();
            segment.flags = tcp.flags();
            segment.checksum = tcp.checksum();
            let rest = u32::from(tcp.window()) << 16 | u32::from(tcp.urgent());
            segment.tcp_fields = u64::from(tcp.ack()) << 32 | u64::from(rest);
            segment.options = l4_bytes.get(tcp::MIN_HEADER_LEN..tcp.header_len())?;
            (tcp.header_len(), tcp.flags() & !tcp::PSH == tcp::ACK)
        }
        Protocol::Udp => {
            let udp = udp::Datagram::header_only(l4_bytes).ok()?;
            segment.checksum = udp.checksum();
            segment.exact &= usize::from(udp.len()) == l4_bytes.len();
            // Segments of a super-packet always have a checksum: a datagram that came
            // without one would leave with one. The kernel does not merge these either.
            (udp::HEADER_LEN, udp.checksum() != 0)
        }
    };
    segment.header_len = transport.offset + l4_header;
    segment.payload = l4_bytes.len() - l4_header;
    segment.mergeable =
        segment.exact && clean && ip_clean && !transport.options && segment.payload != 0;
    Some(segment)
}

impl InspectedSegment<'_> {
    /// The pseudo-header sum, the length left out.
    #[inline]
    pub(super) fn pseudo(&self, ip: &IpPacket<'_>) -> Sum {
        pseudo_sum(ip, self.protocol.number(), 0)
    }

    /// Whether the checksum is partial: the pseudo-header sum and nothing else. Virtual
    /// links deliver packets whose sender left the rest to hardware that never came.
    ///
    /// One complete checksum in 65,536 looks the same; completing it again yields the
    /// same value.
    #[inline]
    pub(super) fn is_partial(&self, pseudo: Sum) -> bool {
        self.checksum == pseudo.add_u16(self.l4_len() as u16).fold()
    }

    /// Whether the checksum is right over header and payload.
    #[inline]
    pub(super) fn is_intact(&self, pseudo: Sum, bytes: &[u8]) -> bool {
        let Some(l4) = bytes.get(self.l4..self.l4 + self.l4_len()) else {
            return false;
        };
        pseudo
            .add_u16(self.l4_len() as u16)
            .add_bytes(l4)
            .is_valid()
    }

    /// Length of transport header and payload.
    #[inline]
    fn l4_len(&self) -> usize {
        self.header_len - self.l4 + self.payload
    }
}
