//! What one received datagram holds.
//!
//! A UDP socket with `UDP_GRO` hands up three shapes. A plain frame; a train of frames
//! whose stride is in the control message; and, on virtual links, one frame whose inner
//! packet is a super-packet that nobody has segmented yet. The last comes without a
//! control message for inner TCP, and for inner UDP with one that states the *inner*
//! segment size: splitting by it would yield garbage. Only the inner IP length tells.

use crate::wire::frame::Wire;
use std::ops::Range;

/// The shapes of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One frame with one segment.
    Single,
    /// Frames of `stride` bytes, the last one at most that.
    Train {
        /// Length in bytes of every frame but the last.
        stride: usize,
    },
    /// One frame with a super-packet.
    Super {
        /// Payload bytes of each segment, where the kernel said so (inner UDP).
        gso_size: Option<u16>,
    },
}

/// Tell which shape `payload`, the whole UDP payload, has.
///
/// `gro_size` is the value of the `UDP_GRO` control message if there was one, `mtu` the
/// tunnel's MTU in bytes of inner IP packet.
pub fn shape(wire: Wire, payload: &[u8], gro_size: Option<u16>, mtu: usize) -> Shape {
    let inner = payload.get(wire.header_len()..).and_then(inner_len);
    let spans = inner.is_some_and(|len| wire.header_len() + len == payload.len());
    let larger = inner.is_some_and(|len| len > mtu);
    let stride = gro_size.filter(|&size| size != 0 && usize::from(size) < payload.len());
    match stride {
        Some(size) if spans => Shape::Super {
            gso_size: Some(size),
        },
        Some(size) => Shape::Train {
            stride: usize::from(size),
        },
        None if spans && larger => Shape::Super { gso_size: None },
        None => Shape::Single,
    }
}

/// The byte ranges of the frames of a train of `len` bytes; of a zero `stride`, one range.
/// An empty datagram is one empty frame, so that it is dropped and counted as such.
pub fn frames(len: usize, stride: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let stride = if stride == 0 { len.max(1) } else { stride };
    (0..len.div_ceil(stride).max(1)).map(move |i| i * stride..len.min((i + 1) * stride))
}

/// Length in bytes that an IP header claims.
fn inner_len(ip: &[u8]) -> Option<usize> {
    match ip.first()? >> 4 {
        4 => Some(usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]))),
        6 => Some(40 + usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: usize = 1450;

    fn shape(payload: &[u8], gro_size: Option<u16>, mtu: usize) -> Shape {
        super::shape(Wire::Vxlan, payload, gro_size, mtu)
    }

    fn v4(inner: usize, buffer: usize) -> Vec<u8> {
        let mut bytes = vec![0; buffer];
        bytes[22] = 0x45;
        bytes[24..26].copy_from_slice(&(inner as u16).to_be_bytes());
        bytes
    }

    fn v6(inner: usize, buffer: usize) -> Vec<u8> {
        let mut bytes = vec![0; buffer];
        bytes[22] = 0x60;
        bytes[26..28].copy_from_slice(&((inner - 40) as u16).to_be_bytes());
        bytes
    }

    #[test]
    fn plain_frames() {
        assert_eq!(shape(&v4(1450, 1472), None, MTU), Shape::Single);
        assert_eq!(shape(&v6(1450, 1472), None, MTU), Shape::Single);
        assert_eq!(shape(&v4(84, 106), None, MTU), Shape::Single);
        assert_eq!(shape(&[], None, MTU), Shape::Single);
        assert_eq!(shape(&[0; 22], Some(5), MTU), Shape::Train { stride: 5 });
    }

    #[test]
    fn a_control_message_that_covers_everything_is_a_plain_frame() {
        assert_eq!(shape(&v4(1450, 1472), Some(1472), MTU), Shape::Single);
        assert_eq!(shape(&v4(1450, 1472), Some(0), MTU), Shape::Single);
    }

    #[test]
    fn a_train_is_split_by_its_stride() {
        let train = v4(1450, 14_620);
        assert_eq!(
            shape(&train, Some(1472), MTU),
            Shape::Train { stride: 1472 }
        );
        let ranges: Vec<_> = frames(14_620, 1472).collect();
        assert_eq!(ranges.len(), 10);
        assert_eq!(ranges[0], 0..1472);
        assert_eq!(ranges[9], 13_248..14_620);
    }

    #[test]
    fn inner_tcp_super_packet_without_control_message() {
        // As seen from a kernel VXLAN peer over veth: one datagram of 63,062 bytes.
        let datagram = v4(63_040, 63_062);
        assert_eq!(shape(&datagram, None, MTU), Shape::Super { gso_size: None });
        let datagram = v6(63_040, 63_062);
        assert_eq!(shape(&datagram, None, MTU), Shape::Super { gso_size: None });
    }

    #[test]
    fn inner_udp_super_packet_carries_the_inner_size() {
        // 13,050 bytes of payload in segments of 1,300: the stride would be garbage.
        let datagram = v4(13_078, 13_100);
        let shape = shape(&datagram, Some(1300), MTU);
        assert_eq!(
            shape,
            Shape::Super {
                gso_size: Some(1300)
            }
        );
    }

    #[test]
    fn a_small_inner_udp_super_packet_is_recognised_below_the_mtu() {
        let datagram = v4(228, 250);
        assert_eq!(
            shape(&datagram, Some(100), MTU),
            Shape::Super {
                gso_size: Some(100)
            }
        );
    }

    #[test]
    fn without_a_header_the_shapes_are_the_same() {
        let of = |inner: usize, buffer: usize, gro_size: Option<u16>| {
            let payload = &v4(inner, 22 + buffer)[22..];
            super::shape(Wire::Ip, payload, gro_size, 1472)
        };
        assert_eq!(of(1472, 1472, None), Shape::Single);
        assert_eq!(of(84, 90, None), Shape::Single);
        let train = Shape::Train { stride: 1472 };
        assert_eq!(of(1472, 14_620, Some(1472)), train);
        let whole = |gso_size| Shape::Super { gso_size };
        assert_eq!(of(63_040, 63_040, None), whole(None));
        assert_eq!(of(13_078, 13_078, Some(1300)), whole(Some(1300)));
        assert_eq!(super::shape(Wire::Ip, &[], None, MTU), Shape::Single);
    }

    #[test]
    fn an_inner_length_that_does_not_span_the_buffer_is_no_super_packet() {
        assert_eq!(shape(&v4(63_040, 1472), None, MTU), Shape::Single);
        assert_eq!(shape(&v4(1450, 63_062), None, MTU), Shape::Single);
    }

    #[test]
    fn frames_of_every_length_and_stride_cover_the_buffer() {
        assert!(frames(0, 0).eq(std::iter::once(0..0)));
        for len in 1..40 {
            for stride in 0..40 {
                let mut end = 0;
                for range in frames(len, stride) {
                    assert_eq!(range.start, end);
                    assert!(!range.is_empty());
                    end = range.end;
                }
                assert_eq!(end, len);
            }
        }
    }
}
