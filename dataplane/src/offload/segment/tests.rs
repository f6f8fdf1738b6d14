use super::*;
use crate::offload::testing::{self, ACK, CWR, ECE, FIN, PSH, Spec, assert_valid, super_packets};
use proptest::prelude::*;

fn cut(hdr: &VnetHdr, ip: &[u8]) -> Vec<Vec<u8>> {
    let mut segmenter = Segmenter::new(hdr, ip).unwrap();
    let mut segments = Vec::new();
    let mut left = segmenter.remaining();
    while let Some(len) = segmenter.next_len() {
        let mut slot = [0xaa; MAX_HEADER_LEN];
        let range = segmenter.segment(ip, &mut slot).unwrap();
        let mut bytes = slot[..segmenter.header_len()].to_vec();
        bytes.extend(&ip[range]);
        assert_eq!(bytes.len(), len);
        assert!(slot[segmenter.header_len()..].iter().all(|&b| b == 0xaa));
        left -= 1;
        assert_eq!(segmenter.remaining(), left);
        segments.push(bytes);
    }
    assert!(segmenter.is_done());
    assert_eq!(segmenter.segment(ip, &mut [0; MAX_HEADER_LEN]), None);
    segments
}

fn assert_cuts_into_expected(spec: &Spec, gso: usize) {
    let segments = cut(&spec.vnet_hdr(gso as u16), &spec.build_partial());
    let expected: Vec<_> = spec.segments(gso).iter().map(Spec::build).collect();
    assert_eq!(segments, expected);
    segments.iter().for_each(|segment| assert_valid(segment));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn segments_are_what_a_sender_would_have_sent((spec, gso) in super_packets()) {
        assert_cuts_into_expected(&spec, gso);
    }

    #[test]
    fn malformed_input_is_refused_or_cut_but_never_panics(
        (spec, gso) in super_packets(),
        hdr in any::<[u8; 10]>(),
        damage in prop::collection::vec((0usize..80, any::<u8>()), 0..6),
        keep_hdr: bool,
        len in 0usize..4000,
    ) {
        let mut ip = spec.build_partial();
        for (at, value) in damage {
            if let Some(byte) = ip.get_mut(at) {
                *byte = value;
            }
        }
        ip.truncate(len);
        let hdr = match keep_hdr {
            true => spec.vnet_hdr(gso as u16),
            false => VnetHdr::decode(&hdr, vnet_hdr::Layout::Legacy).unwrap(),
        };
        if Segmenter::new(&hdr, &ip).is_ok() {
            let payload: usize = cut(&hdr, &ip).len();
            prop_assert!(payload > 0);
        }
        let _ = finish_checksum(&hdr, &mut ip);
    }

    #[test]
    fn partial_checksums_are_completed((spec, _) in super_packets()) {
        let mut bytes = spec.build_partial();
        let hdr = VnetHdr { gso_type: vnet_hdr::GSO_NONE, gso_size: 0, ..spec.vnet_hdr(1) };
        finish_checksum(&hdr, &mut bytes).unwrap();
        let mut expected = spec.build();
        let field = spec.l4_offset() + spec.csum_offset();
        if expected[field..field + 2] == [0, 0] {
            // As `skb_checksum_help`, for TCP as well.
            expected[field..field + 2].fill(0xff);
        }
        prop_assert_eq!(bytes, expected);
    }
}

#[test]
fn flags_go_where_the_kernel_puts_them() {
    let spec = Spec {
        flags: ACK | FIN | PSH | CWR | ECE,
        ..Spec::tcp4(3000)
    };
    let flags = |hdr| -> Vec<u8> {
        let segments = cut(&hdr, &spec.build_partial());
        segments.iter().map(|bytes| bytes[33]).collect()
    };
    let hdr = spec.vnet_hdr(1000);
    let (first, middle, last) = (ACK | CWR | ECE, ACK | ECE, ACK | ECE | FIN | PSH);
    assert_eq!(flags(hdr), [first, middle, last]);
    let ecn = VnetHdr {
        gso_type: hdr.gso_type | vnet_hdr::GSO_ECN,
        ..hdr
    };
    assert_eq!(flags(ecn), [first, middle, last]);
    let accurate = VnetHdr {
        gso_type: hdr.gso_type | vnet_hdr::GSO_ACCECN,
        ..hdr
    };
    assert_eq!(flags(accurate), [first, middle | CWR, last | CWR]);
}

#[test]
fn headers_of_every_length() {
    for extension in [0, 1, 3, 17] {
        let spec = Spec {
            extension,
            ..Spec::tcp6(3000)
        };
        assert_cuts_into_expected(&spec, 1000);
    }
    let longest = Spec {
        ip_options: vec![1; 40],
        options: vec![1; 40],
        ..Spec::tcp4(3000)
    };
    assert_eq!(longest.header_len(), 120);
    assert_cuts_into_expected(&longest, 999);
}

#[test]
fn sequence_number_and_identification_wrap() {
    let spec = Spec {
        seq: u32::MAX - 500,
        ident: u16::MAX,
        df: false,
        ..Spec::tcp4(2500)
    };
    assert_cuts_into_expected(&spec, 1000);
}

#[test]
fn the_largest_super_packets() {
    for spec in Spec::all(0) {
        let payload = 65_535 - spec.header_len();
        let spec = Spec {
            payload: Spec::tcp4(payload).payload,
            ..spec
        };
        assert_cuts_into_expected(&spec, 1398);
        assert_cuts_into_expected(&spec, 512);
    }
}

#[test]
fn at_most_128_udp_segments() {
    assert_cuts_into_expected(&Spec::udp4(128 * 100), 100);
    let spec = Spec::udp4(128 * 100 + 1);
    let err = Segmenter::new(&spec.vnet_hdr(100), &spec.build_partial()).unwrap_err();
    assert_eq!(err, SegmentError::TooMany);
    assert_cuts_into_expected(&Spec::tcp4(128 * 100 + 1), 100);
}

#[test]
fn a_super_packet_that_fits_one_segment_stays_whole() {
    assert_cuts_into_expected(&Spec::tcp4(1000), 1000);
    assert_cuts_into_expected(&Spec::udp6(1), 1400);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones() {
    // Find payloads whose checksum comes out as zero by solving for their first word.
    let mut spec = Spec::udp4(64);
    spec.payload[..2].fill(0);
    let checksum = testing::naive_sum(&spec.build_partial()[20..]);
    spec.payload[..2].copy_from_slice(&(!checksum).to_be_bytes());
    let hdr = spec.vnet_hdr(64);
    assert_eq!(cut(&hdr, &spec.build_partial())[0][26..28], [0xff, 0xff]);

    let mut bytes = spec.build_partial();
    let hdr = VnetHdr {
        gso_type: vnet_hdr::GSO_NONE,
        ..hdr
    };
    finish_checksum(&hdr, &mut bytes).unwrap();
    assert_eq!(bytes[26..28], [0xff, 0xff]);
}

#[test]
fn hdr_len_is_not_trusted() {
    let spec = Spec::tcp4(5000);
    for hdr_len in [0, 1, 5040, u16::MAX] {
        let hdr = VnetHdr {
            hdr_len,
            ..spec.vnet_hdr(1000)
        };
        assert_eq!(cut(&hdr, &spec.build_partial()).len(), 5);
    }
}

#[test]
fn tcp_without_a_partial_checksum_gets_a_fresh_one() {
    // The kernel does the same; UDP without one it refuses.
    let spec = Spec::tcp6(5000);
    let hdr = VnetHdr {
        flags: 0,
        csum_start: 0,
        csum_offset: 0,
        ..spec.vnet_hdr(1000)
    };
    let mut bytes = spec.build_partial();
    bytes[56..58].fill(0x5a);
    let expected: Vec<_> = spec.segments(1000).iter().map(Spec::build).collect();
    assert_eq!(cut(&hdr, &bytes), expected);

    let spec = Spec::udp4(5000);
    let hdr = VnetHdr {
        flags: 0,
        ..spec.vnet_hdr(1000)
    };
    let err = Segmenter::new(&hdr, &spec.build_partial()).unwrap_err();
    assert_eq!(err, SegmentError::Checksum);
}

fn refusal(
    spec: &Spec,
    change_hdr: impl Fn(&mut VnetHdr),
    change: impl Fn(&mut Vec<u8>),
) -> SegmentError {
    let mut hdr = spec.vnet_hdr(1000);
    let mut bytes = spec.build_partial();
    change_hdr(&mut hdr);
    change(&mut bytes);
    Segmenter::new(&hdr, &bytes).unwrap_err()
}

#[test]
fn contradictions_are_refused_by_name() {
    use SegmentError::*;
    let (tcp4, tcp6, udp4) = (Spec::tcp4(3000), Spec::tcp6(3000), Spec::udp4(3000));
    let keep = |_: &mut Vec<u8>| {};
    let same = |_: &mut VnetHdr| {};

    assert_eq!(refusal(&tcp4, |h| h.gso_type = 0, keep), NotSuper);
    assert_eq!(refusal(&tcp4, |h| h.gso_type = 3, keep), UnknownType(3));
    assert_eq!(
        refusal(&tcp4, |h| h.gso_type = 0x21, keep),
        UnknownType(0x21)
    );
    assert_eq!(
        refusal(&udp4, |h| h.gso_type = 0x85, keep),
        UnknownType(0x85)
    );
    assert_eq!(refusal(&tcp4, |h| h.gso_size = 0, keep), ZeroSize);
    assert_eq!(refusal(&tcp4, |h| h.gso_type = 4, keep), WrongProtocol);
    assert_eq!(refusal(&tcp6, |h| h.gso_type = 1, keep), WrongProtocol);
    assert_eq!(refusal(&tcp4, |h| h.gso_type = 5, keep), WrongProtocol);
    assert_eq!(refusal(&tcp4, |h| h.csum_start = 22, keep), Checksum);
    assert_eq!(refusal(&tcp4, |h| h.csum_offset = 6, keep), Checksum);
    assert_eq!(refusal(&tcp4, |h| h.csum_start = u16::MAX, keep), Checksum);

    assert_eq!(refusal(&tcp4, same, |b| b.push(0)), Length);
    assert_eq!(refusal(&tcp4, same, |b| b[6] = 0x20), Fragment);
    assert_eq!(refusal(&tcp4, same, |b| b[7] = 1), Fragment);
    assert_eq!(refusal(&udp4, same, |b| b[24] ^= 1), Length);
    assert_eq!(
        refusal(&tcp4, same, |b| b[0] = 0x44),
        Malformed(crate::wire::Malformed::HeaderLength)
    );
    assert_eq!(
        refusal(&tcp4, same, |b| b[32] = 0x40),
        Malformed(crate::wire::Malformed::HeaderLength)
    );
    assert_eq!(
        refusal(&tcp4, same, |b| b.truncate(3)),
        Malformed(crate::wire::Malformed::Truncated)
    );
    assert_eq!(refusal(&tcp6, same, |b| b[6] = 44), Fragment);
    assert_eq!(refusal(&Spec::tcp4(0), same, keep), Length);

    let extended = Spec {
        extension: 40,
        ..tcp6
    };
    assert_eq!(refusal(&extended, same, keep), HeaderTooLong);
}

#[test]
fn checksum_fields_outside_the_packet_are_refused() {
    let spec = Spec::udp4(100);
    let len = spec.build().len();
    for (start, offset) in [
        (0, 6),
        (19, 6),
        (len, 0),
        (len - 1, 0),
        (20, len - 21),
        (20, 7),
        (20, 65_535),
    ] {
        let hdr = VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM,
            csum_start: start as u16,
            csum_offset: offset as u16,
            ..VnetHdr::default()
        };
        let mut bytes = spec.build_partial();
        assert_eq!(
            finish_checksum(&hdr, &mut bytes),
            Err(SegmentError::Checksum)
        );
        assert_eq!(bytes, spec.build_partial());
    }
}

#[test]
fn a_packet_that_asks_for_nothing_is_left_alone() {
    let mut bytes = Spec::udp4(100).build_partial();
    let before = bytes.clone();
    finish_checksum(&VnetHdr::default(), &mut bytes).unwrap();
    assert_eq!(bytes, before);
}

#[test]
fn a_short_slot_or_another_buffer_advances_nothing() {
    let spec = Spec::tcp4(3000);
    let ip = spec.build_partial();
    let mut segmenter = Segmenter::new(&spec.vnet_hdr(1000), &ip).unwrap();
    assert_eq!(segmenter.segment(&ip, &mut [0; 39]), None);
    assert_eq!(segmenter.segment(&ip[..100], &mut [0; 40]), None);
    assert_eq!(segmenter.segment(&ip, &mut [0; 40]), Some(40..1040));
}

#[test]
fn tcp_can_be_cut_shorter_than_its_sender_asked() {
    for spec in [Spec::tcp4(5000), Spec::tcp6(5000)] {
        let ip = spec.build_partial();
        let header_len = spec.header_len();
        let segmenter = Segmenter::new(&spec.vnet_hdr(1398), &ip).unwrap();
        assert!(segmenter.shortened(header_len + 7).is_none());
        let segmenter = segmenter.shortened(header_len + 1000).unwrap();
        // Never longer again.
        let mut segmenter = segmenter.shortened(header_len + 2000).unwrap();
        assert_eq!(segmenter.remaining(), 5);
        for segment in spec.segments(1000) {
            let mut slot = [0; MAX_HEADER_LEN];
            let payload = segmenter.segment(&ip, &mut slot).unwrap();
            let mut bytes = slot[..header_len].to_vec();
            bytes.extend(&ip[payload]);
            assert_eq!(bytes, segment.build());
        }
        assert!(segmenter.is_done());
    }
    let spec = Spec::udp4(5000);
    let udp = Segmenter::new(&spec.vnet_hdr(1400), &spec.build_partial()).unwrap();
    assert!(udp.shortened(1000).is_none());
}
