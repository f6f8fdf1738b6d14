//! Control messages of `sendmsg` and `recvmsg` as bytes, without pointers.
//!
//! Layout (`struct cmsghdr`): length as a native `size_t` that includes the header, level
//! and type as native `int`, then data; each message starts at a multiple of the size of
//! `size_t`.

use crate::wire::ecn::Ecn;

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

/// Room for all control messages of one send: a segment size and an ECN field.
pub const SEND_SPACE: usize = 2 * (HEADER + WORD);

/// Room for all control messages of one receive: a GRO stride, an ECN field, and one more in
/// case the kernel adds something.
pub const RECEIVE_SPACE: usize = 4 * (HEADER + WORD);

const SOL_UDP: i32 = libc::SOL_UDP;
const UDP_SEGMENT: i32 = libc::UDP_SEGMENT;
const UDP_GRO: i32 = libc::UDP_GRO;

/// Write the control messages of one send to `space`; returns their length, 0 for none.
///
/// `stride` is the segment size of a train (`None` for a single frame), `ecn` the outer ECN
/// field, left to the socket's default where it is that.
pub fn encode_send(space: &mut [u8; SEND_SPACE], stride: Option<u16>, ecn: Ecn, v6: bool) -> usize {
    let mut used = 0;
    if let Some(stride) = stride {
        used += put(
            &mut space[used..],
            SOL_UDP,
            UDP_SEGMENT,
            &stride.to_ne_bytes(),
        );
    }
    if ecn != Ecn::NotEct {
        let (level, kind) = if v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        } else {
            (libc::IPPROTO_IP, libc::IP_TOS)
        };
        used += put(
            &mut space[used..],
            level,
            kind,
            &i32::from(ecn.bits()).to_ne_bytes(),
        );
    }
    used
}

fn put(space: &mut [u8], level: i32, kind: i32, data: &[u8]) -> usize {
    let total = HEADER + data.len().next_multiple_of(WORD);
    space[..WORD].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
    space[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
    space[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
    space[HEADER..total].fill(0);
    space[HEADER..HEADER + data.len()].copy_from_slice(data);
    total
}

/// What the kernel told about one received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvMeta {
    /// Segment size of the `UDP_GRO` message: the stride of a train, or for an encapsulated
    /// UDP super-packet the inner segment size.
    pub gro_size: Option<u16>,
    /// Outer ECN field; [`Ecn::NotEct`] when not told.
    pub ecn: Ecn,
}

/// Read the control messages of one receive. All are walked; unknown, short and malformed
/// ones are passed over.
pub fn decode_receive(mut control: &[u8]) -> RecvMeta {
    let mut received = RecvMeta::default();
    while let Some((level, kind, data, rest)) = next(control) {
        match (level, kind) {
            (SOL_UDP, UDP_GRO) => received.gro_size = first_int(data),
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                received.ecn = Ecn::of_tos(*data.first().unwrap_or(&0));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                received.ecn = Ecn::of_tos(first_int(data).unwrap_or(0) as u8);
            }
            _ => {}
        }
        control = rest;
    }
    received
}

/// A native `int` that must fit 16 bits and not be 0.
fn first_int(data: &[u8]) -> Option<u16> {
    let value = i32::from_ne_bytes(*data.first_chunk()?);
    u16::try_from(value).ok().filter(|&v| v != 0)
}

fn next(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(*control.first_chunk()?);
    let level = i32::from_ne_bytes(*control.get(WORD..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(WORD + 4..)?.first_chunk()?);
    let data = control.get(HEADER..len)?;
    let rest = control.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
    Some((level, kind, data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_frame_without_ecn_needs_no_control() {
        assert_eq!(
            encode_send(&mut [0; SEND_SPACE], None, Ecn::NotEct, false),
            0
        );
    }

    #[test]
    fn both_messages_fill_the_space() {
        let mut space = [0xff; SEND_SPACE];
        assert_eq!(
            encode_send(&mut space, Some(1472), Ecn::Ect1, false),
            SEND_SPACE
        );
        let (level, kind, data, rest) = next(&space).unwrap();
        assert_eq!((level, kind, data), (17, 103, &1472u16.to_ne_bytes()[..]));
        let (level, kind, data, rest) = next(rest).unwrap();
        assert_eq!((level, kind, data), (0, 1, &1i32.to_ne_bytes()[..]));
        assert!(rest.is_empty());
    }

    #[test]
    fn gro_size_is_found_behind_other_messages() {
        let mut control = [0; 128];
        let mut used = put(
            &mut control,
            libc::SOL_SOCKET,
            libc::SO_RXQ_OVFL,
            &[9, 0, 0, 0],
        );
        used += put(&mut control[used..], 0, libc::IP_TOS, &[3]);
        used += put(
            &mut control[used..],
            SOL_UDP,
            UDP_GRO,
            &1472i32.to_ne_bytes(),
        );
        let expected = RecvMeta {
            gro_size: Some(1472),
            ecn: Ecn::Ce,
        };
        assert_eq!(decode_receive(&control[..used]), expected);
    }

    #[test]
    fn malformed_control_ends_the_walk() {
        let mut control = [0; 64];
        put(&mut control, SOL_UDP, UDP_GRO, &70_000i32.to_ne_bytes());
        assert_eq!(decode_receive(&control), RecvMeta::default());
        control[..WORD].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(decode_receive(&control), RecvMeta::default());
        control[..WORD].copy_from_slice(&3usize.to_ne_bytes());
        assert_eq!(decode_receive(&control), RecvMeta::default());
        assert_eq!(decode_receive(&control[..5]), RecvMeta::default());
    }
}
