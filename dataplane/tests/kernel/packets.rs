//! Super-packets as a sender with TSO or USO hands them to a device.

use super::forwarder::{DST_V4, DST_V6, SRC_V4, SRC_V6};
use weft_dataplane::offload::vnet_hdr::{
    F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, TCP_CSUM_OFFSET,
    UDP_CSUM_OFFSET, VnetHdr,
};
use weft_dataplane::wire::checksum::{pseudo_v4, pseudo_v6, sum};
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::wire::{ipv4, tcp};

/// 12 bytes of TCP options: two NOPs and timestamps.
pub(crate) const TIMESTAMPS: [u8; 12] =
    [1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];

/// A packet to be made.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) v6: bool,
    pub(crate) udp: bool,
    /// Payload bytes of each segment; 0 for a packet that is none.
    pub(crate) gso_size: usize,
    pub(crate) payload: Vec<u8>,
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) tcp_flags: u16,
    pub(crate) seq: u32,
    /// IPv4 only.
    pub(crate) dont_frag: bool,
    pub(crate) ident: u16,
    /// IPv4 options, or IPv6 extension headers of type 60 (destination options).
    pub(crate) ip_options: Vec<u8>,
    pub(crate) tos: u8,
}

impl Spec {
    /// A TCP super-packet with the usual options.
    pub(crate) fn tcp(v6: bool, gso_size: usize, payload: usize) -> Spec {
        Spec {
            v6,
            udp: false,
            gso_size,
            payload: noise(payload),
            tcp_options: TIMESTAMPS.to_vec(),
            tcp_flags: tcp::ACK,
            // Both wrap within the longer super-packets.
            seq: 0xffff_f000,
            ident: 0xfffe,
            dont_frag: true,
            ip_options: Vec::new(),
            tos: 0x02,
        }
    }

    /// A UDP super-packet.
    pub(crate) fn udp(v6: bool, gso_size: usize, payload: usize) -> Spec {
        Spec {
            udp: true,
            tcp_options: Vec::new(),
            tos: 0,
            ..Spec::tcp(v6, gso_size, payload)
        }
    }

    fn l4_header_len(&self) -> usize {
        if self.udp {
            8
        } else {
            20 + self.tcp_options.len()
        }
    }

    fn l4_offset(&self) -> usize {
        let fixed = if self.v6 { 40 } else { 20 };
        fixed + self.ip_options.len()
    }

    /// Payload bytes of the longest packet of 65,535 bytes.
    pub(crate) fn longest(&self) -> usize {
        65_535 - self.l4_offset() - self.l4_header_len()
    }

    /// Header and packet, the checksum partial as a sender leaves it.
    pub(crate) fn build(&self) -> (VnetHdr, Vec<u8>) {
        let packet = [self.ip_header(), self.l4_header(), self.payload.clone()].concat();
        let segments = self.gso_size != 0;
        let ecn = if !self.udp && self.tcp_flags & tcp::CWR != 0 {
            GSO_ECN
        } else {
            0
        };
        let gso_type = match (segments, self.udp, self.v6) {
            (false, ..) => GSO_NONE,
            (true, true, _) => GSO_UDP_L4,
            (true, false, false) => GSO_TCPV4 | ecn,
            (true, false, true) => GSO_TCPV6 | ecn,
        };
        let hdr = VnetHdr {
            flags: F_NEEDS_CSUM,
            gso_type,
            hdr_len: (self.l4_offset() + self.l4_header_len()) as u16,
            gso_size: self.gso_size as u16,
            csum_start: self.l4_offset() as u16,
            csum_offset: if self.udp {
                UDP_CSUM_OFFSET
            } else {
                TCP_CSUM_OFFSET
            },
        };
        (hdr, packet)
    }

    fn protocol(&self) -> u8 {
        if self.udp {
            protocol::UDP
        } else {
            protocol::TCP
        }
    }

    fn ip_header(&self) -> Vec<u8> {
        let total = self.l4_offset() + self.l4_header_len() + self.payload.len();
        if self.v6 {
            self.ipv6_header((total - 40) as u16)
        } else {
            self.ipv4_header(total as u16)
        }
    }

    fn ipv4_header(&self, total: u16) -> Vec<u8> {
        let words = self.l4_offset() / 4;
        let mut header = vec![0x40 | words as u8, self.tos];
        header.extend(total.to_be_bytes());
        header.extend(self.ident.to_be_bytes());
        header.extend([if self.dont_frag { 0x40 } else { 0 }, 0]);
        header.extend([64, self.protocol(), 0, 0]);
        header.extend(SRC_V4.octets());
        header.extend(DST_V4.octets());
        header.extend(&self.ip_options);
        ipv4::Packet::header_only(&mut header[..])
            .unwrap()
            .fill_checksum();
        header
    }

    fn ipv6_header(&self, payload: u16) -> Vec<u8> {
        let mut header = vec![0x60 | self.tos >> 4, self.tos << 4 | 0x0a, 0xbc, 0xde];
        header.extend(payload.to_be_bytes());
        let next = if self.ip_options.is_empty() {
            self.protocol()
        } else {
            60
        };
        header.extend([next, 64]);
        header.extend(SRC_V6.octets());
        header.extend(DST_V6.octets());
        header.extend(&self.ip_options);
        header
    }

    fn l4_header(&self) -> Vec<u8> {
        let len = self.l4_header_len() + self.payload.len();
        let seed = if self.v6 {
            pseudo_v6(SRC_V6, DST_V6, self.protocol(), len as u32)
        } else {
            pseudo_v4(SRC_V4, DST_V4, self.protocol(), len as u32)
        };
        let seed = seed.fold().to_be_bytes();
        let mut header = Vec::new();
        header.extend(40_000u16.to_be_bytes());
        header.extend(5_201u16.to_be_bytes());
        if self.udp {
            header.extend((len as u16).to_be_bytes());
            header.extend(seed);
            return header;
        }
        header.extend(self.seq.to_be_bytes());
        header.extend(0x0102_0304u32.to_be_bytes());
        let words = self.l4_header_len() / 4;
        header.extend(((words as u16) << 12 | self.tcp_flags).to_be_bytes());
        header.extend(0x2000u16.to_be_bytes());
        header.extend(seed);
        // Behind the first segment of those that have several.
        let urgent: u16 = if self.tcp_flags & tcp::URG != 0 {
            1_500
        } else {
            0
        };
        header.extend(urgent.to_be_bytes());
        header.extend(&self.tcp_options);
        header
    }

    /// Change two payload bytes such that the first packet of `len` bytes sums to all ones:
    /// its checksum becomes 0, which UDP must not send.
    pub(crate) fn zero_checksum(&mut self, first: &[u8]) {
        let l4 = self.l4_offset();
        let at = l4 + if self.udp { 6 } else { 16 };
        let checksum = u16::from_be_bytes([first[at], first[at + 1]]);
        let word = u16::from_be_bytes([self.payload[0], self.payload[1]]);
        let word = sum(&word.to_be_bytes()).add_u16(checksum).fold();
        self.payload[..2].copy_from_slice(&word.to_be_bytes());
    }
}

/// What a router makes of a packet before it goes on: one hop less to live.
pub(crate) fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    let mut header = ipv4::Packet::header_only(&mut packet[..]).unwrap();
    let ttl = header.ttl();
    header.set_ttl(ttl - 1);
    header.fill_checksum();
    packet
}

/// Bytes without a pattern, the same in every run.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}
