//! VXLAN frames made by hand, right in every field until a test changes one.

use std::net::Ipv4Addr;

/// What a frame says.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// First word of the VXLAN header.
    pub(crate) flags: u32,
    pub(crate) vni: u32,
    /// Last byte of the VXLAN header.
    pub(crate) reserved: u8,
    pub(crate) dst_mac: [u8; 6],
    pub(crate) src_mac: [u8; 6],
    pub(crate) ethertype: u16,
    /// First byte of the IP header: version and header length.
    pub(crate) version: u8,
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) dst_port: u16,
    /// Added to the IP header's total length.
    pub(crate) excess: i32,
    /// Bytes left of the frame.
    pub(crate) cut: Option<usize>,
}

impl Frame {
    /// A UDP datagram of four bytes from `src` to `dst`, as the peer with `src_mac` sends it.
    pub(crate) fn new(
        (src_mac, src): ([u8; 6], Ipv4Addr),
        (dst_mac, dst): ([u8; 6], Ipv4Addr),
        dst_port: u16,
    ) -> Frame {
        Frame {
            flags: 0x0800_0000,
            vni: 1,
            reserved: 0,
            dst_mac,
            src_mac,
            ethertype: 0x0800,
            version: 0x45,
            src,
            dst,
            dst_port,
            excess: 0,
            cut: None,
        }
    }

    /// The payload of the outer datagram.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend((self.vni << 8 | u32::from(self.reserved)).to_be_bytes());
        bytes.extend(self.dst_mac);
        bytes.extend(self.src_mac);
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(self.packet());
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }

    /// The IP packet alone, as the udp backend sends it.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = vec![self.version, 0];
        packet.extend(((20 + 8 + 4 + self.excess) as u16).to_be_bytes());
        packet.extend([0, 7, 0, 0, 64, 17, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        let checksum = checksum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(4_000u16.to_be_bytes());
        packet.extend(self.dst_port.to_be_bytes());
        // Length, and no checksum: what must not arrive is not to fail for that.
        packet.extend([0, 12, 0, 0]);
        packet.extend(*b"weft");
        packet
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The bytes of `aa:bb:cc:dd:ee:ff`.
pub(crate) fn mac(text: &str) -> [u8; 6] {
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}
