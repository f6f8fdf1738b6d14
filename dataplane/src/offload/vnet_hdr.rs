//! `virtio_net_hdr`: what precedes every packet read from or written to the TUN.
//!
//! Fields are in native byte order (a TUN device is a legacy virtio device unless told
//! otherwise); the two tunnel offsets are little-endian by definition. Layouts are those of
//! Linux's `include/uapi/linux/virtio_net.h`.

/// `flags`: the transport checksum is partial and starts at `csum_start`.
pub const F_NEEDS_CSUM: u8 = 1;
/// `flags`: the transport checksum has been verified (reads only; ignored on writes).
pub const F_DATA_VALID: u8 = 2;
/// `flags`: the outer UDP checksum of a tunnel super-packet is wanted too.
pub const F_UDP_TUNNEL_CSUM: u8 = 8;

/// `gso_type`: not a super-packet.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: one UDP datagram to be cut into IP fragments (UFO).
pub const GSO_UDP: u8 = 3;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP datagrams over IPv4 or IPv6 (USO).
pub const GSO_UDP_L4: u8 = 5;
/// `gso_type` bit: AccECN, so CWR stays on every segment.
pub const GSO_ACCECN: u8 = 0x10;
/// `gso_type` bit: the super-packet travels in a UDP tunnel over IPv4.
pub const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
/// `gso_type` bit: the super-packet travels in a UDP tunnel over IPv6.
pub const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;
/// `gso_type` bit: CWR is set and belongs to the first segment only.
pub const GSO_ECN: u8 = 0x80;

/// Where in a TCP header the checksum lies.
pub const TCP_CSUM_OFFSET: u16 = 16;
/// Where in a UDP header the checksum lies.
pub const UDP_CSUM_OFFSET: u16 = 6;

/// Which form of the header a device uses (`TUNSETVNETHDRSZ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `struct virtio_net_hdr`, 10 bytes.
    Legacy,
    /// `struct virtio_net_hdr_v1`, 12 bytes: adds `num_buffers`.
    V1,
    /// `struct virtio_net_hdr_v1_hash_tunnel`, 24 bytes: adds a hash and tunnel offsets.
    TunnelGso,
}

impl Layout {
    /// Length in bytes: 10, 12 or 24.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of a header that is never empty"
    )]
    pub const fn len(self) -> usize {
        match self {
            Layout::Legacy => 10,
            Layout::V1 => 12,
            Layout::TunnelGso => 24,
        }
    }
}

/// Fewer bytes than the layout takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} bytes cannot hold a virtio_net_hdr of {need}")]
pub struct Truncated {
    /// Bytes there were.
    pub have: usize,
    /// Bytes the layout takes.
    pub need: usize,
}

/// The fields that all layouts share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    /// `F_*` bits.
    pub flags: u8,
    /// One of `GSO_*`, with the ECN and tunnel bits.
    pub gso_type: u8,
    /// Bytes of headers. A hint only: on forwarded packets the kernel puts the length of
    /// its linear area here.
    pub hdr_len: u16,
    /// Payload bytes of every segment but the last.
    pub gso_size: u16,
    /// Where the partial checksum starts, from the start of the packet.
    pub csum_start: u16,
    /// Where the checksum field lies, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// Read the header at the start of `bytes`.
    #[inline]
    pub fn decode(bytes: &[u8], layout: Layout) -> Result<VnetHdr, Truncated> {
        let Some(head) = bytes
            .get(..layout.len())
            .and_then(<[u8]>::first_chunk::<10>)
        else {
            return Err(Truncated {
                have: bytes.len(),
                need: layout.len(),
            });
        };
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *head;
        Ok(VnetHdr {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// Write the header to the start of `bytes`; fields that only the longer layouts have
    /// become zero.
    pub fn encode(&self, bytes: &mut [u8], layout: Layout) -> Result<(), Truncated> {
        let have = bytes.len();
        let need = layout.len();
        let truncated = Truncated { have, need };
        let header = bytes.get_mut(..need).ok_or(truncated)?;
        let (head, rest) = header.split_first_chunk_mut::<10>().ok_or(truncated)?;
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        *head = [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1];
        rest.fill(0);
        Ok(())
    }

    /// `gso_type` without its ECN bits.
    pub fn gso(&self) -> u8 {
        self.gso_type & !(GSO_ECN | GSO_ACCECN)
    }

    /// Whether the transport checksum is partial.
    pub fn needs_csum(&self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }
}

/// The 24-byte form: one super-packet inside a UDP tunnel (Linux 6.17 and later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelGsoHdr {
    /// The shared fields; `csum_start` is that of the inner transport header.
    pub vnet: VnetHdr,
    /// Where the outer UDP header starts, from the start of the frame.
    pub outer_th_offset: u16,
    /// Where the inner IP header starts, from the start of the frame.
    pub inner_nh_offset: u16,
}

impl TunnelGsoHdr {
    /// Read the header at the start of `bytes`; the hash is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<TunnelGsoHdr, Truncated> {
        let vnet = VnetHdr::decode(bytes, Layout::TunnelGso)?;
        let at = |i| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
        Ok(TunnelGsoHdr {
            vnet,
            outer_th_offset: at(20),
            inner_nh_offset: at(22),
        })
    }

    /// Write the header to the start of `bytes`, without a hash.
    pub fn encode(&self, bytes: &mut [u8]) -> Result<(), Truncated> {
        self.vnet.encode(bytes, Layout::TunnelGso)?;
        bytes[20..22].copy_from_slice(&self.outer_th_offset.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.inner_nh_offset.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USO: VnetHdr = VnetHdr {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: 28,
        gso_size: 1400,
        csum_start: 20,
        csum_offset: UDP_CSUM_OFFSET,
    };

    #[test]
    #[cfg(target_endian = "little")]
    fn bytes_of_a_kernel_header() {
        let bytes = [1, 5, 28, 0, 0x78, 0x05, 20, 0, 6, 0];
        assert_eq!(VnetHdr::decode(&bytes, Layout::Legacy), Ok(USO));
        let mut out = [0xaa; 12];
        USO.encode(&mut out, Layout::V1).unwrap();
        assert_eq!(out[..10], bytes);
        assert_eq!(out[10..], [0, 0], "num_buffers");
    }

    #[test]
    fn every_layout_refuses_fewer_bytes_than_it_takes() {
        for layout in [Layout::Legacy, Layout::V1, Layout::TunnelGso] {
            let need = layout.len();
            let mut bytes = vec![0; need - 1];
            let err = Truncated {
                have: need - 1,
                need,
            };
            assert_eq!(VnetHdr::decode(&bytes, layout), Err(err));
            assert_eq!(USO.encode(&mut bytes, layout), Err(err));
        }
        assert!(TunnelGsoHdr::decode(&[0; 23]).is_err());
    }

    #[test]
    fn tunnel_offsets_are_little_endian_and_the_hash_is_zero() {
        let tunnel = TunnelGsoHdr {
            vnet: USO,
            outer_th_offset: 0x0122,
            inner_nh_offset: 0x0344,
        };
        let mut bytes = [0xff; 24];
        tunnel.encode(&mut bytes).unwrap();
        assert_eq!(bytes[10..20], [0; 10]);
        assert_eq!(bytes[20..], [0x22, 0x01, 0x44, 0x03]);
        assert_eq!(TunnelGsoHdr::decode(&bytes), Ok(tunnel));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            (flags, gso_type) in any::<(u8, u8)>(),
            (hdr_len, gso_size, csum_start, csum_offset) in any::<(u16, u16, u16, u16)>(),
        ) {
            let hdr = VnetHdr { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset };
            for layout in [Layout::Legacy, Layout::V1, Layout::TunnelGso] {
                let mut bytes = [0xff; 24];
                hdr.encode(&mut bytes, layout).unwrap();
                prop_assert_eq!(VnetHdr::decode(&bytes, layout), Ok(hdr));
                prop_assert!(bytes[layout.len()..].iter().all(|&b| b == 0xff));
            }
        }
    }
}
