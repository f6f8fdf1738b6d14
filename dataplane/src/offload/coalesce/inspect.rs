//! What the coalescer wants to know of one inner packet.

use super::flow::Flow;
use crate::offload::transport::{Transport, pseudo_sum};
use crate::wire::checksum::Sum;
use crate::wire::ip::{IpPacket, protocol};
use crate::wire::{Malformed, tcp, udp};

/// Longest header of a packet that may merge: IPv6 and TCP with all options.
const MAX_HEADER: usize = 40 + 60;

/// The headers of a packet with every field zeroed that may differ between segments of one
/// super-packet. Packets of equal templates agree in all else: addresses, ports, ToS,
/// TTL, DF, flow label, acknowledgment, window, flags and options.
#[derive(Clone, Copy)]
pub(super) struct Template {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl Template {
    pub(super) const EMPTY: Template = Template {
        bytes: [0; MAX_HEADER],
        len: 0,
    };

    #[inline]
    fn new(header: &[u8], l4: usize, transport: Protocol, v6: bool) -> Option<Template> {
        let mut template = Template::EMPTY;
        let bytes = template.bytes.get_mut(..header.len())?;
        bytes.copy_from_slice(header);
        if v6 {
            zero::<2>(bytes, 4); // payload length
        } else {
            zero::<4>(bytes, 2); // total length, identification
            zero::<2>(bytes, 10); // checksum
        }
        match transport {
            Protocol::Tcp => {
                zero::<4>(bytes, l4 + 4); // sequence number
                zero::<2>(bytes, l4 + 16); // checksum
                if let Some(flags) = bytes.get_mut(l4 + 13) {
                    *flags &= !(tcp::PSH as u8);
                }
            }
            Protocol::Udp => zero::<4>(bytes, l4 + 4), // length, checksum
        }
        template.len = header.len() as u8;
        Some(template)
    }

    #[inline]
    fn header(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Template {
    #[inline]
    fn eq(&self, other: &Template) -> bool {
        self.header() == other.header()
    }
}

#[inline]
fn zero<const N: usize>(bytes: &mut [u8], at: usize) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.fill(0);
    }
}

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
pub(super) enum Inner {
    /// TCP or UDP with a whole transport header.
    Segment(Segment),
    /// It may belong to any flow: a fragment, or headers that do not parse.
    Unknown,
    /// It belongs to no flow: another protocol.
    Other,
}

/// A TCP segment or UDP datagram.
pub(super) struct Segment {
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
pub(super) fn inspect(bytes: &[u8]) -> Result<(IpPacket<'_>, Inner), Malformed> {
    let ip = IpPacket::new(bytes)?;
    let Some(transport) = Transport::find(&ip) else {
        return Ok((ip, Inner::Unknown));
    };
    let kind = match transport.protocol {
        _ if transport.fragment => return Ok((ip, Inner::Unknown)),
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return Ok((ip, Inner::Other)),
    };
    let exact = ip.total_len() == bytes.len();
    let inner = match segment(&ip, transport, kind, bytes, exact) {
        Some(segment) => Inner::Segment(segment),
        None => Inner::Unknown,
    };
    Ok((ip, inner))
}

#[inline]
fn segment(
    ip: &IpPacket<'_>,
    transport: Transport,
    kind: Protocol,
    bytes: &[u8],
    exact: bool,
) -> Option<Segment> {
    let l4_bytes = bytes.get(transport.offset..ip.total_len())?;
    let ports = *l4_bytes.first_chunk::<4>()?;
    let (ident, ident_counts, ip_clean) = match ip {
        // The flags word of a packet that is no fragment can hold DF and the reserved bit.
        IpPacket::V4(packet) => {
            let reserved = bytes.get(6).is_some_and(|flags| flags & 0x80 != 0);
            let clean = !reserved && packet.verify_checksum();
            (packet.ident(), !packet.dont_frag(), clean)
        }
        IpPacket::V6(_) => (0, false, true),
    };
    let mut segment = Segment {
        flow: Flow::new(ip, kind.number(), ports),
        protocol: kind,
        v6: matches!(ip, IpPacket::V6(_)),
        l4: transport.offset,
        header_len: 0,
        payload: 0,
        seq: 0,
        flags: 0,
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

impl Segment {
    /// The packet's template; `None` for headers that are too long to merge.
    #[inline]
    pub(super) fn template(&self, bytes: &[u8]) -> Option<Template> {
        let header = bytes.get(..self.header_len)?;
        Template::new(header, self.l4, self.protocol, self.v6)
    }

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
