//! What is sent and heard, as bytes.

use crate::family::Family;
use etherparse::icmpv4::{DestUnreachableHeader, TimestampMessage};
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber,
    Ipv4HeaderSlice, Ipv6HeaderSlice,
};
use std::fmt::{self, Display};
use std::net::IpAddr;

/// Bytes of the header of an echo request.
const ECHO_HEADER: usize = 8;

/// Who did not let a packet pass, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who says so.
    pub from: IpAddr,
    /// The reason.
    pub why: Why,
}

/// Why a packet did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is longer than the link takes; the longest IP packet in bytes, where that is told.
    TooLong(Option<u32>),
    /// Nobody has the port, or a firewall says so.
    Port,
    /// No route, or no neighbour.
    Unreachable,
    /// A firewall.
    Prohibited,
    /// It went in circles.
    Circles,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from;
        match self.why {
            Why::TooLong(Some(mtu)) => write!(f, "{from} says that the path takes {mtu} bytes"),
            Why::TooLong(None) => write!(f, "{from} says that it is too long"),
            Why::Port => write!(f, "{from} says that nobody has the port"),
            Why::Unreachable => write!(f, "{from} says that the host is unreachable"),
            Why::Prohibited => write!(f, "{from} says that it is prohibited"),
            Why::Circles => write!(f, "{from} says that it went in circles"),
        }
    }
}

/// Which packet of ours something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A request: identifier and sequence number.
    Request(u16, u16),
    /// A datagram: source and destination port.
    Datagram(u16, u16),
}

/// What was heard of a packet to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) to: IpAddr,
    pub(super) about: About,
    /// `None`: it is answered.
    pub(super) refusal: Option<Refusal>,
}

/// An echo request that makes an IP packet of `len` bytes, or of as few as there can be. The
/// kernel sums those of IPv6.
pub(super) fn echo(family: Family, id: u16, seq: u16, len: usize) -> Vec<u8> {
    let payload = vec![0x77; len.saturating_sub(header_len(family) + ECHO_HEADER)];
    let echo = IcmpEchoHeader { id, seq };
    let mut message = match family {
        Family::V4 => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload)
            .to_bytes()
            .to_vec(),
        Family::V6 => Icmpv6Type::EchoRequest(echo)
            .to_header([0; 16], [0; 16], &payload)
            .map_or_else(|_| Vec::new(), |header| header.to_bytes().to_vec()),
    };
    message.extend(payload);
    message
}

/// A request for the time, of IPv4 alone, that makes an IP packet of `len` bytes, or of as few as
/// there can be. Its answer has 40.
pub(super) fn timestamp(id: u16, seq: u16, len: usize) -> Vec<u8> {
    let payload = vec![0x77; len.saturating_sub(header_len(Family::V4) + TimestampMessage::LEN)];
    let message = TimestampMessage {
        id,
        seq,
        originate_timestamp: 0,
        receive_timestamp: 0,
        transmit_timestamp: 0,
    };
    let header = Icmpv4Header::with_checksum(Icmpv4Type::TimestampRequest(message), &payload);
    [header.to_bytes().as_slice(), &payload].concat()
}

fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// What a raw socket of `family` has received from `from`; `None` if it is about nothing of ours.
pub(super) fn hear(family: Family, from: IpAddr, packet: &[u8]) -> Option<Heard> {
    match family {
        Family::V4 => hear_v4(from, packet),
        Family::V6 => hear_v6(from, packet),
    }
}

/// A whole IPv4 packet.
fn hear_v4(from: IpAddr, packet: &[u8]) -> Option<Heard> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let message = Icmpv4Slice::from_slice(packet.get(ip.slice().len()..)?).ok()?;
    let why = match message.icmp_type() {
        Icmpv4Type::EchoReply(echo) => return Some(answered(from, echo.id, echo.seq)),
        Icmpv4Type::TimestampReply(time) => return Some(answered(from, time.id, time.seq)),
        Icmpv4Type::DestinationUnreachable(code) => why_v4(&code),
        Icmpv4Type::TimeExceeded(_) => Why::Circles,
        _ => return None,
    };
    let quoted = message.payload();
    let ip = Ipv4HeaderSlice::from_slice(quoted).ok()?;
    let rest = quoted.get(ip.slice().len()..)?;
    Some(Heard {
        to: ip.destination_addr().into(),
        about: about(ip.protocol(), &[8, 13], rest)?,
        refusal: Some(Refusal { from, why }),
    })
}

/// An ICMPv6 message.
fn hear_v6(from: IpAddr, packet: &[u8]) -> Option<Heard> {
    let message = Icmpv6Slice::from_slice(packet).ok()?;
    let why = match message.icmp_type() {
        Icmpv6Type::EchoReply(echo) => return Some(answered(from, echo.id, echo.seq)),
        Icmpv6Type::PacketTooBig { mtu } => Why::TooLong(Some(mtu)),
        Icmpv6Type::DestinationUnreachable(code) => match code {
            DestUnreachableCode::Port => Why::Port,
            DestUnreachableCode::Prohibited
            | DestUnreachableCode::SourceAddressFailedPolicy
            | DestUnreachableCode::RejectRoute => Why::Prohibited,
            DestUnreachableCode::NoRoute
            | DestUnreachableCode::BeyondScope
            | DestUnreachableCode::Address => Why::Unreachable,
        },
        Icmpv6Type::TimeExceeded(_) => Why::Circles,
        _ => return None,
    };
    let quoted = message.payload();
    let ip = Ipv6HeaderSlice::from_slice(quoted).ok()?;
    let rest = quoted.get(ip.slice().len()..)?;
    Some(Heard {
        to: ip.destination_addr().into(),
        about: about(ip.next_header(), &[128], rest)?,
        refusal: Some(Refusal { from, why }),
    })
}

fn answered(from: IpAddr, id: u16, seq: u16) -> Heard {
    Heard {
        to: from,
        about: About::Request(id, seq),
        refusal: None,
    }
}

fn why_v4(code: &DestUnreachableHeader) -> Why {
    match code {
        DestUnreachableHeader::FragmentationNeeded { next_hop_mtu } => {
            Why::TooLong((*next_hop_mtu > 0).then_some((*next_hop_mtu).into()))
        }
        DestUnreachableHeader::Port => Why::Port,
        DestUnreachableHeader::NetworkProhibited
        | DestUnreachableHeader::HostProhibited
        | DestUnreachableHeader::FilterProhibited => Why::Prohibited,
        _ => Why::Unreachable,
    }
}

/// What the first bytes behind a quoted IP header are of; `requests` are the types of requests.
fn about(protocol: IpNumber, requests: &[u8], bytes: &[u8]) -> Option<About> {
    let word = |at: usize| {
        let two = bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    };
    match protocol {
        IpNumber::UDP => Some(About::Datagram(word(0)?, word(2)?)),
        IpNumber::ICMP | IpNumber::IPV6_ICMP if requests.contains(bytes.first()?) => {
            Some(About::Request(word(4)?, word(6)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const US: [u8; 4] = [10, 0, 0, 1];
    const PEER: [u8; 4] = [10, 0, 0, 2];

    fn packet(from: [u8; 4], kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from, US, 64).icmpv4(kind);
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn a_request_makes_a_packet_of_its_length() {
        for (family, header) in [(Family::V4, 20), (Family::V6, 40)] {
            assert_eq!(echo(family, 1, 2, 1450).len() + header, 1450);
            assert_eq!(echo(family, 1, 2, 0).len(), ECHO_HEADER);
        }
        assert_eq!(timestamp(1, 2, 84).len() + 20, 84);
        assert_eq!(timestamp(1, 2, 0).len(), TimestampMessage::LEN);
        // What the checksum is made of sums to all ones with it.
        let message = echo(Family::V4, 0x1234, 7, 84);
        let words = message
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn answers_are_known_by_their_numbers() {
        let echo = IcmpEchoHeader { id: 5, seq: 6 };
        let heard = hear(
            Family::V4,
            PEER.into(),
            &packet(PEER, Icmpv4Type::EchoReply(echo), &[]),
        );
        let expected = Heard {
            to: PEER.into(),
            about: About::Request(5, 6),
            refusal: None,
        };
        assert_eq!(heard, Some(expected));
        let request = packet(PEER, Icmpv4Type::EchoRequest(echo), &[]);
        assert_eq!(hear(Family::V4, PEER.into(), &request), None);
    }

    #[test]
    fn refusals_say_who_why_and_what_of() {
        let sent = |protocol: u8| {
            let mut sent = Vec::new();
            let builder = PacketBuilder::ipv4(US, PEER, 64);
            match protocol {
                1 => builder.icmpv4_echo_request(5, 6).write(&mut sent, &[]),
                _ => builder.udp(1000, 8472).write(&mut sent, &[]),
            }
            .unwrap();
            sent
        };
        for (code, why) in [
            (
                DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
                Why::TooLong(Some(1400)),
            ),
            (
                DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 0 },
                Why::TooLong(None),
            ),
            (DestUnreachableHeader::Port, Why::Port),
            (DestUnreachableHeader::HostProhibited, Why::Prohibited),
            (DestUnreachableHeader::Host, Why::Unreachable),
        ] {
            for (protocol, about) in [(1, About::Request(5, 6)), (17, About::Datagram(1000, 8472))]
            {
                let kind = Icmpv4Type::DestinationUnreachable(code.clone());
                let router = [10, 0, 0, 9];
                let text = packet(router, kind, &sent(protocol));
                let heard = hear(Family::V4, router.into(), &text).unwrap();
                assert_eq!((heard.to, heard.about), (PEER.into(), about));
                let from = router.into();
                assert_eq!(heard.refusal, Some(Refusal { from, why }));
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_of_others_is_nothing() {
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
        let mut sent = Vec::new();
        let builder = PacketBuilder::ipv4(US, PEER, 64).udp(1, 2);
        builder.write(&mut sent, &[]).unwrap();
        let whole = packet(PEER, kind, &sent);
        for len in 0..whole.len() {
            let heard = hear(Family::V4, PEER.into(), &whole[..len]);
            assert!(heard.is_none() || len >= 20 + 8 + 20 + 4, "{len}");
        }
        for len in 0..60 {
            assert_eq!(hear(Family::V6, PEER.into(), &vec![1; len]), None);
        }
    }
}
