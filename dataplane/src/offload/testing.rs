//! Packets for tests, built field by field with a checksum of their own, so that they
//! share no code with what they test.

use super::coalesce::PacketBuffers;
use super::plan::{Piece, Source};
use super::vnet_hdr::{self, VnetHdr};
use proptest::prelude::*;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// A TCP or UDP packet over either IP version.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) v6: bool,
    pub(crate) udp: bool,
    pub(crate) host: u8,
    pub(crate) ports: (u16, u16),
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) df: bool,
    pub(crate) ident: u16,
    pub(crate) label: u32,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) ip_options: Vec<u8>,
    /// IPv6: a destination options header with this many eight-byte units.
    pub(crate) extension: usize,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Spec {
    pub(crate) fn tcp4(payload: usize) -> Spec {
        Spec {
            v6: false,
            udp: false,
            host: 1,
            ports: (40_000, 5201),
            tos: 0,
            ttl: 63,
            df: true,
            ident: 7,
            label: 0,
            seq: 1000,
            ack: 77,
            flags: ACK,
            window: 502,
            ip_options: Vec::new(),
            extension: 0,
            options: Vec::new(),
            payload: (0..payload).map(|i| (i * 7 + i / 256) as u8).collect(),
        }
    }

    pub(crate) fn tcp6(payload: usize) -> Spec {
        Spec {
            v6: true,
            ..Spec::tcp4(payload)
        }
    }

    pub(crate) fn udp4(payload: usize) -> Spec {
        Spec {
            udp: true,
            ..Spec::tcp4(payload)
        }
    }

    pub(crate) fn udp6(payload: usize) -> Spec {
        Spec {
            v6: true,
            ..Spec::udp4(payload)
        }
    }

    /// All four combinations.
    pub(crate) fn all(payload: usize) -> [Spec; 4] {
        [
            Spec::tcp4(payload),
            Spec::tcp6(payload),
            Spec::udp4(payload),
            Spec::udp6(payload),
        ]
    }

    pub(crate) fn l4_offset(&self) -> usize {
        match self.v6 {
            true => 40 + 8 * self.extension,
            false => 20 + self.ip_options.len(),
        }
    }

    pub(crate) fn header_len(&self) -> usize {
        self.l4_offset() + self.l4_header_len()
    }

    fn l4_header_len(&self) -> usize {
        if self.udp { 8 } else { 20 + self.options.len() }
    }

    pub(crate) fn csum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    /// The packet with complete checksums.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut bytes = self.build_partial();
        let l4 = self.l4_offset();
        let field = l4 + self.csum_offset();
        let mut checksum = !naive_sum(&bytes[l4..]);
        if self.udp && checksum == 0 {
            checksum = 0xffff;
        }
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The packet with the folded pseudo-header sum in its checksum field.
    pub(crate) fn build_partial(&self) -> Vec<u8> {
        let l4 = self.l4_header();
        let mut bytes = self.ip_header(l4.len() + self.payload.len());
        let field = bytes.len() + self.csum_offset();
        let seed = self.seed(l4.len() + self.payload.len());
        bytes.extend(l4);
        bytes.extend(&self.payload);
        bytes[field..field + 2].copy_from_slice(&seed.to_be_bytes());
        bytes
    }

    fn ip_header(&self, l4_len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.v6 {
            let word = 6 << 28 | u32::from(self.tos) << 20 | self.label;
            bytes.extend(word.to_be_bytes());
            bytes.extend(((l4_len + 8 * self.extension) as u16).to_be_bytes());
            let next = if self.extension == 0 {
                self.protocol()
            } else {
                60
            };
            bytes.extend([next, self.ttl]);
            bytes.extend(self.addresses());
            if self.extension != 0 {
                bytes.extend([
                    self.protocol(),
                    (self.extension - 1) as u8,
                    1,
                    4,
                    0,
                    0,
                    0,
                    0,
                ]);
                for _ in 1..self.extension {
                    bytes.extend([1, 6, 0, 0, 0, 0, 0, 0]);
                }
            }
            return bytes;
        }
        let len = 20 + self.ip_options.len();
        bytes.extend([0x40 | (len / 4) as u8, self.tos]);
        bytes.extend(((len + l4_len) as u16).to_be_bytes());
        bytes.extend(self.ident.to_be_bytes());
        bytes.extend([if self.df { 0x40 } else { 0 }, 0]);
        bytes.extend([self.ttl, self.protocol(), 0, 0]);
        bytes.extend(self.addresses());
        bytes.extend(&self.ip_options);
        fix_ipv4_checksum(&mut bytes);
        bytes
    }

    fn addresses(&self) -> Vec<u8> {
        match self.v6 {
            true => {
                let mut bytes = vec![0; 32];
                bytes[..2].copy_from_slice(&[0xfd, 1]);
                bytes[16..18].copy_from_slice(&[0xfd, 2]);
                (bytes[15], bytes[31]) = (self.host, 9);
                bytes
            }
            false => vec![10, 244, 1, self.host, 10, 244, 2, 9],
        }
    }

    fn l4_header(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        if self.udp {
            bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            return bytes;
        }
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([(self.l4_header_len() / 4 * 16) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes
    }

    pub(crate) fn seed(&self, l4_len: usize) -> u16 {
        let mut pseudo = self.addresses();
        pseudo.extend((l4_len as u32).to_be_bytes());
        pseudo.extend([0, self.protocol()]);
        naive_sum(&pseudo)
    }

    /// The header with which the kernel would hand this out as a super-packet.
    pub(crate) fn vnet_hdr(&self, gso_size: u16) -> VnetHdr {
        VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM,
            gso_type: match (self.udp, self.v6) {
                (true, _) => vnet_hdr::GSO_UDP_L4,
                (false, true) => vnet_hdr::GSO_TCPV6,
                (false, false) => vnet_hdr::GSO_TCPV4,
            },
            hdr_len: self.header_len() as u16,
            gso_size,
            csum_start: self.l4_offset() as u16,
            csum_offset: self.csum_offset() as u16,
        }
    }

    /// What the segments of this super-packet must be.
    pub(crate) fn segments(&self, gso_size: usize) -> Vec<Spec> {
        let count = self.payload.len().div_ceil(gso_size);
        let chunks = self.payload.chunks(gso_size).enumerate();
        chunks
            .map(|(i, chunk)| {
                let mut flags = self.flags;
                if i + 1 != count {
                    flags &= !(FIN | PSH);
                }
                if i != 0 {
                    flags &= !CWR;
                }
                Spec {
                    ident: self.ident.wrapping_add(i as u16),
                    seq: self.seq.wrapping_add((i * gso_size) as u32),
                    flags,
                    payload: chunk.to_vec(),
                    ..self.clone()
                }
            })
            .collect()
    }
}

/// Any super-packet that both directions accept, and its segment size.
pub(crate) fn super_packets() -> impl Strategy<Value = (Spec, usize)> {
    let shape = (any::<(bool, bool, bool, bool)>(), 1usize..1500, 2usize..=64);
    let fields = any::<((u16, u16), u8, u8, u16, u32, u32, u16, u8)>();
    let options = prop::sample::select(vec![0usize, 4, 12, 40]);
    (shape, fields, options, any::<u64>(), 0.0..1.0f64).prop_map(
        |(((v6, udp, df, psh), gso, count), fields, options, fill, tail)| {
            let (ports, tos, ttl, ident, seq, ack, window, host) = fields;
            let last = 1 + (tail * (gso - 1) as f64) as usize;
            let payload = (gso * (count - 1) + last).min(65_535 - 100);
            let byte = |i: usize| (fill.rotate_left(i as u32) as usize ^ i) as u8;
            let spec = Spec {
                v6,
                udp,
                host,
                ports,
                tos,
                ttl,
                df,
                ident,
                label: seq & 0xf_ffff,
                seq,
                ack,
                flags: ACK | if psh { PSH } else { 0 },
                window,
                options: if udp { vec![] } else { vec![1; options] },
                payload: (0..payload).map(byte).collect(),
                ..Spec::tcp4(0)
            };
            (spec, gso)
        },
    )
}

/// The folded ones-complement sum of bytes, two at a time.
pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low)))
        .sum();
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Recompute the checksum of the IPv4 header at the start of `bytes`.
pub(crate) fn fix_ipv4_checksum(bytes: &mut [u8]) {
    let len = usize::from(bytes[0] & 15) * 4;
    bytes[10..12].fill(0);
    let checksum = !naive_sum(&bytes[..len]);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Parse a finished packet with an independent parser and check every length and checksum.
pub(crate) fn assert_valid(bytes: &[u8]) {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ip(bytes).expect("parses");
    let (payload, transport) = match (&packet.net, &packet.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(transport)) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.total_len), bytes.len());
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let sum = match transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv4(header.source, header.destination)
                }
                TransportSlice::Udp(udp) => udp.to_header().calc_checksum_ipv4_raw(
                    header.source,
                    header.destination,
                    udp.payload(),
                ),
                _ => panic!("neither TCP nor UDP"),
            };
            (sum.expect("short enough"), transport)
        }
        (Some(NetSlice::Ipv6(ip)), Some(transport)) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, bytes.len());
            let sum = match transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv6(header.source, header.destination)
                }
                TransportSlice::Udp(udp) => udp.to_header().calc_checksum_ipv6_raw(
                    header.source,
                    header.destination,
                    udp.payload(),
                ),
                _ => panic!("neither TCP nor UDP"),
            };
            (sum.expect("short enough"), transport)
        }
        _ => panic!("not IP with a transport header"),
    };
    match transport {
        TransportSlice::Tcp(tcp) => assert_eq!(tcp.checksum(), payload),
        TransportSlice::Udp(udp) => {
            assert_eq!(udp.checksum(), payload);
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
        }
        _ => panic!("neither TCP nor UDP"),
    }
}

/// Receive buffers on the heap.
#[derive(Default)]
pub(crate) struct Memory(pub(crate) Vec<Vec<u8>>);

impl PacketBuffers for Memory {
    fn bytes(&self, id: u16) -> &[u8] {
        &self.0[usize::from(id)]
    }

    fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        &mut self.0[usize::from(id)]
    }
}

impl Memory {
    /// The bytes of pieces, one behind the other.
    pub(crate) fn gather(&self, pieces: &[Piece], arena: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            let memory = match piece.source {
                Source::Arena => arena,
                Source::Buffer(id) => self.bytes(id),
            };
            let from = piece.offset as usize;
            bytes.extend(&memory[from..from + piece.len as usize]);
        }
        bytes
    }
}
