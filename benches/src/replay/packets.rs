//! Packets as pods hand them to the TUN.

use super::TunRead;
use std::net::{Ipv4Addr, Ipv6Addr};
use weft_dataplane::offload::vnet_hdr::{self, VnetHdr};
use weft_dataplane::wire::checksum::{pseudo_v4, pseudo_v6};
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::wire::ipv4;

const SRC_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const DST_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
const SRC_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x244, 0, 1, 0, 0, 0, 2);
const DST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 2);

/// Two NOPs and timestamps: what nearly all TCP segments carry.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];

/// A packet to be made.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// UDP instead of TCP with timestamps.
    pub udp: bool,
    /// Source port, to tell flows apart.
    pub port: u16,
    /// Payload in bytes.
    pub payload: usize,
    /// Payload of each segment in bytes; 0 for a packet that is one segment.
    pub gso_size: u16,
}

impl Spec {
    /// A TCP super-packet over IPv4 as long as one can be, in segments that fill the MTU.
    pub fn tcp_super() -> Spec {
        Spec {
            v6: false,
            udp: false,
            port: 40_000,
            payload: 65_535 - 52,
            gso_size: 1398,
        }
    }

    /// As [`Spec::tcp_super`] over IPv6.
    pub fn tcp_super_v6() -> Spec {
        Spec {
            v6: true,
            payload: 65_535 - 72,
            gso_size: 1378,
            ..Spec::tcp_super()
        }
    }

    /// A UDP datagram of `payload` bytes over IPv4.
    pub fn udp(payload: usize) -> Spec {
        Spec {
            v6: false,
            udp: true,
            port: 40_000,
            payload,
            gso_size: 0,
        }
    }

    /// The packet with its partial checksum, as read from the TUN.
    pub fn build(&self) -> TunRead {
        let l4 = self.l4_header();
        let mut ip = self.ip_header((l4.len() + self.payload) as u16);
        let csum_start = ip.len() as u16;
        ip.extend(l4);
        ip.extend((0..self.payload).map(|i| (i * 7 + i / 256) as u8));
        let gso_type = match (self.gso_size, self.udp, self.v6) {
            (0, ..) => vnet_hdr::GSO_NONE,
            (_, true, _) => vnet_hdr::GSO_UDP_L4,
            (_, false, false) => vnet_hdr::GSO_TCPV4,
            (_, false, true) => vnet_hdr::GSO_TCPV6,
        };
        let csum_offset = match self.udp {
            true => vnet_hdr::UDP_CSUM_OFFSET,
            false => vnet_hdr::TCP_CSUM_OFFSET,
        };
        let offload = VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM,
            gso_type,
            hdr_len: (ip.len() - self.payload) as u16,
            gso_size: self.gso_size,
            csum_start,
            csum_offset,
        };
        TunRead { offload, ip }
    }

    fn protocol(&self) -> u8 {
        match self.udp {
            true => protocol::UDP,
            false => protocol::TCP,
        }
    }

    fn ip_header(&self, payload: u16) -> Vec<u8> {
        let mut header = Vec::with_capacity(40 + usize::from(payload));
        if self.v6 {
            header.extend([0x60, 0, 0, 0]);
            header.extend(payload.to_be_bytes());
            header.extend([self.protocol(), 63]);
            header.extend(SRC_V6.octets());
            header.extend(DST_V6.octets());
            return header;
        }
        header.extend([0x45, 0]);
        header.extend((20 + payload).to_be_bytes());
        header.extend([0, 7, 0x40, 0, 63, self.protocol(), 0, 0]);
        header.extend(SRC_V4.octets());
        header.extend(DST_V4.octets());
        if let Ok(mut packet) = ipv4::Packet::header_only(&mut header[..]) {
            packet.fill_checksum();
        }
        header
    }

    fn l4_header(&self) -> Vec<u8> {
        let header_len = if self.udp { 8 } else { 32 };
        let len = (header_len + self.payload) as u32;
        let seed = match self.v6 {
            true => pseudo_v6(SRC_V6, DST_V6, self.protocol(), len),
            false => pseudo_v4(SRC_V4, DST_V4, self.protocol(), len),
        };
        let seed = seed.fold().to_be_bytes();
        let mut header = Vec::new();
        header.extend(self.port.to_be_bytes());
        header.extend(5201u16.to_be_bytes());
        if self.udp {
            header.extend((len as u16).to_be_bytes());
            header.extend(seed);
            return header;
        }
        // Sequence and acknowledgment number, data offset 8 with ACK, window.
        header.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 0x80, 0x10, 0x20, 0]);
        header.extend(seed);
        header.extend([0, 0]);
        header.extend(TIMESTAMPS);
        header
    }
}
