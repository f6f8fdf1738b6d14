//! What a frame begins with, before the inner IP packet.

use super::ethernet::{self, MacAddr};
use super::vxlan::{self, Vni};

/// Bytes of VXLAN header and inner Ethernet header: the most that a frame begins with.
pub const FRAME_OVERHEAD: usize = vxlan::HEADER_LEN + ethernet::HEADER_LEN;

/// The form of all frames of an overlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wire {
    /// VXLAN header and inner Ethernet header before the packet (RFC 7348).
    #[default]
    Vxlan,
    /// The packet alone, which must be IPv4: what flannel's `udp` backend sends.
    Ip,
}

impl Wire {
    /// Bytes of a frame before its packet.
    #[inline]
    pub const fn header_len(self) -> usize {
        match self {
            Wire::Vxlan => FRAME_OVERHEAD,
            Wire::Ip => 0,
        }
    }
}

/// What each frame to one peer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameHeader {
    /// VXLAN header and inner Ethernet header.
    Vxlan([u8; FRAME_OVERHEAD]),
    /// Nothing ([`Wire::Ip`]).
    Nothing,
}

impl FrameHeader {
    /// The headers of a VXLAN frame from `src` to `dst`.
    pub fn vxlan(vni: Vni, dst: MacAddr, src: MacAddr, ethertype: u16) -> FrameHeader {
        let mut header = [0; FRAME_OVERHEAD];
        if let Some((outer, rest)) = header.split_first_chunk_mut()
            && let Some(inner) = rest.first_chunk_mut()
        {
            vxlan::write(outer, vni);
            ethernet::write(inner, dst, src, ethertype);
        }
        FrameHeader::Vxlan(header)
    }

    /// The form of the frame.
    #[inline]
    pub const fn wire(&self) -> Wire {
        match self {
            FrameHeader::Vxlan(_) => Wire::Vxlan,
            FrameHeader::Nothing => Wire::Ip,
        }
    }

    /// The bytes, [`Wire::header_len`] of them.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            FrameHeader::Vxlan(bytes) => bytes,
            FrameHeader::Nothing => &[],
        }
    }

    /// Write the bytes to the end of `head`, if they fit; how many they are.
    #[inline]
    pub fn write_end(&self, head: &mut [u8]) -> usize {
        match self {
            FrameHeader::Vxlan(bytes) => {
                if let Some(slot) = head.last_chunk_mut() {
                    *slot = *bytes;
                }
                bytes.len()
            }
            FrameHeader::Nothing => 0,
        }
    }

    /// Write the bytes to the beginning of `slot`, if they fit.
    #[inline]
    pub fn write(&self, slot: &mut [u8]) {
        // Of a fixed length, the copy is a few moves instead of a call.
        if let FrameHeader::Vxlan(bytes) = self
            && let Some(slot) = slot.first_chunk_mut()
        {
            *slot = *bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::ETHERTYPE_IPV4;

    #[test]
    fn headers_have_the_length_of_their_form_and_are_written_whole() {
        let (dst, src) = (MacAddr([2; 6]), MacAddr([4; 6]));
        let vxlan = FrameHeader::vxlan(Vni::default(), dst, src, ETHERTYPE_IPV4);
        for header in [vxlan, FrameHeader::Nothing] {
            let len = header.wire().header_len();
            assert_eq!(header.as_bytes().len(), len);
            let mut slot = [0xee; FRAME_OVERHEAD + 1];
            header.write(&mut slot);
            assert_eq!(slot[..len], *header.as_bytes());
            assert!(slot[len..].iter().all(|&byte| byte == 0xee));
            slot.fill(0xee);
            assert_eq!(header.write_end(&mut slot), len);
            assert_eq!(slot[slot.len() - len..], *header.as_bytes());
            assert!(slot[..slot.len() - len].iter().all(|&byte| byte == 0xee));
        }
    }

    #[test]
    fn a_vxlan_header_reads_as_it_was_made() {
        let (dst, src) = (MacAddr([2; 6]), MacAddr([4; 6]));
        let header = FrameHeader::vxlan(Vni::MAX, dst, src, ETHERTYPE_IPV4);
        let vxlan = vxlan::Header::new(header.as_bytes()).unwrap();
        assert!(vxlan.is_valid(false));
        assert_eq!(vxlan.vni(), Vni::MAX);
        let ethernet = ethernet::Frame::new(vxlan.payload()).unwrap();
        assert_eq!((ethernet.dst(), ethernet.src()), (dst, src));
        assert_eq!(ethernet.ethertype(), ETHERTYPE_IPV4);
    }
}
